//! `orch watch` on a pseudo-terminal.

use std::{
    fs::File,
    io::Read as _,
    os::fd::OwnedFd,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Instant,
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};
use pangolin_e2e::{DEADLINE, world::World};

struct Terminal {
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
    /// Kept open so that the modes can be looked at after the program ended.
    slave: OwnedFd,
}

impl Terminal {
    fn start(world: &World, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 12, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("pty");
        let mut command = world.command(arguments);
        command.env("TERM", "xterm-256color");
        let end = || Stdio::from(pty.slave.try_clone().expect("slave"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("pangolin");
        let (sender, output) = channel();
        let mut master = File::from(pty.master);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = master.read(&mut buffer) {
                if read == 0 || sender.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, output, seen: String::new(), slave: pty.slave }
    }

    fn until(&mut self, part: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.seen.contains(part) {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("the terminal did not show {part:?}: {:?}", self.seen)
                }
            }
        }
    }

    fn echo(&self) -> bool {
        tcgetattr(&self.slave).expect("modes").local_flags.contains(LocalFlags::ECHO)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn the_live_view_follows_and_leaves_the_final_state_on_the_screen() {
    let world = World::new();
    world.agent("slow", "sleep 1; echo x > x.txt");
    let _daemon = world.serve();
    world.submit("live-1", &[("a", "slow", &[]), ("b", "slow", &["a"])]);
    let mut terminal = Terminal::start(&world, &["orch", "watch", "live-1"]);
    terminal.until("\x1b[?1049h");
    terminal.until("running");
    assert!(!terminal.echo(), "keys must not disturb the view");
    terminal.until("\x1b[?1049l");
    terminal.until("live-1 done after");
    terminal.until("pangolin orch audit live-1");
    assert_eq!(terminal.child.wait().expect("wait").code(), Some(0));
    let after = terminal.seen.split("\x1b[?1049l").last().expect("end").to_owned();
    assert!(after.contains("live-1") && after.contains("✓") && after.contains("2 done"), "{after:?}");
    assert!(terminal.echo(), "the terminal is as it was");
}

#[test]
fn interrupting_the_view_restores_the_terminal_and_leaves_the_run_alone() {
    let world = World::new();
    world.agent("forever", "sleep 100000");
    let _daemon = world.serve();
    world.submit("live-2", &[("a", "forever", &[])]);
    let mut terminal = Terminal::start(&world, &["orch", "watch", "live-2"]);
    terminal.until("running");
    kill(Pid::from_raw(i32::try_from(terminal.child.id()).expect("pid")), Signal::SIGINT).expect("signal");
    terminal.until("\x1b[?1049l");
    terminal.until("the run goes on");
    assert_eq!(terminal.child.wait().expect("wait").code(), Some(130));
    assert!(terminal.echo(), "the terminal is as it was");
    assert_eq!(world.status("live-2")["state"], "active");
    world.run(&["orch", "cancel", "live-2"]).ok();
    let _ = world.finish("live-2");
}

#[test]
fn a_reader_that_saw_enough_ends_the_watch_without_an_error() {
    let world = World::new();
    world.agent("slow", "sleep 1");
    let _daemon = world.serve();
    world.submit("head-1", &[("a", "slow", &[]), ("b", "slow", &["a"])]);
    let mut command = world.command(&["orch", "watch", "head-1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("watch");
    let mut first = [0; 1];
    child.stdout.take().expect("stdout").read_exact(&mut first).expect("a line");
    // The pipe is closed here; the next line finds nobody.
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let _ = world.finish("head-1");
}
