//! BlobStore on S3.
