//! One step: what is recorded against what comes out now.

use std::sync::Arc;

use pangolin_audit::{
    decision::decisions_bytes,
    rebuild::{Documents, context},
};
use pangolin_core::{
    pattern::{DecisionRecord, Decisions, PatternFailure, RunView, StepLimits, additions, tolerances},
    state::RunState,
    validate::PlanContext,
};
use pangolin_plugin_host::engine_id;

use crate::{
    ask::{Answer, Ask, Failed},
    compare::{Differs, first_difference},
};

/// Codes that say something about a machine and not about the component: another machine need not see them.
/// `deadline` is wall time and `host-busy` may be want of memory of the host.
const OF_THE_HOST: [&str; 6] =
    ["deadline", "host-busy", "host-error", "not-compiled", "not-approved", "integrity"];

/// Codes that also mean that the engine did not take what was decided ([`pangolin_core::pattern::Unfit`]).
const OF_THE_ENGINE: [&str; 2] = ["refused", "output-limit"];

/// Codes of limits that are in the record.
const OF_LIMITS: [&str; 3] = ["cpu-budget", "memory-limit", "output-limit"];

/// Codes of limits that another version of the engine may reach earlier or later.
const OF_THE_VERSION: [&str; 2] = ["cpu-budget", "stack"];

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judged {
    /// As recorded.
    Agrees,
    /// Not as recorded.
    Differs(Differs),
    /// A failure that cannot be repeated, in one sentence.
    Unrepeatable(String),
    /// Not executed here, in one sentence.
    NotExecuted(String),
}

/// The recorded decisions, or why they cannot be read.
pub(crate) fn recorded(record: &DecisionRecord, documents: &impl Documents) -> Result<Decisions, String> {
    let digest = &record.decisions;
    let bytes = documents.document(digest).map_err(|why| format!("its decisions {digest} {why}"))?;
    let decisions = serde_json::from_slice(&bytes)
        .map_err(|error| format!("its decisions {digest} cannot be read: {error}"))?;
    match decisions_bytes(&decisions) {
        Ok(again) if again == *bytes => Ok(decisions),
        _ => Err(format!("its decisions {digest} are not in their canonical form")),
    }
}

/// Asks for a recorded step again. A failure is to happen under the limits under which it happened; for decisions more
/// room makes no difference.
pub(crate) async fn ask_again<A: Ask>(
    component: &A,
    record: &DecisionRecord,
    view: &Arc<RunView>,
) -> Result<Answer, Failed> {
    let limits = record.limits.as_ref().filter(|_| record.failure.is_some());
    component.ask(record.step, view, limits).await
}

/// Compares. `run` is the state in which the decisions were to be taken, `ours` are the limits of the component here.
pub(crate) fn judge(
    record: &DecisionRecord,
    decisions: &Decisions,
    now: Result<&Answer, &Failed>,
    run: &RunState,
    ours: &StepLimits,
) -> Judged {
    match (&record.failure, now) {
        (None, Ok(answer)) => match first_difference(decisions, &answer.decisions) {
            Ok(None) => Judged::Agrees,
            Ok(Some(differs)) => Judged::Differs(differs),
            Err(error) => Judged::Differs(Differs::new(None, "decisions", None, Some(&error.to_string()))),
        },
        (None, Err(failed)) if OF_THE_HOST.contains(&&*failed.code) => {
            Judged::NotExecuted(failed.message.clone())
        }
        (None, Err(failed)) if OF_LIMITS.contains(&&*failed.code) && exceeds(record, ours) => {
            Judged::NotExecuted(format!(
                "it was recorded under higher limits than this program has; here it fails with {}",
                failed.message
            ))
        }
        (None, Err(failed)) => Judged::Differs(failure("it decided", &now_failed(failed))),
        (Some(PatternFailure { code, .. }), _) if OF_THE_HOST.contains(&&**code) => {
            let here = match now {
                Ok(_) => "here it decides".to_owned(),
                Err(failed) => format!("here it fails with {}", failed.code),
            };
            Judged::Unrepeatable(format!(
                "not provable: failed with {code} on the machine that recorded it; {here}"
            ))
        }
        (Some(before), Err(failed)) if before.code == failed.code => Judged::Agrees,
        (Some(before), now) if let Some(reason) = lower_limit(record, before, now) => {
            Judged::Unrepeatable(reason)
        }
        (Some(before), _) if OF_THE_VERSION.contains(&&*before.code) && record.engine != engine_id() => {
            Judged::Unrepeatable(format!(
                "not provable: failed with {} on {}; {} counts otherwise",
                before.code,
                record.engine,
                engine_id()
            ))
        }
        (Some(before), Ok(answer)) => decided_now(record, before, answer, run),
        (Some(_), Err(failed)) if OF_THE_HOST.contains(&&*failed.code) => {
            Judged::NotExecuted(failed.message.clone())
        }
        (Some(before), Err(failed)) => Judged::Differs(failure(&was_failed(before), &now_failed(failed))),
    }
}

/// Whether a step was recorded under limits that are not all within ours.
fn exceeds(record: &DecisionRecord, ours: &StepLimits) -> bool {
    record.limits.is_some_and(|theirs| {
        theirs.fuel > ours.fuel
            || theirs.memory > ours.memory
            || theirs.output_bytes > ours.output_bytes
            || theirs.output_pieces > ours.output_pieces
    })
}

/// The plugin's manifest and its operator can lower the limits of the profile, and older records do not have them. What
/// a step used they have: with more than that it may well go on.
fn lower_limit(
    record: &DecisionRecord,
    before: &PatternFailure,
    now: Result<&Answer, &Failed>,
) -> Option<String> {
    if record.limits.is_some() {
        return None;
    }
    let (fuel, memory) = match now {
        Ok(answer) => (answer.fuel, answer.peak_memory),
        Err(failed) => (failed.fuel, failed.peak_memory),
    };
    let (what, had, used) = match &*before.code {
        "cpu-budget" => ("units of fuel", record.fuel, fuel),
        "memory-limit" => ("bytes of memory", record.peak_memory, memory),
        _ => return None,
    };
    (had > 0 && used > had).then(|| {
        format!(
            "not provable: failed with {} at {had} {what} under limits that are not in the record; with those of the \
             profile it uses {used}",
            before.code
        )
    })
}

/// The component answers although a failure is recorded: then the engine must have refused the answer.
fn decided_now(record: &DecisionRecord, before: &PatternFailure, answer: &Answer, run: &RunState) -> Judged {
    if OF_THE_ENGINE.contains(&&*before.code) {
        let known = record.limits.and_then(|limits| usize::try_from(limits.items).ok());
        let within = PlanContext { items_max: known.unwrap_or(usize::MAX), ..context() };
        let fitting = additions(&answer.decisions, run, &within)
            .and_then(|_| tolerances(&answer.decisions, run).map(drop));
        return match fitting {
            Err(unfit) if unfit.code() == before.code => Judged::Agrees,
            Ok(()) if known.is_some() && before.code == "output-limit" => {
                Judged::Differs(failure(&was_failed(before), "it decides, within the recorded limits"))
            }
            // Names that the deployment knows (executors, registered artifacts) are not in the record.
            _ => Judged::Unrepeatable(format!(
                "not provable: the deployment did not take what was decided ({}: {}); what it allows is not in the \
                 record",
                before.code, before.message
            )),
        };
    }
    Judged::Differs(failure(&was_failed(before), "it decides"))
}

fn failure(recorded: &str, now: &str) -> Differs {
    Differs::new(None, "failure", Some(recorded), Some(now))
}

fn was_failed(failure: &PatternFailure) -> String {
    format!("it failed with {}: {}", failure.code, failure.message)
}

fn now_failed(failed: &Failed) -> String {
    // The message of a failure starts with its code.
    format!("it fails with {}", failed.message)
}
