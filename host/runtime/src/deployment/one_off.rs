//! One dispatch without a plan, and dispatches by their id.

use std::time::Duration;

use pangolin_core::{
    entry::EntryBody,
    ids::{DispatchId, ItemId, RunId},
};
use serde_json::{Value, json};

use super::{Deployment, RuntimeError, Submission, SubmitOptions, not_found};
use crate::keys;

const DISPATCH_RUN_PREFIX: &str = "dispatch-";

/// What a one-off dispatch is told.
#[derive(Debug, Clone)]
pub struct DispatchRequest {
    /// Registered subagent.
    pub subagent: String,
    /// Executor; default `dispatch`.
    pub executor: Option<String>,
    /// Queue; default the first configured one.
    pub queue: Option<String>,
    /// Env bundles.
    pub env: Vec<String>,
    /// `workerInput`.
    pub input: Value,
    /// Instead of the subagent's capabilities, when not empty.
    pub capabilities: Vec<String>,
    /// Who asks.
    pub actor: String,
}

impl Deployment {
    /// Runs one subagent as a run of its own and answers its result. Uses the daemon when one serves, else drives
    /// the run in this process.
    ///
    /// # Errors
    /// [`RuntimeError`]. A failed dispatch is not an error; its result says so.
    pub async fn dispatch_run(&self, request: DispatchRequest) -> Result<Value, RuntimeError> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|error| RuntimeError::Io {
            path: "/dev/urandom".into(),
            source: std::io::Error::other(error.to_string()),
        })?;
        let queue = match request.queue {
            Some(queue) => queue,
            None => self.config.queues.keys().next().map(ToString::to_string).unwrap_or_default(),
        };
        let mut inputs = json!({"subagent": request.subagent, "workerInput": request.input});
        if !request.env.is_empty() {
            inputs["env"] = json!(request.env);
        }
        if !request.capabilities.is_empty() {
            inputs["capabilities"] = json!(request.capabilities);
        }
        let plan = json!({
            "id": format!("{DISPATCH_RUN_PREFIX}{}", keys::hex(&random)),
            "queue": queue,
            "items": [{
                "id": "dispatch",
                "executor": request.executor.as_deref().unwrap_or("dispatch"),
                "inputs": inputs,
                "depends_on": [],
                "resourceLocks": [],
                "maxAttempts": 1,
            }],
        });
        let options = SubmitOptions { queue: None, actor: request.actor };
        let submission = self.submit(plan.to_string().as_bytes(), options).await?;
        let run = submission.run.clone();
        if self.is_served() {
            self.wait_for(&submission).await?;
        } else {
            let (done, ended) = tokio::sync::oneshot::channel::<()>();
            let serve = self.serve(|| {}, async { drop(ended.await) });
            let wait = async {
                let outcome = self.wait_for(&submission).await;
                drop(done);
                outcome
            };
            let (served, waited) = tokio::join!(serve, wait);
            waited?;
            served?;
        }
        self.dispatch_result(&run).await
    }

    async fn wait_for(&self, submission: &Submission) -> Result<(), RuntimeError> {
        while self.answer(&submission.message, Duration::from_secs(3600)).await?.is_none() {}
        let mut watch = self.watch()?;
        while self.summary(&submission.run).await?.outcome.is_none() {
            watch.changed().await?;
        }
        Ok(())
    }

    async fn dispatch_result(&self, run: &RunId) -> Result<Value, RuntimeError> {
        let loaded = self.load(run).await?;
        let item = loaded.state.items().next().ok_or_else(|| not_found(run))?;
        let view = self.run_view(run).await?;
        let item_view = view.items.first().ok_or_else(|| not_found(run))?;
        let attempt = item_view.attempts.last();
        let manifest: Value = match attempt.and_then(|attempt| attempt.manifest_ref) {
            Some(digest) => serde_json::from_slice(&self.blob(&digest).await?).unwrap_or_default(),
            None => Value::Null,
        };
        let evidence = item.attempts.last().and_then(|attempt| attempt.end.as_ref()).map(|end| &end.evidence);
        let stdout = match attempt.and_then(|attempt| attempt.events) {
            Some(digest) => String::from_utf8_lossy(&self.blob(&digest).await?).into_owned(),
            None => String::new(),
        };
        let times = evidence.and_then(|evidence| Some((evidence.started_at?, evidence.finished_at?)));
        Ok(json!({
            "schemaVersion": 1,
            "dispatchId": attempt.map(|attempt| &attempt.dispatch),
            "run": run,
            "status": item_view.status,
            "failure": item.failure(),
            "exitCode": evidence.and_then(|evidence| evidence.exit_code),
            "durationMs": times.map(|(started, finished)| finished - started),
            "stdout": stdout,
            "patch": attempt.and_then(|attempt| attempt.patch),
            "outputs": attempt.map(|attempt| &attempt.outputs),
            "verify": item_view.verify,
            "usage": attempt.and_then(|attempt| attempt.usage.as_ref()),
            "isolation": attempt.and_then(|attempt| attempt.isolation.as_ref()),
            "resolved": {
                "subagent": manifest["subagent"],
                "capabilities": manifest.get("capabilities").cloned().unwrap_or_else(|| json!([])),
                "env": manifest.get("env").cloned().unwrap_or_else(|| json!([])),
                "adapter": manifest["adapter"],
            },
        }))
    }

    /// The result of a dispatch by its id; also while it runs.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`].
    pub async fn dispatch_describe(&self, dispatch: &DispatchId) -> Result<Value, RuntimeError> {
        let (run, item) = self.find_dispatch(dispatch).await?;
        if run.as_str().starts_with(DISPATCH_RUN_PREFIX) {
            return self.dispatch_result(&run).await;
        }
        let view = self.run_view(&run).await?;
        let found = view.items.into_iter().find(|view| view.id == item);
        Ok(json!({"schemaVersion": 1, "dispatchId": dispatch, "run": run, "item": found}))
    }

    /// Cancels the item behind a dispatch; answers the name of the message.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`].
    pub async fn dispatch_cancel(&self, dispatch: &DispatchId, actor: &str) -> Result<String, RuntimeError> {
        let (run, item) = self.find_dispatch(dispatch).await?;
        self.cancel(&run, Some(&item), actor).await
    }

    /// Dispatch ids are derived, so there is no index: newest runs are searched first.
    async fn find_dispatch(&self, dispatch: &DispatchId) -> Result<(RunId, ItemId), RuntimeError> {
        for line in self.runs().await?.into_iter().rev().filter(|line| line.state != "queued") {
            for entry in self.load(&line.run).await?.entries {
                if let EntryBody::ItemFired { item, dispatch: found, .. } = entry.body
                    && found == *dispatch
                {
                    return Ok((line.run, item));
                }
            }
        }
        Err(RuntimeError::NotFound {
            what: format!("dispatch {dispatch}"),
            hint: "`pangolin orch status <run> --json` lists the dispatches of a run".to_owned(),
        })
    }
}
