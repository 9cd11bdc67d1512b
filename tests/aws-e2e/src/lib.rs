//! A whole stack against emulators.
//!
//! What is real: the three functions (their own programs behind a Lambda runtime API), the worker (its own program), git, the
//! deployment's documents. What stands in: S3 (`pangolin-s3-fake`), DynamoDB, SQS and Secrets Manager (ministack), ECS
//! (`pangolin-ecs-fake`: a task is a local process), Lambda (`pangolin-lambda-fake`). Nobody checks rights.
//!
//! What the functions call, and what workers ask for with pre-signed URLs, goes through `pangolin-aws-proxy`, which counts it
//! and makes it fail where a test says so.

pub mod count;
mod programs;
mod scenes;
mod stack;

pub use scenes::Project;
pub use stack::{ANCHOR, DATA, EmulatedStack, IMAGE, Options};
