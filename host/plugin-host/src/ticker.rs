//! Advances the epoch of the engines every 10 ms, but only while a guest runs: an idle daemon does not wake up.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use wasmtime::EngineWeak;

/// Length of one epoch.
pub(crate) const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct State {
    running: usize,
    closed: bool,
    /// Whether the thread waits for a guest.
    idle: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Handle of the ticker thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticker(Arc<Shared>);

impl Ticker {
    /// Starts the thread. It holds the engines weakly.
    pub(crate) fn start(engines: Vec<EngineWeak>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread_shared = Arc::clone(&shared);
        thread::Builder::new().name("plugin-epoch".into()).spawn(move || run(&thread_shared, &engines))?;
        Ok(Self(shared))
    }

    /// Epochs advance while the guard lives.
    pub(crate) fn guard(&self) -> Running<'_> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running += 1;
        // In the middle of an epoch it must not wake up: the epoch would end at once, and with it the guest's turn.
        if state.idle {
            self.0.changed.notify_one();
        }
        Running(&self.0)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.changed.notify_one();
    }
}

/// See [`Ticker::guard`].
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
    }
}

fn run(shared: &Shared, engines: &[EngineWeak]) {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    while !state.closed {
        if state.running == 0 {
            state.idle = true;
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle = false;
            continue;
        }
        let (next, _) = shared.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
        drop(next);
        for engine in engines.iter().filter_map(EngineWeak::upgrade) {
            engine.increment_epoch();
        }
        state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    }
}
