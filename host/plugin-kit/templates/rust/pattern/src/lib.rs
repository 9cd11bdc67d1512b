//! Pattern {{id}}: an item whose inputs name a `followUp` subagent gets one more item when it is done.
//!
//! A pattern is pure: the same run gives the same decisions. No clock but `run.now_ms()`, no randomness but
//! `run.seed()`, no network, no files, and no `HashMap`, whose order depends on a seed.

use pangolin_pattern_sdk::{Decisions, Fault, ItemBrief, ItemSpec, Pattern, Run};

struct Mine;

impl Pattern for Mine {
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        for brief in run.changed().filter(ItemBrief::succeeded) {
            let Some((id, spec)) = follow_up(run, &brief)? else { continue };
            out.spawn(&spec)?;
            out.explain(&id, &format!("{} is done and asks for a follow-up", brief.id));
        }
        Ok(())
    }
}

/// What to add after one finished item.
fn follow_up(run: &Run<'_>, brief: &ItemBrief) -> Result<Option<(String, ItemSpec)>, Fault> {
    let item = run.expect(brief.index)?;
    let Some(subagent) = item.input::<serde_json::Value>("followUp")? else { return Ok(None) };
    let id = format!("after-{}", brief.id);
    // Already there: a step may see the same item again after a crash.
    if run.find(&id).is_some() {
        return Ok(None);
    }
    // TODO({{name}}): this is the place for your own decision. What is here adds one item with that subagent.
    let spec = ItemSpec::new(&id, &item.executor()).input("subagent", subagent).depend_on(&brief.id);
    Ok(Some((id, spec)))
}

pangolin_pattern_sdk::export_pattern!(Mine);

/// `cargo test` runs the logic natively, without WebAssembly.
#[cfg(test)]
mod tests {
    use pangolin_pattern_sdk::mock::{MockRun, Outcome};
    use serde_json::json;

    use super::Mine;

    #[test]
    fn a_finished_item_gets_its_follow_up() {
        let mut run = MockRun::of_items([
            json!({"id": "write", "inputs": {"followUp": "checker"}}),
            json!({"id": "plain"}),
        ]);
        run.drive::<Mine>(|_| Outcome::done());
        assert_eq!(run.ids(), ["write", "plain", "after-write"]);
    }
}
