//! A pattern that adds `after-<item>` for each item with the input `followUp`, and breaks the rule of the conformance
//! suite that its parameters name: `{"break": "seed-swap"}`. Without, it keeps all of them.

#![cfg(target_family = "wasm")]

use std::collections::HashMap;

use pangolin_pattern_sdk::{
    Decisions, Fault, GuestDecide, GuestPlanner, ItemSpec, Pattern, Run, WitDecisions, WitFault, WitRunView,
    bindings, fault, run_plan, run_step,
};
use serde_json::Value;

struct Broken;

fn broken(params: &str) -> String {
    let params: Value = serde_json::from_str(params).unwrap_or_default();
    params["break"].as_str().unwrap_or_default().to_owned()
}

impl Pattern for Broken {
    fn plan(run: &Run<'_>, _: &Decisions<'_>) -> Result<(), Fault> {
        let what = run.params::<Value>().map(|params| broken(&params.to_string())).unwrap_or_default();
        for brief in run.items().filter(|_| what == "planner") {
            let json = run.expect(brief.index)?.input_json("followUp");
            if let Some(follow) = json {
                let follow: Value = serde_json::from_str(&follow).unwrap_or_default();
                assert!(follow.is_string(), "a planner that takes its configuration for granted");
            }
        }
        Ok(())
    }

    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let what = run.params::<Value>().map(|params| broken(&params.to_string())).unwrap_or_default();
        let known = [
            "pending",
            "ready",
            "running",
            "done",
            "failed",
            "skipped",
            "cancelled",
            "denied",
            "needs-input",
            "retry-wait",
        ];
        match &*what {
            "seed-swap" => {
                let map: HashMap<u32, u32> = (0..50).map(|n| (n, n)).collect();
                let order: Vec<String> = map.keys().map(u32::to_string).collect();
                out.explain("order", &order.join(","));
            }
            "limits" if run.len() > 5_000 => loop {
                std::hint::black_box(run.len());
            },
            _ => {}
        }
        for brief in run.changed() {
            let item = run.expect(brief.index)?;
            assert!(what != "unknowns" || known.contains(&&*item.state()), "a state of a later version");
            assert!(what != "no-traps" || !item.has_output("x~y"), "an output that only a random view has");
            let asks = item.input_json("followUp").is_some();
            if !brief.succeeded() || !asks {
                continue;
            }
            let id = match &*what {
                "idempotence" => format!("after-{}-{}", brief.id, run.len()),
                _ => format!("after-{}", brief.id),
            };
            if run.find(&id).is_some() {
                continue;
            }
            let waits = if what == "decisions" { "nobody" } else { &*brief.id };
            let spec = ItemSpec::new(&id, &item.executor()).depend_on(waits);
            match out.spawn(&spec) {
                Ok(()) => {}
                Err(_) if what == "refusals" => panic!("a refusal that nobody thought of"),
                Err(refusal) => return Err(fault("refused", refusal.reason)),
            }
        }
        Ok(())
    }
}

struct Exported;

impl GuestDecide for Exported {
    fn step(view: &WitRunView, out: &WitDecisions) -> Result<(), WitFault> {
        if broken(&view.params_json()) == "page-size" {
            // Only the first page.
            let ids: Vec<String> = view.changed(0, 1_024).into_iter().map(|brief| brief.id).collect();
            out.explain("changed", &ids.join(","));
        }
        run_step::<Broken>(view, out)
    }
}

impl GuestPlanner for Exported {
    fn plan(view: &WitRunView, out: &WitDecisions) -> Result<(), WitFault> {
        run_plan::<Broken>(view, out)
    }
}

bindings::export!(Exported with_types_in bindings);
