//! What is written on a doorbell.

use serde::{Deserialize, Serialize};

/// Why the tick shall look. It looks at everything in any case; the word is for its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bell {
    /// A message arrived in the inbox.
    Inbox,
    /// A worker ended.
    Task,
}

impl Bell {
    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Task => "task",
        }
    }

    /// Body of the message in the queue: `{"doorbell":"inbox"}`.
    #[must_use]
    pub fn body(self) -> String {
        serde_json::json!({ "doorbell": self }).to_string()
    }
}
