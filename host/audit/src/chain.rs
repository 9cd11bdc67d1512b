//! The chain of one run: each entry names the leaf hash of the one before and is a leaf of the run's tree.

use pangolin_core::{
    entry::{ENTRY_VERSION, Entry, EntryBody},
    ids::{Digest, RunId},
};

use crate::{
    canon::{EncodeError, encode_entry},
    checkpoint::Checkpoint,
    merkle::{Frontier, leaf_hash},
};

/// Where the chain of a run stands. Cheap to clone (at most 64 hashes): clone before a commit that may be refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunChain {
    len: u64,
    head: Option<Digest>,
    frontier: Frontier,
}

impl RunChain {
    /// An empty chain.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Resumes from the stored leaf hashes of the run, in order.
    #[must_use]
    pub fn from_leaves(leaves: impl IntoIterator<Item = Digest>) -> Self {
        let mut chain = Self::new();
        for leaf in leaves {
            chain.push_leaf(leaf);
        }
        chain
    }

    /// Adds a record that was already committed, e.g. by another process.
    pub fn push_leaf(&mut self, leaf: Digest) {
        self.frontier.push(leaf);
        self.head = Some(leaf);
        self.len += 1;
    }

    /// Builds the next entry, encodes it and moves the chain forward. On error the chain is unchanged.
    ///
    /// Returns the entry, its leaf hash and its canonical bytes (what the store keeps).
    ///
    /// # Errors
    /// [`EncodeError`] when the entry is too long or holds an integer beyond ±(2^53−1).
    pub fn append(
        &mut self,
        run: &RunId,
        at: i64,
        actor: &str,
        body: EntryBody,
    ) -> Result<(Entry, Digest, Vec<u8>), EncodeError> {
        let entry = Entry {
            v: ENTRY_VERSION,
            run: run.clone(),
            seq: self.len,
            at,
            actor: actor.to_owned(),
            prev: self.head,
            body,
        };
        let bytes = encode_entry(&entry)?;
        let leaf = leaf_hash(&bytes);
        self.push_leaf(leaf);
        Ok((entry, leaf, bytes))
    }

    /// Entries so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// No entries yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Leaf hash of the last entry.
    #[must_use]
    pub const fn head(&self) -> Option<Digest> {
        self.head
    }

    /// Right edge of the run's tree.
    #[must_use]
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Root of the run's tree.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// The unsigned checkpoint of the run's tree as it stands, origin `<log>/run/<run>`.
    #[must_use]
    pub fn checkpoint(&self, log_origin: &str, run: &RunId) -> Checkpoint {
        Checkpoint { origin: run_origin(log_origin, run), size: self.len, root: self.root() }
    }
}

/// Origin of a run's checkpoint: `<log origin>/run/<run id>`.
#[must_use]
pub fn run_origin(log_origin: &str, run: &RunId) -> String {
    format!("{log_origin}/run/{run}")
}
