//! Where submissions and control messages arrive.

use async_trait::async_trait;
use thiserror::Error;

/// One message in arrival order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Name chosen by the sender, unique; the idempotency key. Follows the id rules of `pangolin-core`.
    pub name: String,
    /// The bytes, at most [`MESSAGE_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// Largest message. A plan of 100,000 items fits.
pub const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// Most bytes of messages that are handed out at once, but for the message that reaches it: what senders can make a reader keep
/// in memory.
pub const WAITING_BYTES: u64 = 32 << 20;

/// Failures of an inbox.
#[derive(Debug, Error)]
pub enum InboxError {
    /// A message with this name exists already (waiting, accepted or rejected).
    #[error("a message named {0:?} was already submitted")]
    AlreadyExists(String),
    /// The name breaks the id rules.
    #[error("message name is invalid")]
    BadName(#[source] pangolin_core::ids::IdError),
    /// More than [`MESSAGE_BYTES_MAX`].
    #[error("message {name:?} has {size} bytes, the limit is {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// Message.
        name: String,
        /// Its size.
        size: u64,
    },
    /// Anything else.
    #[error("inbox failed: {context}")]
    Other {
        /// What was tried, naming the file.
        context: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Still waiting.
    Waiting,
    /// Taken, with the answer for the sender (JSON bytes, e.g. the admission receipt).
    Accepted(Vec<u8>),
    /// Set aside, with the reason for the sender (JSON bytes).
    Rejected(Vec<u8>),
}

/// Create-only mailbox from clients to the daemon. Any number of senders, several daemons may read.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Creates a message; durable on return; exactly one of several concurrent senders with one name wins.
    async fn send(&self, message: Message) -> Result<(), InboxError>;

    /// Waiting messages, oldest first, up to `limit`, and none after the one with which they have [`WAITING_BYTES`]. A message that cannot be read (too large, not a regular
    /// file, bad name) is set aside with its reason and stops nobody.
    async fn waiting(&self, limit: usize) -> Result<Vec<Message>, InboxError>;

    /// Records the answer and takes the message out of `waiting`. Idempotent: the first answer stays.
    async fn settle(&self, name: &str, disposition: Disposition) -> Result<(), InboxError>;

    /// What became of a message; `None` when there never was one.
    async fn disposition(&self, name: &str) -> Result<Option<Disposition>, InboxError>;

    /// Resolves when something may have arrived since the last call. May wake too often, never too rarely:
    /// a message sent at any time after a `waiting` call that did not return it wakes a later `changed` call.
    async fn changed(&self);

    /// Resolves when the disposition of `name` may have changed. Same promise as [`Inbox::changed`].
    async fn settled(&self, name: &str);
}
