//! What a Pangolin stack in AWS consists of, for whoever works with one: functions, command line, deployer.
//!
//! Deliberately not here: making a stack (`pangolin-deploy`) and running the engine in one (`pangolin-runtime`). No IO.

mod document;
pub mod names;
mod release;

pub use document::{AnchorPlace, Architecture, DeploymentDocument, DocumentError, SCHEMA_VERSION, Workers};
pub use release::{LABEL_FILE, Label, LabelError, MARK, MARK_END, Release};
