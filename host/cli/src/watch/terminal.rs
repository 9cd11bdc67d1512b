//! Terminal modes that are put back however the program leaves.

use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
};

use crossterm::{
    cursor, execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen},
};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Typed text is not echoed while this lives. Signals (Ctrl-C) still work.
pub(crate) struct Quiet(Option<Termios>);

impl Quiet {
    /// `by_key`: also take keys one by one, so that a half-typed line does not wait for its end.
    pub(crate) fn start(by_key: bool) -> Self {
        let stdin = io::stdin();
        let Ok(before) = tcgetattr(stdin.as_fd()) else { return Self(None) };
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        if by_key {
            quiet.local_flags.remove(LocalFlags::ICANON);
        }
        let _ = tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &quiet);
        Self(Some(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Flush: keys pressed while watching are not meant for the shell.
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSAFLUSH, before);
        }
    }
}

/// The alternate screen with a hidden cursor.
pub(super) struct Screen {
    _quiet: Quiet,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        let screen = Self { _quiet: Quiet::start(true) };
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout();
        let _ = execute!(stdout, cursor::Show, LeaveAlternateScreen);
        let _ = stdout.flush();
    }
}
