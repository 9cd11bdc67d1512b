//! What an adapter understood of a transcript.

use std::collections::BTreeMap;

use pangolin_core::entry::{FailureClass, Usage, UsageQuality};
use serde_json::Value;

use crate::{
    failure::{Failure, GUEST_TEXT_BYTES, PluginError, clip},
    limits::Limits,
    state::{Meter, stop},
};

/// Most distinct counters, models, denials.
const NAMES_MAX: usize = 64;

/// Longest closing text that is kept, in bytes.
const CLAIM_BYTES: usize = 64 << 10;

/// Which stream of the agent a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What an adapter understood of one attempt. None of it decides about success: that is the diff and the gates.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterReport {
    /// The agent's session, for resuming.
    pub session_id: Option<String>,
    /// Models that really served the attempt, in order of first use.
    pub models: Vec<String>,
    /// Counters: `input`, `cached_read`, `cache_write`, `output`, `reasoning` in tokens, `turns`,
    /// `provider_retries`.
    pub counters: BTreeMap<String, u64>,
    /// Cost in millionths of a US dollar, list price as the agent reports it.
    pub cost_microusd: Option<u64>,
    /// How good counters and cost are.
    pub quality: UsageQuality,
    /// How the session ended.
    pub outcome: Outcome,
    /// What the agent was not allowed to do.
    pub denials: Vec<Denial>,
    /// Further events, bounded.
    pub events: Vec<ReportEvent>,
    /// Events or text were dropped at the cap.
    pub events_truncated: bool,
    /// The agent's closing words: a claim, never a result.
    pub claim: String,
    /// A question of the agent.
    pub question: Option<Value>,
    /// The adapter itself failed. Then `quality` is missing and `outcome` unknown, and the transcript can be read
    /// again with a fixed adapter.
    pub fault: Option<PluginError>,
}

impl AdapterReport {
    /// Usage for the ledger; `None` when nothing is known.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let known = !self.models.is_empty() || !self.counters.is_empty() || self.cost_microusd.is_some();
        known.then(|| Usage {
            models: self.models.clone(),
            counters: self.counters.clone(),
            cost_microusd: self.cost_microusd,
            quality: self.quality,
        })
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Closed vocabulary.
    pub code: OutcomeCode,
    /// For people, at most 4 KiB. May hold agent output: redact it before it is stored.
    pub message: String,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeCode {
    /// The agent came to its end.
    Completed,
    /// Turn limit.
    TurnCap,
    /// Money limit.
    MoneyCap,
    /// The model provider failed; the message has the HTTP status.
    ProviderError,
    /// The model provider rejected the key (401, 403).
    AuthError,
    /// The agent came to its end, but was refused at least one tool.
    Denied,
    /// Ended by a signal or the time limit.
    Killed,
    /// The agent says it failed.
    AgentFailed,
    /// Nothing certain can be said.
    Unknown,
}

impl OutcomeCode {
    /// The code as in `wit/`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TurnCap => "turn-cap",
            Self::MoneyCap => "money-cap",
            Self::ProviderError => "provider-error",
            Self::AuthError => "auth-error",
            Self::Denied => "denied",
            Self::Killed => "killed",
            Self::AgentFailed => "agent-failed",
            Self::Unknown => "unknown",
        }
    }

    fn parse(code: &str) -> Self {
        match code {
            "completed" => Self::Completed,
            "turn-cap" => Self::TurnCap,
            "money-cap" => Self::MoneyCap,
            "provider-error" => Self::ProviderError,
            "auth-error" => Self::AuthError,
            "denied" => Self::Denied,
            "killed" => Self::Killed,
            "agent-failed" => Self::AgentFailed,
            _ => Self::Unknown,
        }
    }

    /// The failure class to record when the attempt counts as failed; `None` for the two codes that leave the
    /// decision to the exit code, the diff and the gates.
    #[must_use]
    pub const fn failure_class(self) -> Option<FailureClass> {
        match self {
            Self::Completed | Self::Unknown => None,
            Self::TurnCap | Self::MoneyCap | Self::AuthError | Self::Denied => Some(FailureClass::Refusal),
            Self::ProviderError => Some(FailureClass::Infrastructure),
            // Who killed it (cancel, timeout, crash) is known to the worker, not to the transcript.
            Self::Killed | Self::AgentFailed => Some(FailureClass::Work),
        }
    }
}

/// Something the agent wanted and was not allowed to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    /// The tool.
    pub subject: String,
    /// What it was to do.
    pub detail: Value,
}

/// Something that happened in the session.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportEvent {
    /// Open vocabulary.
    pub kind: String,
    /// Details.
    pub data: Value,
}

/// The `report` resource.
#[expect(unreachable_pub, reason = "generated code re-exports it")]
pub struct ReportDraft {
    report: AdapterReport,
    meter: Meter,
}

impl ReportDraft {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            report: AdapterReport {
                session_id: None,
                models: Vec::new(),
                counters: BTreeMap::new(),
                cost_microusd: None,
                quality: UsageQuality::Missing,
                outcome: Outcome { code: OutcomeCode::Unknown, message: String::new() },
                denials: Vec::new(),
                events: Vec::new(),
                events_truncated: false,
                claim: String::new(),
                question: None,
                fault: None,
            },
            meter: Meter::new("report", limits),
        }
    }

    pub(crate) fn finish(self) -> AdapterReport {
        self.report
    }

    /// What is left when the adapter failed: nothing that could be mistaken for a number.
    pub(crate) fn finish_failed(self, fault: PluginError) -> AdapterReport {
        let message = format!("the adapter could not read the transcript: {}", fault.failure);
        AdapterReport {
            counters: BTreeMap::new(),
            cost_microusd: None,
            quality: UsageQuality::Missing,
            outcome: Outcome { code: OutcomeCode::Unknown, message: clip(message, GUEST_TEXT_BYTES) },
            fault: Some(fault),
            ..self.report
        }
    }

    /// Whether there is room; notes when there is not.
    fn room(&mut self, bytes: usize, has_room: bool) -> bool {
        let room = has_room && self.meter.fits(bytes);
        self.report.events_truncated |= !room;
        room
    }

    pub(crate) fn event(&mut self, kind: String, json: &str) {
        if self.room(kind.len() + json.len(), true) {
            self.report.events.push(ReportEvent { kind: clip(kind, 256), data: parse(json) });
        }
    }

    pub(crate) fn text(&mut self, chunk: &str) {
        let has_room = self.report.claim.len() + chunk.len() <= CLAIM_BYTES;
        if self.room(chunk.len(), has_room) {
            self.report.claim.push_str(chunk);
        } else if self.report.claim.len() < CLAIM_BYTES {
            let end = chunk.floor_char_boundary(CLAIM_BYTES - self.report.claim.len());
            self.report.claim.push_str(&chunk[..end]);
        }
    }

    pub(crate) fn usage(&mut self, key: String, amount: f64) -> wasmtime::Result<()> {
        // 2^53: beyond it a float does not hold an exact count.
        const AMOUNT_MAX: f64 = 9_007_199_254_740_992.0;
        let scaled = if key == "cost_usd" { amount * 1_000_000.0 } else { amount };
        if !(0.0..=AMOUNT_MAX).contains(&scaled) {
            return Err(stop(Failure::ContractMismatch {
                problem: format!("usage {key:?} is {amount}, which is not a count"),
            }));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked above")]
        let whole = scaled.round() as u64;
        if key == "cost_usd" {
            self.report.cost_microusd = Some(whole);
        } else if self.report.counters.len() < NAMES_MAX || self.report.counters.contains_key(&key) {
            self.report.counters.insert(clip(key, 64), whole);
        } else {
            self.report.events_truncated = true;
        }
        Ok(())
    }

    pub(crate) fn quality(&mut self, level: &str) {
        self.report.quality = match level {
            "exact" => UsageQuality::Exact,
            "partial" => UsageQuality::Partial,
            "estimated" => UsageQuality::Estimated,
            _ => UsageQuality::Missing,
        };
    }

    pub(crate) fn model(&mut self, name: String) {
        if self.report.models.contains(&name) {
            return;
        }
        if self.room(name.len(), self.report.models.len() < NAMES_MAX) {
            self.report.models.push(clip(name, 256));
        }
    }

    pub(crate) fn session(&mut self, id: String) {
        self.report.session_id = Some(clip(id, 256));
    }

    pub(crate) fn denial(&mut self, subject: String, detail_json: &str) {
        if self.room(subject.len() + detail_json.len(), self.report.denials.len() < NAMES_MAX) {
            self.report.denials.push(Denial { subject: clip(subject, 256), detail: parse(detail_json) });
        }
    }

    pub(crate) fn question(&mut self, json: &str) {
        if self.room(json.len(), true) {
            self.report.question = Some(parse(json));
        }
    }

    pub(crate) fn outcome(&mut self, code: &str, message: String) {
        self.report.outcome =
            Outcome { code: OutcomeCode::parse(code), message: clip(message, GUEST_TEXT_BYTES) };
    }
}

/// Guest JSON; text that is none stays text.
fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.to_owned()))
}
