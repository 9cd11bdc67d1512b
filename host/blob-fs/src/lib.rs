//! BlobStore on a directory.
