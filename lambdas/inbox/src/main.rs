//! The Lambda `inbox`: S3 tells it of new messages below `inbox/new/`, it rings the doorbell of the tick.

use std::process::ExitCode;

use pangolin_lambda_doorbell::{Bell, serve};

fn main() -> ExitCode {
    serve(Bell::Inbox)
}
