//! RunStore on SQLite.
