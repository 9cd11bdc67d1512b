//! Pattern {{id}}: an item whose inputs name a `followUp` subagent gets one more item when it is done.
//!
//! A pattern is pure: the same view gives the same decisions. No clock but `view.now_ms()`, no randomness but
//! `view.seed()`, no network, no files, and no `HashMap`, whose order depends on a seed.

use pangolin_pattern_sdk::{Decisions, Fault, ItemBrief, ItemSpec, Pattern, Phase, RunView, fault, log};

const PAGE: u32 = 256;

struct Mine;

impl Pattern for Mine {
    fn step(view: &RunView, out: &Decisions) -> Result<(), Fault> {
        for brief in changed(view).filter(|brief| brief.phase == Phase::Succeeded) {
            let Some((id, spec)) = follow_up(view, &brief) else { continue };
            out.spawn(spec).map_err(|refusal| {
                fault("refused", format!("{} {:?}: {}", refusal.capability, refusal.subject, refusal.reason))
            })?;
            out.explain(&id, &format!("{} is done and asks for a follow-up", brief.id));
            log::emit(log::Level::Info, &format!("{id} added"));
        }
        Ok(())
    }
}

/// What ended since the step before, page by page.
fn changed(view: &RunView) -> impl Iterator<Item = ItemBrief> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let page = view.changed(offset, PAGE);
        offset += page.len() as u32;
        (!page.is_empty()).then_some(page)
    })
    .flatten()
}

/// What to add after one finished item.
fn follow_up(view: &RunView, brief: &ItemBrief) -> Option<(String, ItemSpec)> {
    let item = view.item(brief.index)?;
    let subagent = item.input_json("followUp")?;
    let id = format!("after-{}", brief.id);
    // Already there: a step may see the same item again after a crash.
    if view.find(&id).is_some() {
        return None;
    }
    // TODO({{name}}): this is the place for your own decision. What is here adds one item with that subagent.
    let spec = ItemSpec::new(&id, &item.executor());
    spec.set_input_json("subagent", &subagent);
    spec.depend_on(&brief.id);
    Some((id, spec))
}

pangolin_pattern_sdk::export_pattern!(Mine);
