//! Work beside the test.

use tokio::task::JoinHandle;

/// A source of events that runs by itself. Stops when dropped.
#[derive(Debug)]
pub struct Background(JoinHandle<()>);

impl Background {
    pub(crate) fn new(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}
