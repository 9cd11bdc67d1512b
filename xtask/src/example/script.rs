//! `example.json`: what an example does beyond "submit `plan.json` and watch it".

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// An example without the file has one run, `plan.json`, which must end as done.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Script {
    /// What stands for AWS around it.
    #[serde(default)]
    pub(super) emulated: Emulated,
    /// After `init`, before anything is registered.
    #[serde(default)]
    pub(super) prepare: Vec<Step>,
    /// In this order, each submitted when the one before has ended.
    pub(super) runs: Vec<Run>,
}

/// What an example needs of AWS.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Emulated {
    /// Nothing.
    #[default]
    Nothing,
    /// S3, for a daemon of this machine.
    S3,
    /// A whole stack instead of a daemon.
    Stack,
}

/// One run.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Run {
    /// File of the plan.
    pub(super) plan: String,
    /// Its `id`, read from the plan.
    #[serde(skip)]
    pub(super) id: String,
    /// What it is about, for whoever watches.
    #[serde(default)]
    pub(super) say: String,
    /// Whether the graph is drawn before it is submitted.
    #[serde(default)]
    pub(super) draw: bool,
    /// Between submit and watch.
    #[serde(default)]
    pub(super) steps: Vec<Step>,
    /// How it must end.
    #[serde(default = "done")]
    pub(super) outcome: String,
    /// Every item that it must have at the end, with its status. Not checked when empty.
    #[serde(default)]
    pub(super) items: BTreeMap<String, String>,
    /// Items whose log is printed.
    #[serde(default)]
    pub(super) logs: Vec<String>,
    /// Items whose patch is kept and printed.
    #[serde(default)]
    pub(super) patches: Vec<String>,
}

fn done() -> String {
    "done".to_owned()
}

/// One step.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Step {
    /// A command.
    Command(CommandStep),
    /// Wait for an item.
    Until(UntilStep),
}

/// A command of the user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandStep {
    /// Arguments of `pangolin`.
    pub(super) pangolin: Vec<String>,
    /// What it is for, for whoever watches.
    #[serde(default)]
    pub(super) say: String,
    /// Exit code that it must end with.
    #[serde(default)]
    pub(super) exit: i32,
}

/// Waits until an item of the run has a status.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UntilStep {
    /// Id.
    pub(super) until: String,
    /// Status.
    pub(super) is: String,
}

impl Script {
    /// Reads the script of an example, or makes the one that `plan.json` alone stands for.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("example.json");
        let mut script = if path.is_file() {
            serde_json::from_value(json(&path)?).with_context(|| format!("{} is wrong", path.display()))?
        } else {
            let edits = items_with_locks(&json(&dir.join("plan.json"))?);
            Self { emulated: Emulated::Nothing, prepare: Vec::new(), runs: vec![Run::of_plan(edits)] }
        };
        if script.runs.is_empty() {
            bail!("{} names no run", path.display());
        }
        for run in &mut script.runs {
            let plan = dir.join(&run.plan);
            let id = json(&plan)?["id"].as_str().map(str::to_owned);
            run.id = id.with_context(|| format!("{} has no id", plan.display()))?;
        }
        Ok(script)
    }
}

impl Run {
    fn of_plan(patches: Vec<String>) -> Self {
        Self {
            plan: "plan.json".to_owned(),
            id: String::new(),
            say: String::new(),
            draw: false,
            steps: Vec::new(),
            outcome: done(),
            items: BTreeMap::new(),
            logs: Vec::new(),
            patches,
        }
    }
}

/// Those that edit something.
fn items_with_locks(plan: &Value) -> Vec<String> {
    let items = plan["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let holds_lock = |item: &&Value| item["resourceLocks"].as_array().is_some_and(|locks| !locks.is_empty());
    items.iter().filter(holds_lock).filter_map(|item| item["id"].as_str()).map(str::to_owned).collect()
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
}
