//! Scripted model provider on loopback for tests.

fn main() {}
