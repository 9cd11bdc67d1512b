//! Plugins that break one rule each are rejected by exactly the check that is about it.

use std::{
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use pangolin_core::{ids::Digest, pattern::RunView};
use pangolin_plugin_conformance::{
    Fixture, FixtureFile, Options, PatternFixture, PatternSubject, When, check_pattern,
};
use pangolin_plugin_host::{Limits, PatternComponent, PluginError, Probe, StepOutcome};
use serde_json::json;

use super::{assert_fails, assert_passes, fixtures, host, kept, report, repository};

/// Builds a guest of `plugins/test-guests`.
fn guest(package: &str) -> Vec<u8> {
    static BUILT: OnceLock<()> = OnceLock::new();
    let plugins = repository().join("plugins");
    BUILT.get_or_init(|| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let outer = name.starts_with("CARGO_") || name.starts_with("RUSTC") || name == "RUSTFLAGS";
            if name != "CARGO_HOME" && outer {
                command.env_remove(name);
            }
        }
        let output = command
            .current_dir(&plugins)
            .args([
                "build",
                "--release",
                "--locked",
                "--target",
                "wasm32-wasip2",
                "--target-dir",
                "target/guests",
            ])
            .args(["-p", "pangolin-test-broken-pattern", "-p", "pangolin-test-broken-adapter"])
            .args(["-p", "pangolin-test-broken-block", "-p", "pangolin-test-outside"])
            .output()
            .expect("cargo starts");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "building plugins/test-guests failed:\n{log}");
    });
    let file = format!("target/guests/wasm32-wasip2/release/{}.wasm", package.replace('-', "_"));
    std::fs::read(plugins.join(file)).expect("it was built")
}

/// A case for the kept hostile pattern, whose parameters are no JSON object.
pub(crate) fn hostile(what: &str) -> Vec<FixtureFile> {
    let item =
        json!({ "id": "a", "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": [] });
    let plan = json!({ "id": "hostile-1", "queue": "q", "items": [item] });
    let fixture = PatternFixture { plan, params: json!(what), expect_plan: None, steps: Vec::new() };
    vec![FixtureFile {
        path: what.into(),
        name: what.to_owned(),
        fixture: Fixture::Pattern(Box::new(fixture)),
    }]
}

async fn each_is_rejected(kind: &str) {
    let component = guest(&format!("pangolin-test-broken-{kind}"));
    let all = fixtures(&format!("broken/{kind}"), &component);
    assert!(all.len() >= 9, "{} cases", all.len());
    for fixture in all {
        // The adapter and the block read 4 MiB there; the pattern spins above 5,000 items.
        let few = Options { large_items: if fixture.name == "limits" { 6_000 } else { 200 } };
        let report = report(&component, std::slice::from_ref(&fixture), &few).await;
        match fixture.name.as_str() {
            "none" => assert_passes(kind, &report),
            name => assert_fails(kind, &report, name),
        }
    }
}

#[tokio::test]
async fn patterns() {
    each_is_rejected("pattern").await;
}

#[tokio::test]
async fn adapters() {
    each_is_rejected("adapter").await;
}

#[tokio::test]
async fn blocks() {
    each_is_rejected("block").await;
}

#[tokio::test]
async fn what_imports_more_than_its_contract() {
    let report = report(&guest("pangolin-test-outside"), &[], &Options::default()).await;
    assert_fails("outside", &report, "contract");
    assert_eq!(report.checks.len(), 1, "nothing of it runs");
}

/// No sandbox lets a component answer differently; this one counts its answers natively.
struct Forgetful {
    component: PatternComponent,
    asked: AtomicU64,
    fuel_only: bool,
}

impl PatternSubject for Forgetful {
    fn digest(&self) -> Digest {
        self.component.digest()
    }

    fn has_planner(&self) -> bool {
        self.component.has_planner()
    }

    async fn ask(&self, when: When, view: &Arc<RunView>, probe: Probe) -> Result<StepOutcome, PluginError> {
        let component = self.component.with_limits(Limits { probe, ..Limits::pure() });
        let mut outcome = match when {
            When::Step => component.step(view).await?,
            When::Plan => component.plan(view).await?.expect("it has a planner"),
        };
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.fuel_only {
            outcome.bill.fuel += asked;
        } else {
            outcome.decisions.close = asked.is_multiple_of(2);
        }
        Ok(outcome)
    }
}

#[tokio::test]
async fn answers_that_change_by_themselves() {
    let component = host().load_pattern(&kept("pattern/1.0.0-rust-static-dag.wasm")).expect("loads");
    for fuel_only in [true, false] {
        let subject = Forgetful { component: component.clone(), asked: AtomicU64::new(0), fuel_only };
        let checks = check_pattern(&subject, &[], &Options { large_items: 10 }).await;
        let twice = checks.iter().find(|check| check.name == "twice-run").expect("always there");
        let words =
            if fuel_only { "asking again changes the fuel" } else { "asking again changes the decisions" };
        assert!(twice.detail.starts_with(words), "{}", twice.detail);
    }
}
