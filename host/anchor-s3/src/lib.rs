//! Anchor on an S3 bucket with Object Lock.
