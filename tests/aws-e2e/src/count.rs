//! What a stack asks of AWS, counted by kind of call.
//!
//! Two ways. [`stack()`]: everything is real as in [`crate::EmulatedStack`], and the proxy in front of the emulators counts; a
//! worker is a process, so it is for some hundreds of items. [`engine()`]: the engine of the function `tick` runs in this process
//! ([`pangolin_runtime::aws::Engine`]), its SDK's HTTP layer counts, DynamoDB is dynoxide, which says how many units a request
//! takes, and ECS and the workers are stand-ins that need no process. It is for as many items as one likes. Both answer
//! lines of JSON.
//!
//! Times are no part of it: emulators have others than AWS.

mod calls;
mod dynoxide;
mod ecs;
mod engine;
mod plan;
mod report;
mod stack;
mod worker;

pub use engine::{Load, count as engine};
pub use plan::Shape;
pub use stack::count as stack;
