//! What a replay says: one report, as JSON for programs and as text for people.

use std::fmt::Write as _;

use pangolin_core::ids::Digest;
use serde::{Deserialize, Serialize};

use crate::compare::Differs;

/// Version of the report's JSON.
pub const REPLAY_REPORT_VERSION: u32 = 1;

/// Notes and steps that are listed one by one.
const LISTED_MAX: usize = 20;

/// The judgement in one word. `differs` outranks `not-executed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayVerdict {
    /// Every step was executed again and decided the same.
    Agrees,
    /// A step decides otherwise than recorded, or saw something else than the entries say.
    Differs,
    /// No difference, but at least one step could not be executed here.
    NotExecuted,
    /// The run has no decisions.
    Nothing,
}

impl ReplayVerdict {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Differs => "differs",
            Self::NotExecuted => "not-executed",
            Self::Nothing => "nothing",
        }
    }
}

/// The first difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Step of the pattern.
    pub step: u64,
    /// Entry that records it.
    pub seq: u64,
    /// The component that was asked now.
    pub component: Digest,
    /// What is different.
    #[serde(flatten)]
    pub what: Differs,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, seq, component: _, what } = self;
        write!(f, "step {step} (entry seq {seq})")?;
        if let Some(item) = &what.item {
            write!(f, ", item {item}")?;
        }
        write!(f, ", {}: recorded {}, now {}", what.member, what.recorded, what.now)
    }
}

/// A step that could not be executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotExecuted {
    /// Step of the pattern.
    pub step: u64,
    /// Entry that records it.
    pub seq: u64,
    /// Why, with the next step where there is one.
    pub reason: String,
}

/// One component that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Its digest.
    pub digest: Digest,
    /// Contract that the host served when it was recorded.
    pub contract: String,
    /// Engine that it ran on.
    pub engine: String,
    /// Profile that it ran with.
    pub profile: String,
    /// Steps that are recorded of it.
    pub steps: u64,
    /// Fuel over these steps, as recorded.
    pub fuel_recorded: u64,
    /// Fuel over the steps that were executed, now.
    pub fuel_now: u64,
}

/// The replay report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    /// [`REPLAY_REPORT_VERSION`].
    pub schema_version: u32,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<String>,
    /// The judgement.
    pub verdict: ReplayVerdict,
    /// Engine of this program.
    pub engine: String,
    /// Recorded steps.
    pub steps: u64,
    /// Steps that were executed and decided, or failed, as recorded.
    pub agreed: u64,
    /// Steps that are recorded as failed for a reason of the machine or the deployment (wall time, memory of the host,
    /// names): such a failure cannot be proven, so the replay says nothing about it.
    pub unrepeatable: u64,
    /// Executions that `pattern.moved` claims and that were repeated as well.
    pub moves_checked: u64,
    /// The first difference; nothing after it was executed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub difference: Option<Difference>,
    /// Steps that could not be executed; the first 20.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_executed: Vec<NotExecuted>,
    /// How many there are.
    pub not_executed_count: u64,
    /// The components in the order of their first step.
    pub components: Vec<Component>,
    /// What is worth knowing and no difference: another engine, other fuel, a failure that is the host's.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
}

impl ReplayReport {
    pub(crate) fn empty() -> Self {
        Self {
            schema_version: REPLAY_REPORT_VERSION,
            run_id: None,
            verdict: ReplayVerdict::Nothing,
            engine: pangolin_plugin_host::engine_id().to_owned(),
            steps: 0,
            agreed: 0,
            unrepeatable: 0,
            moves_checked: 0,
            difference: None,
            not_executed: Vec::new(),
            not_executed_count: 0,
            components: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn skip(&mut self, step: u64, seq: u64, reason: String) {
        self.not_executed_count += 1;
        if self.not_executed.len() < LISTED_MAX {
            self.not_executed.push(NotExecuted { step, seq, reason });
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        if self.notes.len() < LISTED_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub(crate) fn conclude(mut self) -> Self {
        self.verdict = if self.difference.is_some() {
            ReplayVerdict::Differs
        } else if self.not_executed_count > 0 {
            ReplayVerdict::NotExecuted
        } else if self.steps == 0 {
            ReplayVerdict::Nothing
        } else {
            ReplayVerdict::Agrees
        };
        for component in &self.components {
            if self.difference.is_none()
                && self.not_executed_count == 0
                && component.fuel_now != component.fuel_recorded
            {
                let Component { digest, fuel_recorded, fuel_now, .. } = component;
                let note = format!("{digest} used {fuel_now} units of fuel, {fuel_recorded} are recorded");
                self.notes.push(note);
            }
        }
        self
    }
}

/// The report as text, without control characters that it would have from a bundle; ends with a newline.
#[must_use]
pub fn render_replay(report: &ReplayReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = render(report, &mut text);
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn render(report: &ReplayReport, out: &mut String) -> std::fmt::Result {
    let ReplayReport { steps, agreed, not_executed_count, .. } = report;
    match report.verdict {
        ReplayVerdict::Agrees => {
            let open = match report.unrepeatable {
                0 => String::new(),
                count => format!(", {count} not provable"),
            };
            writeln!(
                out,
                "✓ REPLAY  {agreed} of {steps} steps decide as recorded{open} ({})",
                report.engine
            )?;
        }
        ReplayVerdict::Differs => {
            writeln!(out, "✗ REPLAY DIFFERS  {agreed} of {steps} steps agreed before")?;
        }
        ReplayVerdict::NotExecuted => writeln!(
            out,
            "? REPLAY INCOMPLETE  {not_executed_count} of {steps} steps could not be executed, {agreed} agree"
        )?,
        ReplayVerdict::Nothing => writeln!(out, "─ REPLAY  no pattern decided anything in this run")?,
    }
    if let Some(difference) = &report.difference {
        let Difference { step, seq, component, what } = difference;
        writeln!(out, "  step {step}, entry seq {seq}, component {component}")?;
        if let Some(item) = &what.item {
            writeln!(out, "  item      {item}")?;
        }
        writeln!(out, "  member    {}", what.member)?;
        writeln!(out, "  recorded  {}", what.recorded)?;
        writeln!(out, "  now       {}", what.now)?;
    }
    for skipped in &report.not_executed {
        writeln!(out, "  step {} (entry seq {}): {}", skipped.step, skipped.seq, skipped.reason)?;
    }
    if *not_executed_count > report.not_executed.len() as u64 {
        writeln!(out, "  … {} more", not_executed_count - report.not_executed.len() as u64)?;
    }
    for component in &report.components {
        let Component { digest, contract, steps, .. } = component;
        writeln!(out, "  {digest}  {contract}  {steps} steps")?;
    }
    if report.unrepeatable > 0 {
        writeln!(out, "  {} recorded failures are not provable, see the notes", report.unrepeatable)?;
    }
    if report.moves_checked > 0 {
        writeln!(out, "  {} executions that pattern.moved claims agree too", report.moves_checked)?;
    }
    for note in &report.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}
