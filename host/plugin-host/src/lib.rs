//! Loads and runs WebAssembly component plugins under limits.
