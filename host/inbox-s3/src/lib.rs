//! Inbox on S3.
