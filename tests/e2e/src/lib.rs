//! End-to-end tests of whole commands.
