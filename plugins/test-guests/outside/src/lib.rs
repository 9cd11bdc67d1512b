//! A pattern that looks at the clock and at a file: it must be refused before it runs.

#![cfg(target_family = "wasm")]

use pangolin_pattern_sdk::raw::{Decisions, Fault, Pattern, RunView};

struct Outside;

impl Pattern for Outside {
    fn step(view: &RunView, out: &Decisions) -> Result<(), Fault> {
        let now = std::time::SystemTime::now();
        let text = std::fs::read_to_string(view.params_json()).unwrap_or_default();
        out.explain(&text, &format!("{now:?}"));
        Ok(())
    }
}

pangolin_pattern_sdk::export_raw_pattern!(Outside);
