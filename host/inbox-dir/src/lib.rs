//! [`Inbox`] on a directory.
//!
//! ```text
//! <dir>/waiting/<name>    messages that wait; delivered by linking a finished file
//! <dir>/answers/<name>    "accepted" or "rejected", a newline, then the answer's bytes; created once, never changed
//! <dir>/accepted/<name>   messages that were taken
//! <dir>/rejected/<name>   messages that were set aside
//! <dir>/tmp/              files being written
//! ```
//! A message is settled from the moment its answer exists; moving it out of `waiting` afterwards is tidying that any
//! daemon repeats after a crash. A sender links its message first and looks for an answer then, so a name that was
//! ever settled cannot be sent again. Order is by modification time, which a sender sets to the nanosecond.
//!
//! Anybody may drop a file into `waiting` without this program: finished files by `mv` from the same file system, or
//! under a name that starts with a dot, which is ignored, and then renamed. What is no readable message there is
//! moved to `rejected` with its reason in `answers`; a name that is no id is escaped with `%XX`, which no id has.
//!
//! Deliberately not here: the meaning of messages, removal of old ones, and authentication (the directory's
//! permissions decide who may send).

mod files;
mod mailbox;
mod signals;

use std::path::Path;

use async_trait::async_trait;
use pangolin_ports::inbox::{Disposition, Inbox, InboxError, Message};

use crate::{files::failed, mailbox::Mailbox, signals::Signals};

/// A mailbox in a directory.
#[derive(Debug)]
pub struct DirInbox {
    mailbox: Mailbox,
    signals: Signals,
}

impl DirInbox {
    /// Opens the mailbox in `dir`, creating what is missing (mode 0700). Blocks on disk.
    ///
    /// # Errors
    /// [`InboxError::Other`] naming the path that cannot be created or watched.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, InboxError> {
        let mailbox = Mailbox::open(dir.as_ref())?;
        // Watching starts before anybody can look, so nothing falls in between.
        let signals = Signals::watch(mailbox.waiting_dir(), mailbox.answers_dir())?;
        Ok(Self { mailbox, signals })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.mailbox.dir()
    }

    /// Runs file work on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Mailbox) -> Result<T, InboxError> + Send + 'static,
    ) -> Result<T, InboxError> {
        let mailbox = self.mailbox.clone();
        let task = tokio::task::spawn_blocking(move || work(&mailbox));
        task.await.map_err(|error| failed("using", self.dir(), std::io::Error::other(error)))?
    }
}

#[async_trait]
impl Inbox for DirInbox {
    async fn send(&self, message: Message) -> Result<(), InboxError> {
        self.run(move |mailbox| mailbox.send(&message)).await
    }

    async fn waiting(&self, limit: usize) -> Result<Vec<Message>, InboxError> {
        self.run(move |mailbox| mailbox.waiting(limit)).await
    }

    async fn settle(&self, name: &str, disposition: Disposition) -> Result<(), InboxError> {
        let name = name.to_owned();
        self.run(move |mailbox| mailbox.settle(&name, &disposition)).await
    }

    async fn disposition(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        let name = name.to_owned();
        self.run(move |mailbox| mailbox.disposition(&name)).await
    }

    async fn changed(&self) {
        self.signals.arrival().await;
    }

    async fn settled(&self, name: &str) {
        let mut answers = self.signals.answers();
        loop {
            // First forget earlier events, then look: what comes after the look leaves an event.
            answers.forget();
            // An error is for the caller's next `disposition` to report.
            if !matches!(self.disposition(name).await, Ok(None | Some(Disposition::Waiting))) {
                return;
            }
            answers.next().await;
        }
    }
}
