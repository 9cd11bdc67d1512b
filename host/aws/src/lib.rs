//! One way to make AWS clients.
