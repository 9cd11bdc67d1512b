//! [`Inbox`] on S3.
//!
//! ```text
//! <prefix>inbox/new/<name>    messages that wait; metadata: `pangolin-message` (random), `pangolin-sent` (ns since 1970)
//! <prefix>inbox/done/<name>   "accepted" or "rejected", a newline, then the answer's bytes; metadata: `pangolin-message`
//! ```
//! Both are created with `If-None-Match: *` and never changed. A message is settled from the moment its answer exists;
//! removing it from `new` afterwards is tidying that anybody repeats. The answer names the message by its random number, so
//! that a sender whose answer from S3 was lost can tell its own message from another one with the same name, and a name that
//! was ever settled cannot be sent again.
//!
//! Order is by the time at which S3 took the message (whole seconds), within a second by the sender's clock, then by name
//! (with more than 2,000 messages of one second by name at once). A listing ends after 20,000 messages; the next one goes on
//! behind them.
//!
//! Anybody may put an object below `new` without this program. What is no readable message there gets a rejection with the
//! reason and is removed; a name that is no id is escaped with `%XX`, which no id has. Keep versions of the bucket to look at
//! removed objects. The same goes for one that S3 does not hand out for how it is stored, and for one that it refuses while it
//! hands out others. When it refuses all, that may be for the rights of whoever asks, and they stay. At most 256 are taken out
//! of the way by one call of [`Inbox::waiting`].
//!
//! S3 has no wake-up for a process. [`Inbox::changed`] and [`Inbox::settled`] look again after growing pauses
//! ([`Polling`]); [`S3Inbox::ring`] cuts a pause short, for whoever is told by an event of the bucket. Events may come twice,
//! late or never: they only make it faster.
//!
//! Rights needed. Sender: `s3:PutObject` on `new/*`, `s3:GetObject` on both, `s3:ListBucket` (without it S3 answers 403 and
//! not 404 for what is absent). Reader: also `s3:PutObject` on `done/*` and `s3:DeleteObject` on `new/*`.
//!
//! Deliberately not here: the meaning of messages and their signatures, removal of old answers.

mod arrivals;
mod mailbox;
mod objects;

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use pangolin_aws::Aws;
use pangolin_ports::inbox::{Disposition, Inbox, InboxError, Message};

use crate::{arrivals::Arrivals, mailbox::Mailbox, objects::Objects};

/// Pauses between looks at the bucket. Each look is one listing request (two per 2,000 waiting messages, and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// After something was found.
    pub first: Duration,
    /// The pause doubles up to this while nothing is found.
    pub max: Duration,
}

impl Default for Polling {
    /// A quarter of a second to five seconds.
    fn default() -> Self {
        Self { first: Duration::from_millis(250), max: Duration::from_secs(5) }
    }
}

/// A mailbox in an S3 bucket.
#[derive(Debug)]
pub struct S3Inbox {
    mailbox: Mailbox,
    arrivals: Mutex<Arrivals>,
    bell: tokio::sync::Notify,
    polling: Polling,
}

impl S3Inbox {
    /// The mailbox in `bucket`, below `prefix` (empty, or as `team-a/`). Makes no request.
    #[must_use]
    pub fn new(aws: &Aws, bucket: &str, prefix: &str) -> Self {
        let polling = Polling::default();
        Self {
            mailbox: Mailbox::new(Objects::new(aws, bucket, prefix)),
            arrivals: Mutex::new(Arrivals::new(polling)),
            bell: tokio::sync::Notify::new(),
            polling,
        }
    }

    /// With other pauses.
    #[must_use]
    pub fn with_polling(mut self, polling: Polling) -> Self {
        self.arrivals = Mutex::new(Arrivals::new(polling));
        self.polling = polling;
        self
    }

    /// Something may have arrived: whoever waits in [`Inbox::changed`] looks now.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    fn arrivals(&self) -> std::sync::MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Inbox for S3Inbox {
    async fn send(&self, message: Message) -> Result<(), InboxError> {
        self.mailbox.send(message).await
    }

    async fn waiting(&self, limit: usize) -> Result<Vec<Message>, InboxError> {
        let looked = self.mailbox.waiting(limit).await?;
        self.arrivals().looked(looked.known);
        Ok(looked.messages)
    }

    async fn settle(&self, name: &str, disposition: Disposition) -> Result<(), InboxError> {
        self.mailbox.settle(name, &disposition).await
    }

    async fn disposition(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        self.mailbox.disposition(name).await
    }

    // May be dropped and called again at any time: when the next look is due is remembered outside of it.
    async fn changed(&self) {
        loop {
            let due = self.arrivals().due();
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.bell.notified() => {}
            }
            match self.mailbox.list().await {
                Ok(listed) => {
                    if self.arrivals().has_new(&listed) {
                        return;
                    }
                }
                // Whoever asks for messages gets the error. Here it only means that nothing can be told.
                Err(error) => {
                    self.arrivals().failed();
                    tracing::warn!(%error, source = ?std::error::Error::source(&error), "cannot look into the inbox");
                }
            }
        }
    }

    async fn settled(&self, name: &str) {
        let mut pause = self.polling.first;
        // An error is for the caller's next `disposition` to report.
        while matches!(self.mailbox.is_settled(name).await, Ok(false)) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.polling.max);
        }
    }
}
