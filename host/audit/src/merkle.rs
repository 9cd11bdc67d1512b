//! RFC 6962 Merkle tree over SHA-256: hashes, compact frontier, inclusion and consistency proofs.
//!
//! Leaves are given as leaf hashes ([`leaf_hash`]). Proofs are lists of node hashes in the order of RFC 6962
//! sections 2.1.1 and 2.1.2.

use pangolin_core::ids::Digest;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Why a proof or a stored frontier is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MerkleError {
    /// Asked for a leaf that the tree does not have.
    #[error("leaf index {index} is not in a tree of {size} leaves")]
    IndexBeyondSize {
        /// The index.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// Sizes that no consistency proof exists for.
    #[error("no consistency proof exists from size {old} to size {new}")]
    Sizes {
        /// Older size.
        old: u64,
        /// Newer size.
        new: u64,
    },
    /// Too few or too many hashes.
    #[error("proof has {found} hashes, expected {expected}")]
    ProofLength {
        /// Hashes needed.
        expected: usize,
        /// Hashes given.
        found: usize,
    },
    /// The proof leads to another root.
    #[error("proof leads to root {computed}, not to {expected}")]
    RootMismatch {
        /// The claimed root.
        expected: Digest,
        /// Where the proof leads.
        computed: Digest,
    },
    /// Frontier bytes that [`Frontier::to_bytes`] never writes.
    #[error("stored frontier is malformed: {0}")]
    Frontier(String),
}

/// Hash of a leaf: SHA-256 of 0x00 and the data.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(data);
    Digest::from_bytes(hasher.finalize().into())
}

/// Hash of an inner node: SHA-256 of 0x01 and both children.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut input = [1_u8; 65];
    input[1..33].copy_from_slice(left.as_bytes());
    input[33..].copy_from_slice(right.as_bytes());
    Digest::of(&input)
}

/// Root of the tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// The right edge of a growing tree: roots of its perfect subtrees, largest first. At most 64 hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    len: u64,
    nodes: Vec<Digest>,
}

impl Frontier {
    /// The frontier of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// No leaves yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        for _ in 0..self.len.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.nodes.push(node);
        self.len += 1;
    }

    /// Root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut nodes = self.nodes.iter().rev();
        let Some(last) = nodes.next() else { return empty_root() };
        nodes.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Inclusion proof, in the tree after the next [`Frontier::push`], of the leaf that push will add. Lets a writer
    /// give a receipt without reading the log.
    #[must_use]
    pub fn proof_of_next(&self) -> Vec<Digest> {
        self.nodes.iter().rev().copied().collect()
    }

    /// Eight bytes of length (big endian), then the nodes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.len.to_be_bytes().to_vec();
        for node in &self.nodes {
            bytes.extend_from_slice(node.as_bytes());
        }
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`MerkleError::Frontier`] when the number of nodes does not fit the length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MerkleError> {
        let bad = |problem: String| MerkleError::Frontier(problem);
        let (head, rest) =
            bytes.split_first_chunk::<8>().ok_or_else(|| bad(format!("{} bytes", bytes.len())))?;
        let len = u64::from_be_bytes(*head);
        let (nodes, tail) = rest.as_chunks::<32>();
        if nodes.len() as u32 != len.count_ones() || !tail.is_empty() {
            return Err(bad(format!("{} bytes of nodes for {len} leaves", rest.len())));
        }
        Ok(Self { len, nodes: nodes.iter().copied().map(Digest::from_bytes).collect() })
    }
}

impl Extend<Digest> for Frontier {
    fn extend<I: IntoIterator<Item = Digest>>(&mut self, leaves: I) {
        for leaf in leaves {
            self.push(leaf);
        }
    }
}

impl FromIterator<Digest> for Frontier {
    fn from_iter<I: IntoIterator<Item = Digest>>(leaves: I) -> Self {
        let mut frontier = Self::new();
        frontier.extend(leaves);
        frontier
    }
}

/// Root over leaf hashes.
#[must_use]
pub fn root(leaves: &[Digest]) -> Digest {
    leaves.iter().copied().collect::<Frontier>().root()
}

/// Largest power of two below `n` (n > 1).
const fn split(n: usize) -> usize {
    1 << (usize::BITS - 1 - (n - 1).leading_zeros())
}

/// Proof that leaf `index` is in the tree over `leaves`.
///
/// # Errors
/// [`MerkleError::IndexBeyondSize`].
pub fn inclusion_proof(leaves: &[Digest], index: u64) -> Result<Vec<Digest>, MerkleError> {
    let beyond = MerkleError::IndexBeyondSize { index, size: leaves.len() as u64 };
    let mut at = usize::try_from(index).map_err(|_| beyond.clone())?;
    if at >= leaves.len() {
        return Err(beyond);
    }
    let mut proof = Vec::new();
    let mut part = leaves;
    while part.len() > 1 {
        let (left, right) = part.split_at(split(part.len()));
        if at < left.len() {
            proof.push(root(right));
            part = left;
        } else {
            proof.push(root(left));
            at -= left.len();
            part = right;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Checks an inclusion proof.
///
/// # Errors
/// [`MerkleError`] says what does not fit.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    expected: &Digest,
) -> Result<(), MerkleError> {
    if index >= size {
        return Err(MerkleError::IndexBeyondSize { index, size });
    }
    let inner = inner_levels(index, size);
    let border = (index >> inner).count_ones() as usize;
    check_length(inner + border, proof)?;
    let computed = climb(*leaf, index, &proof[..inner]);
    same_root(expected, climb_left(computed, &proof[inner..]))
}

/// Proof that the tree over the first `old` of `leaves` is a prefix of the tree over all of them.
///
/// # Errors
/// [`MerkleError::Sizes`] for an old size of 0 or beyond the tree.
pub fn consistency_proof(leaves: &[Digest], old: u64) -> Result<Vec<Digest>, MerkleError> {
    let sizes = MerkleError::Sizes { old, new: leaves.len() as u64 };
    let mut rest = usize::try_from(old).map_err(|_| sizes.clone())?;
    if rest == 0 || rest > leaves.len() {
        return Err(sizes);
    }
    let mut proof = Vec::new();
    let mut part = leaves;
    let mut whole = true;
    while rest != part.len() {
        let (left, right) = part.split_at(split(part.len()));
        if rest <= left.len() {
            proof.push(root(right));
            part = left;
        } else {
            proof.push(root(left));
            rest -= left.len();
            part = right;
            whole = false;
        }
    }
    if !whole {
        proof.push(root(part));
    }
    proof.reverse();
    Ok(proof)
}

/// Checks a consistency proof between two roots.
///
/// # Errors
/// [`MerkleError`] says what does not fit. There is no proof from the empty tree.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Digest,
    new_root: &Digest,
    proof: &[Digest],
) -> Result<(), MerkleError> {
    if old == 0 || old > new {
        return Err(MerkleError::Sizes { old, new });
    }
    if old == new {
        check_length(0, proof)?;
        return same_root(new_root, *old_root);
    }
    // The proof is the path of leaf old-1, cut off below the largest perfect subtree that ends there.
    let shift = old.trailing_zeros() as usize;
    let inner = inner_levels(old - 1, new) - shift;
    let border = ((old - 1) >> (inner + shift)).count_ones() as usize;
    let perfect = old.is_power_of_two();
    check_length(usize::from(!perfect) + inner + border, proof)?;
    let (seed, path) = match proof.split_first() {
        Some((first, rest)) if !perfect => (*first, rest),
        _ => (*old_root, proof),
    };
    let mask = (old - 1) >> shift;
    let lower = climb_right_only(seed, mask, &path[..inner]);
    same_root(old_root, climb_left(lower, &path[inner..]))?;
    let upper = climb(seed, mask, &path[..inner]);
    same_root(new_root, climb_left(upper, &path[inner..]))
}

/// Levels at which the paths of `index` and of the last leaf differ.
const fn inner_levels(index: u64, size: u64) -> usize {
    (u64::BITS - (index ^ (size - 1)).leading_zeros()) as usize
}

fn check_length(expected: usize, proof: &[Digest]) -> Result<(), MerkleError> {
    if proof.len() == expected {
        return Ok(());
    }
    Err(MerkleError::ProofLength { expected, found: proof.len() })
}

fn same_root(expected: &Digest, computed: Digest) -> Result<(), MerkleError> {
    if computed == *expected {
        return Ok(());
    }
    Err(MerkleError::RootMismatch { expected: *expected, computed })
}

/// Up the tree, siblings left or right as the bits of `index` say.
fn climb(seed: Digest, index: u64, proof: &[Digest]) -> Digest {
    proof.iter().enumerate().fold(seed, |node, (level, sibling)| match (index >> level) & 1 {
        0 => node_hash(&node, sibling),
        _ => node_hash(sibling, &node),
    })
}

/// Up the tree, only where the sibling is on the left.
fn climb_right_only(seed: Digest, index: u64, proof: &[Digest]) -> Digest {
    let left = proof.iter().enumerate().filter(|(level, _)| (index >> level) & 1 == 1);
    left.fold(seed, |node, (_, sibling)| node_hash(sibling, &node))
}

/// Up the right border: every sibling is on the left.
fn climb_left(seed: Digest, proof: &[Digest]) -> Digest {
    proof.iter().fold(seed, |node, sibling| node_hash(sibling, &node))
}
