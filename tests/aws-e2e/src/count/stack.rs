//! Counting a stack of real functions and workers.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use pangolin_core::ids::RunId;
use pangolin_runtime::deployment::SubmitOptions;
use serde_json::{Value, json};

use super::{
    plan::{Shape, plan},
    report::{self, Used},
};
use crate::{EmulatedStack, IMAGE, Options};

const AGENT: &str = "say";
const FUNCTIONS: [&str; 3] = ["inbox", "tick", "task-events"];

/// Runs as many runs of as many items, one after the other, in one stack; answers a line for each.
///
/// # Errors
/// Whatever goes wrong, and a run that does not succeed.
///
/// # Panics
/// When the stack does not start, as in tests.
pub async fn count(
    programs: &Path,
    runs: usize,
    items: usize,
    shape: Shape,
    concurrency: usize,
) -> Result<Vec<Value>, Box<dyn Error>> {
    let project = tempfile::tempdir()?;
    let config = format!(
        "namespace = \"count\"\n[queues.default]\nconcurrency = {concurrency}\n[executors.dispatch]\nbackend = \"fargate\"\n\
         network = \"host\"\nimage = \"{IMAGE}\"\ncpus = 0.25\nmemory_mb = 512\n[retry]\ntimeout_seconds = 3600\n"
    );
    fs::write(project.path().join("pangolin.toml"), config)?;
    let Some(stack) = EmulatedStack::deploy(programs, project.path(), Options::default()).await else {
        return Ok(Vec::new());
    };
    let (home, _dir) = stack.at_home().await;
    stack.agent(&home, AGENT, "echo done").await;
    stack.lambda.tick_clock().await?;
    let (mut before, mut lines) = (Seen::of(&stack)?, Vec::new());
    for number in 1..=runs {
        let run = format!("count-{number}");
        let options = SubmitOptions { queue: None, actor: "human:count".to_owned() };
        home.submit(&plan(&run, items, shape, AGENT), options).await?;
        let outcome = stack.until_ended(&home, &run).await;
        let view = home.run_view(&RunId::new(run)?).await?;
        if outcome != "Done" || view.items.iter().any(|item| item.attempts.len() != 1) {
            return Err(format!("the run ended with {outcome}: {}", stack.logs()).into());
        }
        let now = Seen::of(&stack)?;
        let head = json!({
            "bench": "calls", "shape": format!("stack-{}", shape.name()), "run": number, "concurrency": concurrency,
            "lambdaRequests": now.invocations_since(&before),
        });
        lines.push(report::line(head, items, &now.calls_since(&before)));
        before = now;
    }
    Ok(lines)
}

struct Seen {
    calls: BTreeMap<String, Used>,
    invocations: BTreeMap<&'static str, usize>,
}

impl Seen {
    fn of(stack: &EmulatedStack) -> Result<Self, Box<dyn Error>> {
        let mut calls: BTreeMap<String, Used> = BTreeMap::new();
        for (kind, count) in stack.proxy.counts() {
            let who = if kind.caller == "tick" { String::new() } else { format!(" ({})", kind.caller) };
            let name = format!("{} {} {}{who}", kind.service, kind.operation, kind.class);
            calls.entry(name).or_default().calls += count.calls;
        }
        let mut invocations = BTreeMap::new();
        for function in FUNCTIONS {
            invocations.insert(function, stack.lambda.invocations(function)?.len());
        }
        Ok(Self { calls, invocations })
    }

    fn calls_since(&self, before: &Self) -> BTreeMap<String, Used> {
        let since = |(kind, used): (&String, &Used)| {
            let earlier = before.calls.get(kind).map_or(0, |used| used.calls);
            (used.calls > earlier)
                .then(|| (kind.clone(), Used { calls: used.calls - earlier, ..Used::default() }))
        };
        self.calls.iter().filter_map(since).collect()
    }

    fn invocations_since(&self, before: &Self) -> BTreeMap<&'static str, usize> {
        let since = |(name, count): (&&'static str, &usize)| {
            (*name, count.saturating_sub(before.invocations.get(name).copied().unwrap_or_default()))
        };
        self.invocations.iter().map(since).collect()
    }
}
