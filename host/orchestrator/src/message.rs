//! What clients put into the inbox.

use pangolin_core::ids::{Digest, ItemId, RunId};
use serde::{Deserialize, Serialize};

/// Version of the message format.
pub const MESSAGE_VERSION: u32 = 1;

/// A message with its format version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`MESSAGE_VERSION`].
    pub v: u32,
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// Who sent it, proved: a signed note over it, see [`crate::senders`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What the workspaces of a run start from, when the submitter brings it: a deployment without a repository of its own
/// cannot resolve a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Id of the commit.
    pub commit: String,
    /// Blob with a git pack of the commit and everything that it consists of, without history.
    pub pack: Digest,
}

/// A request to the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Request {
    /// Admit a run.
    Submit {
        /// The plan's text; its UTF-8 bytes are what is sealed.
        plan: String,
        /// Use this queue instead of the plan's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<String>,
        /// Who submits.
        actor: String,
        /// Where workspaces start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<Base>,
    },
    /// Cancel a run or one item.
    Cancel {
        /// The run.
        run: RunId,
        /// Only this item.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<ItemId>,
        /// Who asks.
        actor: String,
    },
    /// Add items to an open-ended run.
    Extend {
        /// The run.
        run: RunId,
        /// JSON text of an array of items, as in a plan.
        items: String,
        /// Who asks.
        actor: String,
    },
    /// No more items will be added to an open-ended run.
    Close {
        /// The run.
        run: RunId,
        /// Who asks.
        actor: String,
    },
}

impl Request {
    /// Who asks.
    #[must_use]
    pub fn actor(&self) -> &str {
        match self {
            Self::Submit { actor, .. }
            | Self::Cancel { actor, .. }
            | Self::Extend { actor, .. }
            | Self::Close { actor, .. } => actor,
        }
    }

    /// Somebody else asks.
    pub(crate) fn set_actor(&mut self, by: String) {
        match self {
            Self::Submit { actor, .. }
            | Self::Cancel { actor, .. }
            | Self::Extend { actor, .. }
            | Self::Close { actor, .. } => *actor = by,
        }
    }

    /// The run that must be there; `None` for a submission.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Self::Submit { .. } => None,
            Self::Cancel { run, .. } | Self::Extend { run, .. } | Self::Close { run, .. } => Some(run),
        }
    }
}

/// The answer that is kept with the message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// [`MESSAGE_VERSION`].
    pub v: u32,
    /// One sentence.
    pub reason: String,
    /// The run concerned, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The admission receipt of an accepted submission; for an extension or a closing the entry (`seq` and leaf hash)
    /// that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<serde_json::Value>,
    /// Findings of a rejected plan or extension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<serde_json::Value>,
}

impl Answer {
    /// An answer with a reason only.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Self {
        Self { v: MESSAGE_VERSION, reason: reason.into(), run: None, receipt: None, findings: Vec::new() }
    }

    /// JSON bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an answer holds only text and JSON values")
    }
}
