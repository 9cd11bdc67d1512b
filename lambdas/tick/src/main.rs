//! The Lambda `tick`: looks at the runs of a stack, does what can be done now, and says when to look again.
//!
//! Every event is the same to it: a doorbell means "look". One look serves all messages of a batch, so it succeeds or fails as a
//! whole, and a message that nobody understands is no different from any other.

mod bell;
mod look;
mod metric;

use std::process::ExitCode;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use pangolin_orchestrator::causes::causes;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::error;

use crate::look::Looker;

fn main() -> ExitCode {
    pangolin_lambda_doorbell::start(run())
}

async fn run() -> Result<(), Error> {
    let looker = &Mutex::new(Looker::from_env()?);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let mut looker = looker.lock().await;
        let looked = looker.look(&event.payload, event.context.deadline).await;
        if let Err(problem) = &looked {
            error!(request = %event.context.request_id, problem = %causes(problem), "the look failed");
        }
        // The answer to a batch of a queue: no message of it has to come again.
        looked.map(|()| json!({ "batchItemFailures": [] }))
    }))
    .await
}
