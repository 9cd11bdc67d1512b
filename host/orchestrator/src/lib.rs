//! The driver: load, plan, commit, act.
