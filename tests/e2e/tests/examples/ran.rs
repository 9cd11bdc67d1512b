//! An example that has run.

use std::{collections::BTreeMap, fs};

use pangolin_e2e::{
    root,
    world::{World, item},
};
use serde_json::Value;

/// Id to what it waited for and how it ended.
pub(crate) type Graph = BTreeMap<String, (Vec<String>, String)>;

/// What is left of it.
pub(crate) struct Ran {
    pub(crate) world: World,
    /// What it printed as data.
    pub(crate) stdout: String,
}

impl Ran {
    /// Runs it. Whatever the example, it ends with one audit block per run, its README says how to start it and shows
    /// the drawing of its plan, and that drawing is the one that is drawn today.
    pub(crate) fn new(name: &str, runs: usize) -> Self {
        let (world, output) = World::ran_example(name);
        let output = output.ok();
        let stdout = output.text();
        // `orch audit` prints a block too; those of the example are the last ones.
        let blocks: Vec<&str> = stdout.split("\n=== Audit bundle").skip(1).collect();
        assert_eq!(blocks.len(), 2 * runs, "{stdout}");
        for block in &blocks[runs..] {
            for line in [
                "intact: true",
                "claim: tamper-detecting",
                "anchorId: local",
                "guarantee: detect",
                "replay: agrees (",
            ] {
                assert!(block.contains(&format!("\n{line}")), "{line}: {block}");
            }
        }

        let example = root().join("examples").join(name);
        let readme = fs::read_to_string(example.join("README.md")).unwrap();
        assert!(readme.contains(&format!("cargo xtask example {name}\n")), "{readme}");
        assert!(readme.contains("](plan.svg)"), "{readme}");
        let expected = readme.split_once("\n## What to expect\n").unwrap().1;
        let first = expected.trim_start().lines().next().unwrap();
        assert!(output.stderr.contains(first), "it does not say what to expect:\n{}", output.stderr);

        let drawn = fs::read_to_string(world.path().join("plan.svg")).unwrap();
        let kept = fs::read_to_string(example.join("plan.svg")).unwrap();
        assert!(
            drawn == kept,
            "examples/{name}/plan.svg is old; renew it: cargo xtask example {name} --keep-drawings\n{drawn}"
        );
        Self { world, stdout }
    }

    /// The graph of a run, with who took whose place left out.
    pub(crate) fn graph(&self, run: &str) -> Graph {
        let view = self.world.status(run);
        let items = view["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| {
                let mut after: Vec<String> =
                    item["depends_on"].as_array().unwrap().iter().map(text).collect();
                after.sort();
                (text(&item["id"]), (after, text(&item["status"])))
            })
            .collect()
    }

    /// One item of a run.
    pub(crate) fn item(&self, run: &str, id: &str) -> Value {
        item(&self.world.status(run), id).clone()
    }

    /// What the agent of an item wrote.
    pub(crate) fn log(&self, item: &str) -> String {
        self.world.run(&["orch", "logs", item]).ok().text()
    }

    /// Verdict by plugin of the blocks that an item's worker ran.
    pub(crate) fn blocks(&self, item: &str) -> BTreeMap<String, bool> {
        let events = self.world.run(&["orch", "logs", item, "--events"]).ok().text();
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events
            .filter_map(|event| Some((event["plugin"].as_str()?.to_owned(), event["passed"].as_bool()?)))
            .collect()
    }

    /// The report about a bundle, with the key of the deployment.
    pub(crate) fn report(&self, bundle: &str) -> Value {
        let args = ["verify", bundle, "--key", ".pangolin/keys/deployment.vkey", "--json"];
        self.world.run(&args).ok().json()
    }
}

/// `("id", &["after"…], "status")` as a graph.
pub(crate) fn graph(items: &[(&str, &[&str], &str)]) -> Graph {
    items
        .iter()
        .map(|(id, after, status)| {
            let after = after.iter().map(|id| (*id).to_owned()).collect();
            ((*id).to_owned(), (after, (*status).to_owned()))
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
