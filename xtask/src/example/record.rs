//! The record of a run at the end of an example: audit block and replay.

use anyhow::{Result, bail};
use serde_json::Value;

/// What the verifier said about one run.
pub(super) struct Record {
    /// Run.
    pub(super) run: String,
    /// Bundle, relative to the example's directory.
    pub(super) file: String,
    /// `verify --json`.
    pub(super) report: Value,
    /// `verify --replay --json`.
    pub(super) replay: Value,
}

impl Record {
    /// The block that ends an example. `title` names the run when there are several.
    pub(super) fn block(&self, title: &str) -> Result<String> {
        let field = |name: &str| -> Result<String> {
            match &self.report[name] {
                Value::Bool(value) => Ok(value.to_string()),
                Value::String(value) => Ok(value.clone()),
                other => bail!("the verifier's report has {name} = {other}"),
            }
        };
        Ok(format!(
            "\n=== Audit bundle{title} ===\nintact: {}\nclaim: {}\nanchorId: {}\nguarantee: {}\n{}",
            field("intact")?,
            field("claim")?,
            field("anchorId")?,
            field("guarantee")?,
            self.replayed(),
        ))
    }

    /// Nothing for a run without decisions.
    fn replayed(&self) -> String {
        let replay = &self.replay["replay"];
        match (replay["verdict"].as_str(), replay["agreed"].as_u64(), replay["steps"].as_u64()) {
            (Some("nothing") | None, _, _) => String::new(),
            (Some(verdict), agreed, steps) => format!(
                "replay: {verdict} ({} of {} steps)\n",
                agreed.unwrap_or_default(),
                steps.unwrap_or_default()
            ),
        }
    }

    /// Fails unless the bundle is intact, every decision is repeated and the run ended as it should.
    /// With an anchor outside of the deployment, it must also be tamper-evident.
    pub(super) fn check(&self, outcome: &str, anchored: bool, dir: &str) -> Result<()> {
        let Self { run, file, report, replay } = self;
        if anchored && report["claim"] != "tamper-evident" {
            bail!("{file} in {dir} is not tamper-evident; `pangolin verify --live {file}` says why");
        }
        if report["intact"] != Value::Bool(true) {
            bail!("the bundle in {dir} is not intact; `pangolin verify --full {file}` says why");
        }
        match replay["replay"]["verdict"].as_str() {
            Some("agrees" | "nothing") => {}
            other => bail!("replay of {dir}/{file}: {}", other.unwrap_or("no answer")),
        }
        if report["outcome"] != outcome {
            bail!(
                "the run ended as {}, not {outcome:?}; in {dir}: `pangolin orch status {run}` says why",
                report["outcome"]
            );
        }
        Ok(())
    }
}
