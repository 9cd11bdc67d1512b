//! Watching for programs: one JSON object per line and change.
//!
//! First every item and the run, then whatever changed. Two kinds of lines, each with `schemaVersion`:
//! `{"kind":"item","run":…,"item":{…}}` with the whole item as in `orch status --json`, and
//! `{"kind":"run","run":…,"state":…,"terminal":…,"counts":{…},…}`. The last line is of kind `run` with `terminal` true.

use std::collections::HashMap;

use pangolin_core::ids::ItemId;
use pangolin_runtime::views::{ItemView, RunView};
use serde_json::{Value, json};

use crate::{
    error::CliResult,
    printer::{Printer, SCHEMA_VERSION},
};

/// What was printed last.
pub(super) struct Lines<'a> {
    printer: &'a Printer,
    items: HashMap<ItemId, ItemView>,
    run: Option<Value>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self { printer, items: HashMap::new(), run: None }
    }

    /// Prints what differs from the last view.
    pub(super) fn update(&mut self, view: &RunView) -> CliResult<()> {
        for item in &view.items {
            if self.items.get(&item.id) == Some(item) {
                continue;
            }
            let line = json!({ "schemaVersion": SCHEMA_VERSION, "kind": "item", "run": view.summary.run, "item": item });
            self.printer.json_line(&line)?;
            self.items.insert(item.id.clone(), item.clone());
        }
        let line = run_line(view);
        if self.run.as_ref() != Some(&line) {
            self.printer.json_line(&line)?;
            self.run = Some(line);
        }
        Ok(())
    }
}

fn run_line(view: &RunView) -> Value {
    let summary = &view.summary;
    let mut line = json!({
        "schemaVersion": SCHEMA_VERSION,
        "kind": "run",
        "run": summary.run,
        "queue": summary.queue,
        "state": summary.state,
        "terminal": summary.finished_at.is_some(),
        "counts": view.counts,
        "costMicrousd": view.cost_microusd,
        "costComplete": view.cost_complete,
        "submittedAt": summary.submitted_at,
    });
    if let Some(at) = summary.finished_at {
        line["finishedAt"] = json!(at);
    }
    if let Some(failed) = &view.pattern_failure {
        line["patternFailure"] = json!(failed);
    }
    line
}
