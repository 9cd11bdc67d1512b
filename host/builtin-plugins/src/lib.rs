//! The components that ship with Pangolin, embedded.
