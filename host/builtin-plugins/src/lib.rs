//! The components that ship with Pangolin, embedded.
//!
//! They are built from `plugins/` when this crate is built, by the same steps a third party takes, and have no rights
//! that a third party's component has not. Deliberately not here: loading and running them
//! (`pangolin-plugin-host`).
//!
//! ```
//! let adapter = pangolin_builtin_plugins::adapter("command").expect("ships with Pangolin");
//! assert!(adapter.starts_with(b"\0asm"));
//! ```

mod shipped {
    include!(concat!(env!("OUT_DIR"), "/shipped.rs"));
}

fn entry(kind: &str, id: &str) -> Option<&'static (&'static str, &'static str, &'static [u8], [u8; 32])> {
    shipped::SHIPPED.iter().find(|entry| entry.0 == kind && entry.1 == id)
}

fn find(kind: &str, id: &str) -> Option<&'static [u8]> {
    entry(kind, id).map(|entry| entry.2)
}

/// SHA-256 of the component of this kind (`adapter`, `block` or `pattern`) and id, taken when this crate was built. For
/// loading it without taking it again.
#[must_use]
pub fn digest(kind: &str, id: &str) -> Option<[u8; 32]> {
    entry(kind, id).map(|entry| entry.3)
}

/// SHA-256 over kind, id and digest of everything that ships, in hex. Equal in two programs when they ship the same.
pub const SET: &str = shipped::SET;

/// The component of a runtime adapter: `command` or `claude-code`.
#[must_use]
pub fn adapter(id: &str) -> Option<&'static [u8]> {
    find("adapter", id)
}

/// The component of a pattern: `static-dag`, `pipeline`, `map-reduce` or `quorum`.
#[must_use]
pub fn pattern(id: &str) -> Option<&'static [u8]> {
    find("pattern", id)
}

/// The component of a block: `diff-policy`, `licence-check`, `secret-scan` or `test-report`.
#[must_use]
pub fn block(id: &str) -> Option<&'static [u8]> {
    find("block", id)
}

/// Kind (`adapter`, `block` or `pattern`) and id of everything that ships.
pub fn ids() -> impl Iterator<Item = (&'static str, &'static str)> {
    shipped::SHIPPED.iter().map(|entry| (entry.0, entry.1))
}
