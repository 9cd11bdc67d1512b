//! The static program that runs one dispatch inside the isolation.

fn main() {}
