//! Leadership of a local deployment: an advisory lock on one file. The kernel frees it when its holder dies, so a
//! waiting daemon takes over at once and nobody polls.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use nix::fcntl::{Flock, FlockArg};
use pangolin_orchestrator::leadership::{Leadership, LeadershipError};

/// The lock file of a state directory.
pub struct FileLeadership {
    path: PathBuf,
}

impl FileLeadership {
    /// Leadership over the deployment in `state`.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("daemon.lock") }
    }

    /// Process id of the daemon that leads now, if one does.
    #[must_use]
    pub fn leader(&self) -> Option<u32> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path).ok()?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => None,
            Err((mut file, _)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).ok()?;
                text.trim().parse().ok()
            }
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[async_trait]
impl Leadership for FileLeadership {
    async fn acquire(&self) -> Result<Box<dyn std::any::Any + Send + Sync>, LeadershipError> {
        let failed = |source: std::io::Error| LeadershipError {
            context: format!("lock {}", self.path.display()),
            source: source.into(),
        };
        let file = open(&self.path).map_err(failed)?;
        let (answer, wait) = tokio::sync::oneshot::channel();
        // A thread of its own: a blocked lock cannot be cancelled, and must not hold up the runtime at exit.
        std::thread::spawn(move || {
            let locked =
                Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| std::io::Error::from(errno));
            // When nobody waits any more the lock is dropped here and free again.
            drop(answer.send(locked));
        });
        let mut lock = match wait.await {
            Ok(locked) => locked.map_err(failed)?,
            Err(_) => return Err(failed(std::io::Error::other("the waiting thread ended"))),
        };
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Box::new(lock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_leads_and_the_next_follows_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let leadership = FileLeadership::new(dir.path());
        assert_eq!(leadership.leader(), None);
        let first = leadership.acquire().await.unwrap();
        assert_eq!(leadership.leader(), Some(std::process::id()));
        let second = leadership.acquire();
        tokio::pin!(second);
        assert!(futures_poll(second.as_mut()).await.is_none());
        drop(first);
        second.await.unwrap();
    }

    async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
