//! Verbs on a deployment without a daemon.
