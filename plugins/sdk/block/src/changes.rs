//! `changes.json`: what is different from the state before the agent.

use serde::Deserialize;

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Below the workspace. Percent-encoded where a byte is not printable ASCII or is `%`.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
    /// The state before; absent for an added path.
    #[serde(default)]
    pub before: Option<FileState>,
    /// The state now; absent for a deleted path.
    #[serde(default)]
    pub after: Option<FileState>,
    /// Whether one of the two states is not text.
    #[serde(default)]
    pub binary: bool,
    /// Where a symbolic link points to now.
    #[serde(default)]
    pub symlink_target: Option<String>,
}

impl Change {
    /// The virtual path of the state now.
    #[must_use]
    pub fn now_path(&self) -> String {
        format!("workspace/{}", self.path)
    }

    /// The virtual path of the state before.
    #[must_use]
    pub fn base_path(&self) -> String {
        format!("base/{}", self.path)
    }
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// Was not there before.
    Added,
    /// Other content or other permission bits.
    Modified,
    /// Is gone.
    Deleted,
    /// A file became a link or the other way round.
    TypeChanged,
}

impl ChangeKind {
    /// The word of `changes.json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::TypeChanged => "type-changed",
        }
    }
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FileState {
    /// As git writes it: `100644`, `100755`, or `120000` for a symbolic link.
    pub mode: String,
    /// Bytes.
    pub size: u64,
    /// Of the content; of a link, of its target.
    #[serde(default)]
    pub digest: String,
}

impl FileState {
    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        self.mode == "120000"
    }

    /// Whether the owner may execute it.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.mode == "100755"
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    pub(crate) schema_version: u32,
    pub(crate) changes: Vec<Change>,
}
