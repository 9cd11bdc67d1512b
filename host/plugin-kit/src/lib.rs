//! For plugin authors: new projects in four languages ([`Scaffold`]), and how each language becomes a component
//! ([`build`]).
//!
//! Deliberately not here: running or testing a plugin (`pangolin-plugin-host`), what it may do
//! (`pangolin-plugin-authority`), printing.

mod build;
mod embedded;
mod language;
mod project;
mod scaffold;
mod tools;

pub use build::{BuildError, BuildOptions, Built, build};
pub use language::{Language, LanguageError};
pub use project::{Project, ProjectError};
pub use scaffold::{Scaffold, ScaffoldError};
pub use tools::{MissingTool, Tools};
