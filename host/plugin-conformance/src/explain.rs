//! One recorded case in words: what was asked, what was decided and why, and what it cost.

use pangolin_core::pattern::{Decisions, Tolerated};
use pangolin_envelope::plugin::PluginEvidence;
use pangolin_plugin_authority::{Kind, LimitSet, inspect};
use pangolin_plugin_host::{Limits, LogLevel, LogLine, PluginError, PluginHost};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use crate::{
    adapter,
    bill::Cost,
    block,
    check::{CheckError, limits_of},
    fixture::{AdapterFixture, BlockFixture, Fixture, FixtureError, FixtureFile, PatternFixture},
    pattern::{Loaded, PatternSubject, WalkStep, walk, write_expectations},
};

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// What happened.
    Plain,
    /// Something new in the run.
    Added,
    /// A reason, in the plugin's words.
    Why,
    /// Not as expected, or failed.
    Wrong,
    /// The plugin's log.
    Log,
}

/// One call, or one step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// `plan`, `step 2`, `prepare`, …
    pub title: String,
    /// What happened. Text of the plugin is in it: show it without control characters.
    pub lines: Vec<(Line, String)>,
    /// What it cost; absent when the plugin was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill: Option<Cost>,
}

/// A case, gone through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Name of the fixture.
    pub fixture: String,
    /// What happened, in order.
    pub parts: Vec<Part>,
    /// What is not as the fixture says.
    pub problems: Vec<String>,
}

/// Why a case cannot be gone through.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The bytes are no component.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It cannot be loaded.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The fixture cannot be written.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// Exports of no kind.
    #[error("its exports are not those of one kind of plugin; `pangolin plugin inspect` lists them")]
    NoKind,
    /// The fixture is for something else.
    #[error("fixture {fixture} is not for a {plugin}")]
    Kind {
        /// Name of the fixture.
        fixture: String,
        /// The plugin.
        plugin: Kind,
    },
}

/// Goes through a recorded case. With `update` what was found becomes what the fixture expects.
///
/// # Errors
/// [`ExplainError`].
pub async fn explain(
    host: &PluginHost,
    component: &[u8],
    file: &FixtureFile,
    update: bool,
) -> Result<Explained, ExplainError> {
    let inspection = inspect(component).map_err(CheckError::from)?;
    let kind = inspection.kind.ok_or(ExplainError::NoKind)?;
    let manifest = inspection.manifest.as_ref();
    let wishes = manifest.map_or_else(LimitSet::default, |manifest| manifest.limits);
    let mut explained = Explained { fixture: file.name.clone(), parts: Vec::new(), problems: Vec::new() };
    match (kind, &file.fixture) {
        (Kind::Pattern, Fixture::Pattern(fixture)) => {
            let limits = limits_of(&wishes, Limits::pure());
            let subject = Loaded::new(host.load_pattern_with(component, limits.clone())?, limits);
            pattern(&subject, fixture, file, update, &mut explained).await?;
        }
        (Kind::RuntimeAdapter, Fixture::Adapter(fixture)) => {
            let adapter = host.load_adapter_with(component, limits_of(&wishes, Limits::effect()))?;
            let (found, bill) = adapter::seen(&adapter, fixture).await;
            explained.parts.extend(prepared(&adapter, fixture).await);
            let mut lines = Vec::new();
            for (key, value) in crate::mutate::members(&json!(found)) {
                if !matches!(key.as_str(), "program" | "args" | "envSecrets" | "fault") {
                    lines.push((Line::Plain, format!("{key} {value}")));
                }
            }
            if found.fault.is_none() {
                explained.parts.push(Part { title: "read".to_owned(), lines, bill });
            }
            if update {
                adapter::write_expectations(file, &found)?;
            } else {
                explained.problems = adapter::differences(&fixture.expect, &found);
            }
        }
        (Kind::Block, Fixture::Block(fixture)) => {
            let loaded = host.load_block(component)?;
            let granted = block::asked(manifest);
            let (evidence, world) = block::seen(&loaded, &granted, fixture, &file.name).await;
            let found = block::found(&evidence, &world);
            let limits = fixture.grant.as_ref().map_or(&granted.limits, |grant| &grant.limits);
            let bill = Some(Cost::of_block(&evidence.bill, limits));
            explained.parts.push(Part { title: "run".to_owned(), lines: ran(fixture, &evidence), bill });
            if update {
                block::write_expectations(file, &found)?;
            } else {
                explained.problems = block::differences(&fixture.expect, &found, &evidence);
            }
        }
        (plugin, _) => return Err(ExplainError::Kind { fixture: file.name.clone(), plugin }),
    }
    Ok(explained)
}

async fn pattern<S: PatternSubject>(
    subject: &S,
    fixture: &PatternFixture,
    file: &FixtureFile,
    update: bool,
    explained: &mut Explained,
) -> Result<(), ExplainError> {
    let steps = walk(subject, fixture).await;
    for step in &steps {
        explained.parts.push(step_part(step));
    }
    if update {
        explained.problems = steps.iter().filter_map(WalkStep::broken).collect();
        write_expectations(file, &steps)?;
    } else {
        explained.problems = steps.iter().flat_map(WalkStep::problems).collect();
    }
    Ok(())
}

fn step_part(step: &WalkStep) -> Part {
    let mut lines = Vec::new();
    for (item, how) in &step.ended {
        lines.push((Line::Plain, format!("{item} ends: {how}")));
    }
    let mut bill = None;
    match &step.answer {
        None => lines.push((Line::Plain, "the pattern is not asked".to_owned())),
        Some(Err(error)) => {
            lines.push((Line::Wrong, error.failure.to_string()));
            if let Some(record) = &error.call {
                bill = Some(Cost::from(&record.bill));
                lines.extend(log(&record.log));
            }
        }
        Some(Ok(outcome)) => {
            bill = Some(Cost::from(&outcome.bill));
            decided(&outcome.decisions, step, &mut lines);
            lines.extend(log(&outcome.log));
        }
    }
    lines.extend(step.broken().map(|problem| (Line::Wrong, problem)));
    if !step.states.is_empty() {
        let states: Vec<String> = step.states.iter().map(|(item, state)| format!("{item} {state}")).collect();
        lines.push((Line::Plain, format!("the run: {}", states.join(", "))));
    }
    Part { title: step.title.clone(), lines, bill }
}

fn decided(decisions: &Decisions, step: &WalkStep, lines: &mut Vec<(Line, String)>) {
    for finding in &decisions.findings {
        let hint = finding.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        lines.push((Line::Wrong, format!("finding {}: {}{hint}", finding.pointer, finding.message)));
    }
    for order in &decisions.ordered {
        lines.push((Line::Plain, format!("{} waits for {}", order.item, order.after)));
    }
    for item in &decisions.held {
        lines.push((Line::Plain, format!("{item} holds back what waits for it when its verify is red")));
    }
    for spec in &decisions.spawned {
        let item = step.added.iter().find(|item| item.id == spec.id);
        let after = item.map_or_else(String::new, |item| match item.depends_on.as_slice() {
            [] => String::new(),
            ids => format!(" after {}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        });
        let place = spec.supersedes.as_ref().map_or_else(String::new, |old| format!(", in place of {old}"));
        lines.push((Line::Added, format!("adds {}{after}{place}", spec.id)));
    }
    for tolerated in &decisions.tolerated {
        let Tolerated { items, why } = tolerated;
        let (shown, more) = (items.iter().take(10), items.len().saturating_sub(10));
        let shown: Vec<String> = shown.map(ToString::to_string).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = shown.join(", ");
        lines.push((Line::Plain, format!("tolerates {shown}{more}, which ended without success: {why}")));
    }
    for explanation in &decisions.explanations {
        lines.push((Line::Why, format!("{}: {}", explanation.item, explanation.why)));
    }
    for possible in &decisions.possible {
        lines.push((Line::Plain, format!("may add {} later: {}", possible.id, possible.why)));
    }
    if decisions.close {
        lines.push((Line::Plain, "closes: it is not asked again".to_owned()));
    } else if lines.iter().all(|(line, _)| *line == Line::Plain) && decisions.spawned.is_empty() {
        lines.push((Line::Plain, "adds nothing".to_owned()));
    }
}

fn log(lines: &[LogLine]) -> impl Iterator<Item = (Line, String)> {
    lines.iter().map(|line| {
        let level = match line.level {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        };
        (Line::Log, format!("{level} {}", line.text))
    })
}

async fn prepared(
    component: &pangolin_plugin_host::AdapterComponent,
    fixture: &AdapterFixture,
) -> Option<Part> {
    let title = "prepare".to_owned();
    Some(match component.prepare_recorded(&adapter::task(&fixture.task)).await {
        Err(error) => {
            let mut lines = vec![(Line::Wrong, error.failure.to_string())];
            let bill = error.call.as_ref().map(|record| Cost::from(&record.bill));
            lines.extend(error.call.iter().flat_map(|record| log(&record.log)));
            Part { title, lines, bill }
        }
        Ok((plan, record)) => {
            let mut lines = vec![(Line::Plain, format!("starts {}", json!(plan.program)))];
            lines.push((Line::Plain, format!("arguments {}", json!(plan.args))));
            for (name, value) in &plan.env {
                lines.push((Line::Plain, format!("variable {name}={}", json!(value))));
            }
            for (name, secret) in &plan.env_secrets {
                lines.push((Line::Plain, format!("variable {name} holds secret {secret}")));
            }
            for (path, text) in &plan.files {
                lines.push((Line::Plain, format!("file {path}, {} bytes", text.len())));
            }
            lines.push((Line::Plain, format!("{} bytes on standard input", plan.stdin.len())));
            lines.extend(log(&record.log));
            Part { title, lines, bill: Some(Cost::from(&record.bill)) }
        }
    })
}

fn ran(fixture: &BlockFixture, evidence: &PluginEvidence) -> Vec<(Line, String)> {
    let mut lines =
        vec![(Line::Plain, format!("{} files, lens {}", fixture.world_files().len(), evidence.lens))];
    if let Some(verdict) = &evidence.verdict {
        let word = if verdict.passed { "green" } else { "red" };
        lines.push((Line::Added, format!("{word}: {}", verdict.summary)));
    }
    if let Some(failure) = &evidence.failure {
        lines.push((Line::Wrong, failure.message.clone()));
    }
    for (key, value) in &evidence.evidence {
        lines.push((Line::Plain, format!("evidence {key} {value}")));
    }
    for artifact in &evidence.artifacts {
        lines.push((Line::Plain, format!("artifact {}, {} bytes", artifact.path, artifact.size)));
    }
    for denial in &evidence.denials {
        let (capability, subject, rule) = (&denial.capability, &denial.subject, &denial.rule);
        lines.push((Line::Wrong, format!("denied {capability} {subject}: {rule}")));
    }
    for run in &evidence.programs {
        lines.push((Line::Plain, format!("ran {} {}", run.program, run.args.join(" "))));
    }
    lines.extend(evidence.log.iter().map(|line| (Line::Log, line.clone())));
    lines
}
