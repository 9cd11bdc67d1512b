//! The real binary in a sealed environment: stdout, stderr and exit code.

mod deployment;
mod harness;
mod offline;
