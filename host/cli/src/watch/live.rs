//! Watching for people: the run redrawn in place.
//!
//! Drawn on the alternate screen, so a resize cannot tear what was there before; the caller prints the final state on
//! the ordinary screen. Each frame goes out in one write inside a synchronized update, line over line, so nothing
//! flickers.

use std::io::{self, Write as _};

use crossterm::{
    cursor::MoveTo,
    queue,
    style::Print,
    terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate},
};
use pangolin_runtime::views::RunView;

use super::{
    frame,
    style::{Style, terminal_height, terminal_width},
    terminal::Screen,
};
use crate::{error::CliResult, format, table};

/// The live view; leaves the terminal as it was when dropped.
pub(super) struct Live {
    style: Style,
    _screen: Screen,
}

impl Live {
    pub(super) fn start(style: Style) -> io::Result<Self> {
        Ok(Self { style, _screen: Screen::enter()? })
    }

    pub(super) fn draw(&mut self, view: &RunView) -> CliResult<()> {
        let (width, height) = (terminal_width(), terminal_height());
        let lines = frame::summary(view, format::now_ms(), width, height, self.style);
        let mut out = Vec::new();
        queue!(out, BeginSynchronizedUpdate)?;
        for (row, line) in lines.iter().take(height).enumerate() {
            let text = table::render(line, width, self.style.colour, self.style.ascii);
            queue!(
                out,
                MoveTo(0, u16::try_from(row).unwrap_or(u16::MAX)),
                Print(text),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        if lines.len() < height {
            queue!(
                out,
                MoveTo(0, u16::try_from(lines.len()).unwrap_or(u16::MAX)),
                Clear(ClearType::FromCursorDown)
            )?;
        }
        queue!(out, EndSynchronizedUpdate)?;
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out)?;
        stdout.flush()?;
        Ok(())
    }
}
