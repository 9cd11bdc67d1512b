//! [`Gate`].

use std::sync::Arc;

use tokio::sync::watch;

/// Holds calls until it is opened. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    arrived: usize,
    open: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Resolves once `count` calls have arrived at the gate.
    pub async fn arrived(&self, count: usize) {
        // The sender is in `self`, so that waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|state| state.arrived >= count).await;
    }

    pub(super) async fn pass(&self) {
        self.0.send_modify(|state| state.arrived += 1);
        let _ = self.0.subscribe().wait_for(|state| state.open).await;
    }
}
