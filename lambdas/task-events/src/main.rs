//! The Lambda `task-events`: ECS tells it of stopped tasks and S3 of completion objects, it rings the doorbell of the tick.

use std::process::ExitCode;

use pangolin_lambda_doorbell::{Bell, serve};

fn main() -> ExitCode {
    serve(Bell::Task)
}
