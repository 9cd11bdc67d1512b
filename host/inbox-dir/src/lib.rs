//! Inbox on a directory.
