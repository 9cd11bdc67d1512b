//! Signals as messages: SIGTERM and SIGINT ask to stop, SIGCHLD says that a process ended.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};

/// Something to look at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A process ended, or a stop was asked for.
    Signal,
    /// The time is over.
    Elapsed,
}

/// Receives the signals of this process.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    /// Shared, so that whoever runs a command for a block can wait too; one waits at a time.
    wakes: Arc<Mutex<Receiver<()>>>,
    stop: Arc<AtomicBool>,
}

/// The signals the worker and its stages receive synchronously.
pub(crate) fn watched() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        set.add(signal);
    }
    set
}

impl Signals {
    /// Blocks the signals and starts the thread that receives them. Call before any other thread exists; programs
    /// started later get an empty mask from the standard library.
    pub(crate) fn install() -> std::io::Result<Self> {
        let set = watched();
        set.thread_block()?;
        let (sender, wakes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            loop {
                match set.wait() {
                    Ok(Signal::SIGCHLD) => {}
                    Ok(_) => flag.store(true, Ordering::SeqCst),
                    Err(_) => continue,
                }
                if sender.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { wakes: Arc::new(Mutex::new(wakes)), stop })
    }

    /// Whether somebody asked to stop.
    #[must_use]
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Waits for a signal, at most `time`.
    pub(crate) fn wait(&self, time: Duration) -> Wake {
        match self.wakes.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(time) {
            Ok(()) => Wake::Signal,
            Err(RecvTimeoutError::Timeout) => Wake::Elapsed,
            // The receiving thread never ends while `self` lives; without it only the time is left.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(time.min(Duration::from_millis(50)));
                Wake::Elapsed
            }
        }
    }
}
