//! Pure audit maths: canonical JSON, hash chain, Merkle tree, checkpoints, bundle, verification.
