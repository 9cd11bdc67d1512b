//! Build, demo, test and benchmark tasks.

fn main() {}
