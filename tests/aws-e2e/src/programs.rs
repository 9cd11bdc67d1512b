//! The programs under test.

use std::path::{Path, PathBuf};

/// A program of the workspace, built beside the test.
///
/// # Panics
/// When it is not there.
#[must_use]
pub(crate) fn program(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run the tests of the whole workspace, or `cargo build -p {name}` first",
        path.display()
    );
    path
}
