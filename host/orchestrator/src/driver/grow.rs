//! Asking the patterns of live runs and recording what they decide.
//!
//! A step is cut, asked in a task of its own and waited for a moment, so that its record is in the commit of what
//! caused it. A pattern that takes longer delays nobody: its answer is recorded in the turn in which it comes, with the
//! view that it saw; what ended meanwhile belongs to the next step.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pangolin_audit::{
    canon,
    decision::{ViewDigest, decisions_bytes},
    rebuild::documents_of,
};
use pangolin_core::{
    entry::EntryBody,
    ids::{Digest, RunId},
    pattern::{
        Addition, DecisionRecord, FailurePolicy, PatternFailure, RunView, StepLimits, Tolerance, Tracker,
        additions, cause, tolerances,
    },
    plan::PlanItem,
    state::{Growth, RunState},
    validate::{Finding, Severity},
};
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    clock::Clock,
};
use tokio::sync::mpsc;

use super::{Driver, DriverError, ENGINE, PREPARE_PAUSE_MS};
use crate::{
    admission::UNJUDGED,
    causes::causes,
    load::LoadedRun,
    patterns::{Asked, CallFacts, OnFailure, Patterns, StepAnswer, StepFailure},
};

/// How long a turn waits for answers. A step takes a millisecond; with its answer in the same commit a run needs fewer
/// of them.
const ASK_GRACE: Duration = Duration::from_millis(25);

/// Tries of one step when the plugin host has no room or the pattern says that another try may help.
const TRIES_MAX: u32 = 5;

/// Pause before the second try; doubles with each further one up to [`TRY_PAUSE_MAX_MS`]. Milliseconds.
const TRY_PAUSE_MS: i64 = 500;

/// Longest pause between two tries.
const TRY_PAUSE_MAX_MS: i64 = 8_000;

/// Longest message of a failure in the record, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Largest document that is read to compare an upgraded pattern, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// The pattern of one live run.
pub(super) struct Growing {
    pub(super) tracker: Tracker,
    pub(super) digests: ViewDigest,
    pub(super) step: Option<OpenStep>,
}

/// A step that was asked.
pub(super) struct OpenStep {
    step: u64,
    seen: u64,
    now: i64,
    component: Digest,
    view: Arc<RunView>,
    digest: Digest,
}

/// The answer to a step.
pub(super) struct Answered {
    run: RunId,
    step: u64,
    answer: Result<StepAnswer, StepFailure>,
}

/// Which entry of the contract is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Plan,
    Step,
}

/// Asks, again after a pause when that may help. A call that panics is a failure like others.
pub(super) async fn ask(
    patterns: Arc<dyn Patterns>,
    clock: Arc<dyn Clock>,
    call: Call,
    asked: Asked,
    view: Arc<RunView>,
) -> Result<StepAnswer, StepFailure> {
    let id = asked.id.clone();
    let calling = tokio::spawn(async move {
        let mut tries = 1;
        loop {
            let answer = match call {
                Call::Plan => patterns.plan(&asked, view.clone()).await,
                Call::Step => patterns.step(&asked, view.clone()).await,
            };
            match answer {
                Err(failure) if failure.code == UNJUDGED || (failure.retryable && tries < TRIES_MAX) => {
                    tracing::warn!(
                        pattern = asked.id,
                        code = failure.code,
                        problem = failure.message,
                        "asked again after a pause"
                    );
                    let pause = TRY_PAUSE_MS.saturating_mul(1 << (tries - 1).min(TRIES_MAX));
                    clock.sleep_until(clock.now_ms() + pause.min(TRY_PAUSE_MAX_MS)).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    });
    calling.await.unwrap_or_else(|error| {
        Err(StepFailure {
            code: "host-error".to_owned(),
            message: format!("the call of pattern {id} ended in a panic of the host: {error}"),
            retryable: false,
            facts: Box::default(),
        })
    })
}

pub(super) fn record(
    step: &OpenStepFacts,
    facts: CallFacts,
    decisions: Digest,
    closes: bool,
    failure: Option<PatternFailure>,
) -> EntryBody {
    let CallFacts { contract, engine, profile, grant, limits, fuel, peak_memory } = facts;
    EntryBody::PatternDecided(Box::new(DecisionRecord {
        step: step.step,
        component: step.component,
        contract,
        engine,
        profile,
        view: step.view,
        seen: step.seen,
        seed: step.seed,
        now: step.now,
        grant,
        limits: limits.map(|limits| StepLimits { items: step.items_max, ..limits }),
        fuel,
        peak_memory,
        decisions,
        closes,
        failure,
    }))
}

/// What a record says about a step whatever the answer is.
pub(super) struct OpenStepFacts {
    pub(super) step: u64,
    pub(super) component: Digest,
    pub(super) view: Digest,
    pub(super) seen: u64,
    pub(super) seed: u64,
    pub(super) now: i64,
    pub(super) items_max: u64,
}

fn bounded(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX - 4));
        text.push('…');
    }
    text
}

/// Actor of everything that a pattern decides.
pub(super) fn actor(run: &RunState) -> String {
    format!("pattern:{}", run.plan().queue)
}

fn refused(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let text: Vec<String> = errors.map(|found| format!("{}: {}", found.pointer, found.message)).collect();
    format!("the added items cannot be admitted: {}", text.join("; "))
}

/// One addition with its bytes stored.
pub(super) struct Stored {
    pub(super) addition: Addition,
    pub(super) document: Digest,
}

/// Decisions that the engine takes, with all their bytes stored.
struct Taken<'a> {
    answer: &'a StepAnswer,
    decisions: Digest,
    stored: Vec<Stored>,
    pins: Option<Digest>,
    tolerances: Vec<Tolerance>,
}

impl Driver {
    /// Takes up the pattern of a loaded run.
    pub(super) fn take_up(&mut self, loaded: &mut LoadedRun) {
        let Some(tracker) = loaded.tracker.take() else { return };
        let Some(growth) = loaded.state.growth() else { return };
        let growing = Growing { tracker, digests: ViewDigest::after(growth.view()), step: None };
        let run = loaded.state.id().clone();
        if loaded.state.pattern_due() {
            self.due.insert(run.clone());
        }
        self.growing.insert(run, growing);
    }

    /// Moves a loaded run to the component that its queue is bound to now, if that gives all recorded answers.
    pub(super) async fn upgrade(&mut self, loaded: &LoadedRun, now: i64) -> Result<(), DriverError> {
        let (run, state) = (loaded.state.id(), &loaded.state);
        let Some(growth) = state.growth().filter(|growth| growth.is_live() && !growth.is_taken_over()) else {
            return Ok(());
        };
        let binding = match self.parts.patterns.binding(&state.plan().queue).await {
            Ok(Some(binding)) => binding,
            Ok(None) => return Ok(()),
            Err(why) => {
                tracing::warn!(%run, %why, "the pattern of the queue cannot be used; the run keeps its own");
                return Ok(());
            }
        };
        if binding.component == growth.component() || state.submitted().pattern_id != Some(binding.id.clone())
        {
            return Ok(());
        }
        let mut documents = BTreeMap::new();
        for digest in loaded.entries.iter().flat_map(|entry| documents_of(&entry.body)) {
            if let Ok(bytes) = self.parts.blobs.get(&digest, DOCUMENT_BYTES_MAX).await {
                documents.insert(digest, bytes);
            }
        }
        let asked = Asked { id: binding.id, component: binding.component };
        match self.parts.patterns.compare(&loaded.entries, &documents, &asked).await {
            Ok(steps) => {
                let (from, to) = (growth.component(), asked.component);
                tracing::info!(%run, %from, %to, steps, "the newer version of the pattern agrees and takes over");
                self.record(run, now, ENGINE, EntryBody::PatternMoved { from, to, steps })?;
            }
            Err(why) => tracing::warn!(
                %run, pattern = asked.id, newer = %asked.component, %why,
                "the newer version of the pattern does not agree; the run keeps the one it was admitted with"
            ),
        }
        Ok(())
    }

    /// Asks every live pattern that has something to see and was not asked yet.
    pub(super) async fn ask_patterns(&mut self, now: i64) -> Result<(), DriverError> {
        for run in std::mem::take(&mut self.due) {
            let (Some(growing), Some(state)) = (self.growing.get_mut(&run), self.scheduler.run(&run)) else {
                continue;
            };
            if growing.step.is_some() || !state.pattern_due() {
                continue;
            }
            let Some(growth) = state.growth() else { continue };
            let asked = match whom(&*self.parts.patterns, state, growth).await {
                Ok(Some(asked)) => asked,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%run, error = %causes(&error), "the pattern that takes over is looked for later");
                    self.due.insert(run);
                    self.late_until = Some(now + PREPARE_PAUSE_MS);
                    continue;
                }
            };
            let now = now.max(0);
            let view = growing.tracker.cut(state, now);
            let digest = growing
                .digests
                .advance(&view)
                .map_err(|error| DriverError::Planned(format!("view of run {run}: {error}")))?;
            let step = growth.steps();
            growing.step = Some(OpenStep {
                step,
                seen: state.next_seq(),
                now,
                component: asked.component,
                view: view.clone(),
                digest,
            });
            let asking = ask(self.parts.patterns.clone(), self.parts.clock.clone(), Call::Step, asked, view);
            let answers = self.answers_in.clone();
            tokio::spawn(async move {
                let answer = asking.await;
                let _ = answers.send(Answered { run, step, answer });
            });
            self.asked += 1;
        }
        Ok(())
    }

    /// Waits a moment for the answers that were just asked for; `true` when one was recorded.
    pub(super) async fn await_answers(&mut self, now: i64) -> Result<bool, DriverError> {
        let mut recorded = false;
        let asked = std::mem::take(&mut self.asked);
        let until = tokio::time::Instant::now() + ASK_GRACE;
        for _ in 0..asked {
            match tokio::time::timeout_at(until, self.answers.recv()).await {
                Ok(Some(answered)) => recorded |= self.answered(answered, now).await?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(recorded)
    }

    /// Records the answer to a step; `false` when it came too late or has to wait.
    pub(super) async fn answered(&mut self, answered: Answered, now: i64) -> Result<bool, DriverError> {
        let run = answered.run.clone();
        let Some(growing) = self.growing.get_mut(&run) else { return Ok(false) };
        let Some(open) = growing.step.take_if(|open| open.step == answered.step) else { return Ok(false) };
        let state = self.scheduler.run(&run).filter(|state| state.growth().is_some_and(Growth::is_live));
        let Some(state) = state else {
            // Cancelled while the pattern was thinking.
            self.growing.remove(&run);
            return Ok(false);
        };
        match Self::judge(&self.parts, state, &open, &answered.answer).await {
            Ok(entries) => {
                let actor = actor(state);
                self.ledger.together();
                for (body, added) in entries {
                    self.record_with(&run, now, &actor, body, added)?;
                }
                self.ledger.apart();
                let live = self.scheduler.run(&run).and_then(RunState::growth).is_some_and(Growth::is_live);
                if !live {
                    self.growing.remove(&run);
                }
                Ok(true)
            }
            Err(error) => {
                // Nothing is lost: the answer waits until the blob store takes it.
                tracing::warn!(%run, error = %causes(&error), "decisions wait to be stored");
                if let Some(growing) = self.growing.get_mut(&run) {
                    growing.step = Some(open);
                }
                self.late.push(answered);
                self.late_until = Some(now + PREPARE_PAUSE_MS);
                Ok(false)
            }
        }
    }

    /// The entries that follow from an answer. All their blobs are stored.
    async fn judge(
        parts: &super::Parts,
        state: &RunState,
        open: &OpenStep,
        answer: &Result<StepAnswer, StepFailure>,
    ) -> Result<Vec<(EntryBody, Option<Vec<PlanItem>>)>, BlobError> {
        let seed = state.growth().map_or(0, Growth::seed);
        let facts = OpenStepFacts {
            step: open.step,
            component: open.component,
            view: open.digest,
            seen: open.seen,
            seed,
            now: open.now,
            items_max: parts.admission.context().items_max as u64,
        };
        let taken = match answer {
            Ok(answer) => Self::take_decisions(parts, state, answer)
                .await?
                .map_err(|(code, message)| (code, message, answer.facts.clone())),
            Err(failure) => Err((failure.code.clone(), failure.message.clone(), (*failure.facts).clone())),
        };
        match taken {
            Ok(Taken { answer, decisions, stored, pins, tolerances }) => {
                let closes = answer.decisions.close;
                let mut entries = vec![(record(&facts, answer.facts.clone(), decisions, closes, None), None)];
                for Stored { addition, document } in stored {
                    let body = EntryBody::RunExtended {
                        cause: cause(&open.view, &addition.items),
                        items: addition.items.iter().map(|item| item.id.clone()).collect(),
                        document,
                        explanation: addition.explanation,
                        plugin: Some(open.component),
                        supersedes: addition.supersedes,
                        pins,
                    };
                    entries.push((body, Some(addition.items)));
                }
                for Tolerance { items, explanation } in tolerances {
                    let plugin = open.component;
                    entries.push((EntryBody::ItemTolerated { items, explanation, plugin }, None));
                }
                Ok(entries)
            }
            Err((code, message, called)) => {
                let policy = match parts.patterns.on_failure(&state.plan().queue).await? {
                    OnFailure::Closed => FailurePolicy::Closed,
                    OnFailure::Open => FailurePolicy::Open,
                    OnFailure::Builtin { component, .. } => {
                        let is_it =
                            component == open.component || state.growth().is_some_and(Growth::is_taken_over);
                        if is_it { FailurePolicy::Closed } else { FailurePolicy::Builtin }
                    }
                };
                tracing::error!(run = %state.id(), step = open.step, code, problem = message, ?policy, "the pattern failed");
                let failure = PatternFailure { code, message: bounded(message), policy };
                let decisions = parts.blobs.put(b"{}").await?;
                Ok(vec![(record(&facts, called, decisions, false, Some(failure)), None)])
            }
        }
    }

    /// Checks decisions against the run and stores them. The inner error is what becomes of them in the record.
    async fn take_decisions<'a>(
        parts: &super::Parts,
        state: &RunState,
        answer: &'a StepAnswer,
    ) -> Result<Result<Taken<'a>, (String, String)>, BlobError> {
        let host = |error: canon::CanonError| ("host-error".to_owned(), error.to_string());
        let fitting = additions(&answer.decisions, state, &parts.admission.context())
            .and_then(|added| Ok((added, tolerances(&answer.decisions, state)?)));
        let (added, tolerances) = match fitting {
            Ok(fitting) => fitting,
            Err(unfit) => return Ok(Err((unfit.code().to_owned(), unfit.to_string()))),
        };
        let bytes = match decisions_bytes(&answer.decisions) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(host(error))),
        };
        let items: Vec<PlanItem> = added.iter().flat_map(|addition| addition.items.iter().cloned()).collect();
        let pins = if items.is_empty() {
            None
        } else {
            match parts.admission.pin_added(state, &items).await {
                Ok(pins) => pins,
                // No judgement about the items: the blob store did not take the list.
                Err(findings) if findings.iter().any(|found| found.code == UNJUDGED) => {
                    return Err(BlobError::Full(refused(&findings)));
                }
                Err(findings) => return Ok(Err(("refused".to_owned(), refused(&findings)))),
            }
        };
        let decisions = parts.blobs.put(&bytes).await?;
        match store(&*parts.blobs, added).await? {
            Ok(stored) => Ok(Ok(Taken { answer, decisions, stored, pins, tolerances })),
            Err(error) => Ok(Err(host(error))),
        }
    }
}

/// Stores the documents of additions.
pub(super) async fn store(
    blobs: &dyn BlobStore,
    added: Vec<Addition>,
) -> Result<Result<Vec<Stored>, canon::CanonError>, BlobError> {
    let mut stored = Vec::with_capacity(added.len());
    for addition in added {
        let bytes = match canon::to_vec(&addition.items) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        let document = blobs.put(&bytes).await?;
        stored.push(Stored { addition, document });
    }
    Ok(Ok(stored))
}

/// The component that is asked next; `None` when nobody can be asked until the configuration is put right.
async fn whom(
    patterns: &dyn Patterns,
    state: &RunState,
    growth: &Growth,
) -> Result<Option<Asked>, BlobError> {
    if !growth.is_taken_over() {
        let id = state.submitted().pattern_id.clone().unwrap_or_default();
        return Ok(Some(Asked { id, component: growth.component() }));
    }
    Ok(match patterns.on_failure(&state.plan().queue).await? {
        OnFailure::Builtin { id, component } if component != growth.component() => {
            Some(Asked { id, component })
        }
        _ => {
            tracing::error!(
                run = %state.id(),
                "the pattern failed and the built-in one that was to take over is not configured any more; \
                 set on_failure = \"builtin:<id>\" of the queue again and restart"
            );
            None
        }
    })
}

/// What [`Driver::answers`] receives from.
pub(super) fn channel() -> (mpsc::UnboundedSender<Answered>, mpsc::UnboundedReceiver<Answered>) {
    mpsc::unbounded_channel()
}
