//! Wake-ups from the file system.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use pangolin_ports::inbox::InboxError;
use tokio::sync::watch;

/// Waking once in a while for nothing is allowed and costs nothing to speak of; it helps when a directory was replaced
/// under a running daemon or another machine wrote to a shared one.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Counts events in the two directories.
#[derive(Debug)]
pub(crate) struct Signals {
    arrivals: watch::Receiver<u64>,
    /// How many arrivals have woken somebody.
    seen: AtomicU64,
    answers: watch::Receiver<u64>,
    /// Stops watching when dropped.
    _watcher: RecommendedWatcher,
}

impl Signals {
    pub(crate) fn watch(waiting: &Path, answers: &Path) -> Result<Self, InboxError> {
        // One event before the first: whoever waits without having looked looks at once.
        let (arrival_sender, arrivals) = watch::channel(1);
        let (answer_sender, answer_events) = watch::channel(0);
        let (waiting_dir, answers_dir) = (waiting.to_owned(), answers.to_owned());
        let handler = move |event: notify::Result<Event>| {
            let bump = |sender: &watch::Sender<u64>| sender.send_modify(|count| *count += 1);
            let is_in = |dir: &Path| match &event {
                // An error or an overflow may hide anything.
                Err(_) => true,
                Ok(event) if event.need_rescan() => true,
                Ok(event) => {
                    brings_a_file(event.kind) && event.paths.iter().any(|path| path.parent() == Some(dir))
                }
            };
            if is_in(&waiting_dir) {
                bump(&arrival_sender);
            }
            if is_in(&answers_dir) {
                bump(&answer_sender);
            }
        };
        let failed = |dir: &Path, error: notify::Error| InboxError::Other {
            context: format!(
                "watching {} (if too many watches are in use, raise fs.inotify.max_user_instances)",
                dir.display()
            ),
            source: Box::new(error),
        };
        let mut watcher = notify::recommended_watcher(handler).map_err(|error| failed(waiting, error))?;
        for dir in [waiting, answers] {
            watcher.watch(dir, RecursiveMode::NonRecursive).map_err(|error| failed(dir, error))?;
        }
        Ok(Self { arrivals, seen: AtomicU64::new(0), answers: answer_events, _watcher: watcher })
    }

    /// Resolves when a file arrived that no earlier call has told of.
    pub(crate) async fn arrival(&self) {
        let seen = self.seen.load(Ordering::Acquire);
        let mut arrivals = self.arrivals.clone();
        let woken = tokio::time::timeout(LOOK_AGAIN, arrivals.wait_for(|count| *count > seen)).await;
        match woken.map(|result| result.map(|count| *count)) {
            Ok(Ok(count)) => {
                self.seen.fetch_max(count, Ordering::AcqRel);
            }
            // The thread that delivers events has died.
            Ok(Err(_)) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(_) => {}
        }
    }

    pub(crate) fn answers(&self) -> Answers {
        Answers(self.answers.clone())
    }
}

/// One caller's view of new answers.
pub(crate) struct Answers(watch::Receiver<u64>);

impl Answers {
    pub(crate) fn forget(&mut self) {
        self.0.borrow_and_update();
    }

    pub(crate) async fn next(&mut self) {
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, self.0.changed()).await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Whether a complete file may have appeared. Opening and removing, which daemons do themselves, is not of interest.
fn brings_a_file(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Any | EventKind::Other => true,
        EventKind::Modify(ModifyKind::Name(mode)) => mode != RenameMode::From,
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(_) | EventKind::Remove(_) => false,
    }
}
