//! The pangolin command.

fn main() {}
