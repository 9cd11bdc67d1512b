//! The stack of a deployment on AWS.
//!
//! [`template`] makes one CloudFormation template of typed Rust: table, buckets, queues, functions, schedule, cluster, network,
//! roles and alarms. [`Deployer`] carries it into an account: [`Deployer::plan`], [`Deployer::apply`], [`Deployer::verify`],
//! [`Deployer::status`], [`Deployer::pulse`], [`Deployer::destroy`]. [`cost`] says what it costs.
//!
//! A new stack is made in two steps, because the code of a function must be in a bucket before the function, and the bucket is
//! the stack's own: first everything but the functions, then code, signing key and configuration, then the functions. Code and
//! project are named by their content and the functions name both, so one change of the stack switches both (ADR 10).
//!
//! Deliberately not here: what the functions do, building their archives, and words for the command line.

pub mod cost;
mod deployer;
mod document;
mod error;
pub mod exported;
mod key;
pub mod names;
mod packages;
mod plan;
mod progress;
mod project;
mod pulse;
mod settings;
mod stack;
pub mod template;
mod verify;

pub use deployer::{Applied, Deployer, DestroyOptions, Destroyed, StackStatus};
pub use error::DeployError;
pub use packages::{Package, Packages};
pub use pangolin_stack::{
    AnchorPlace, Architecture, DeploymentDocument, DocumentError, LABEL_FILE, Label, Release, SCHEMA_VERSION,
    Workers,
};
pub use plan::{Action, Change, Plan};
pub use progress::{Progress, Watch};
pub use project::Project;
pub use pulse::{Alarm, Pulse, QueueDepth};
pub use settings::{Network, STACK_NAME_MAX, Settings};
pub use verify::{Check, Verification};
