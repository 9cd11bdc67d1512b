//! A small strict S3.
