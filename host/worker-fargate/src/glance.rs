//! One glance at all dispatches at once: whoever asks about one of many running ones costs a share of a listing and not
//! requests of its own.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use pangolin_ports::worker_backend::BackendError;
use tokio::sync::Mutex;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Keys of all records and start documents.
    pub(crate) keys: HashSet<String>,
    /// When ECS made each task that runs (milliseconds since the epoch), by its `startedBy`.
    pub(crate) running: HashMap<String, i64>,
}

/// Lets callers share a glance. Each gets one that began after it asked, so it may rely on it as on a glance of its own.
#[derive(Debug, Default)]
pub(crate) struct Glances {
    asked: AtomicU64,
    last: Mutex<Option<Glance>>,
}

#[derive(Debug)]
struct Glance {
    /// Serves everybody who asked up to this number.
    serves: u64,
    seen: Result<Arc<Seen>, String>,
}

impl Glances {
    /// What `look` saw, or what it saw for somebody else.
    pub(crate) async fn share<F>(&self, look: impl FnOnce() -> F) -> Result<Arc<Seen>, BackendError>
    where
        F: Future<Output = Result<Seen, BackendError>>,
    {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        let seen = match &*last {
            Some(glance) if glance.serves >= number => glance.seen.clone(),
            _ => {
                let serves = self.asked.load(Ordering::SeqCst);
                let seen = look().await.map(Arc::new).map_err(|error| causes(&error));
                *last = Some(Glance { serves, seen: seen.clone() });
                seen
            }
        };
        seen.map_err(BackendError::Unavailable)
    }
}

fn causes(error: &BackendError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_share_and_nobody_gets_what_began_before_it_asked() {
        let glances = Arc::new(Glances::default());
        let looks = Arc::new(AtomicU64::new(0));
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let ask = || {
            let (glances, looks, gate) = (glances.clone(), looks.clone(), gate.clone());
            tokio::spawn(async move {
                let look = || async {
                    let number = looks.fetch_add(1, Ordering::SeqCst) + 1;
                    gate.acquire().await.expect("open").forget();
                    Ok(Seen { keys: HashSet::from([number.to_string()]), ..Seen::default() })
                };
                let seen = glances.share(look).await.expect("seen");
                seen.keys.iter().next().cloned().expect("a key")
            })
        };
        let first = ask();
        while looks.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // They ask while the first glance is on its way.
        let others: Vec<_> = (0..50).map(|_| ask()).collect();
        while glances.asked.load(Ordering::SeqCst) < 51 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert_eq!(first.await.expect("ended"), "1");
        for other in others {
            assert_eq!(other.await.expect("ended"), "2");
        }
        assert_eq!(looks.load(Ordering::SeqCst), 2);
    }
}
