//! Composition: configuration and the only crate that names adapters.
