//! Whether the run grew as its pattern decided: recorded steps, their decisions, and the items that follow from them.
//! Without executing anything: that the component really decides so is what a replay shows.

use std::{collections::VecDeque, sync::Arc};

use pangolin_core::{
    entry::{Entry, EntryBody, RunSubmitted},
    ids::{Digest, ItemId},
    manifest::DispatchManifest,
    pattern::{
        Addition, DecisionRecord, Decisions, FailurePolicy, PatternFailure, RunView, Tolerance, additions,
        apply_plan_decisions, cause, tolerances,
    },
    state::RunState,
};
use serde_json::Value;

use super::{
    findings::{CheckName, Findings},
    history::History,
    objects::{Lookup, Objects},
    pins::Pins,
};
use crate::{
    canon,
    decision::seed,
    rebuild::{Seen, context},
    report::Check,
};

/// What was seen of the pattern so far.
pub(super) struct Growth<'o> {
    objects: &'o Objects<'o>,
    pins: Pins<'o>,
    submitted: Option<Box<RunSubmitted>>,
    seed: u64,
    steps: u64,
    views: u64,
    read: u64,
    added: u64,
    tolerated: u64,
    unread: bool,
    expected: Option<Expected>,
    /// Recorded failures, in words. The record is none the worse for them, but who reads it wants to know.
    failures: Vec<String>,
}

/// Extensions that must follow a record.
struct Expected {
    seq: u64,
    component: Digest,
    /// `None`: not known, because the decisions cannot be read; that is reported elsewhere.
    additions: Option<Follows>,
}

/// What a step must lead to, in this order.
#[derive(Default)]
struct Follows {
    additions: VecDeque<Addition>,
    tolerances: VecDeque<Tolerance>,
    /// What the pattern saw; `None` when that is not known.
    view: Option<Arc<RunView>>,
}

impl<'o> Growth<'o> {
    pub(super) fn new(objects: &'o Objects<'o>) -> Self {
        Self {
            objects,
            pins: Pins::new(objects),
            submitted: None,
            seed: 0,
            steps: 0,
            views: 0,
            read: 0,
            added: 0,
            tolerated: 0,
            unread: false,
            expected: None,
            failures: Vec::new(),
        }
    }

    /// Looks at an entry once it was folded; `seen` is what the pattern saw, as rebuilt, and `manifest` what the entry
    /// fired.
    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        manifest: Option<&DispatchManifest>,
        seen: Option<&Seen>,
        history: &History<'_>,
        findings: &mut Findings,
    ) {
        if !matches!(entry.body, EntryBody::RunExtended { .. } | EntryBody::ItemTolerated { .. }) {
            self.settle(findings);
        }
        self.actor(entry, findings);
        match &entry.body {
            EntryBody::RunSubmitted(submitted) => {
                self.seed = seed(&submitted.namespace, &entry.run);
                self.pins.planned(entry.seq, submitted.pins.as_ref(), history.state(), findings);
                self.submitted = Some(submitted.clone());
            }
            EntryBody::PatternDecided(record) => {
                self.steps += 1;
                self.step(entry.seq, record, seen, findings);
                let additions = self.decisions(entry.seq, record, findings).and_then(|decisions| {
                    let view = seen.map(|seen| Arc::clone(&seen.view));
                    self.decided(entry.seq, record, &decisions, view, history.state(), findings)
                });
                self.expected = Some(Expected { seq: entry.seq, component: record.component, additions });
            }
            EntryBody::RunExtended { items, pins, .. } => {
                self.pins.extended(entry.seq, pins.as_ref(), items, history.state(), findings);
                self.extended(entry, history.state(), findings);
            }
            EntryBody::ItemFired { .. } => {
                if let Some(manifest) = manifest {
                    self.pins.fired(entry.seq, manifest, history.state(), findings);
                }
            }
            EntryBody::ItemTolerated { .. } => self.tolerated(entry, findings),
            _ => {}
        }
    }

    fn step(&mut self, seq: u64, record: &DecisionRecord, seen: Option<&Seen>, findings: &mut Findings) {
        if let Some(PatternFailure { code, message, policy }) = &record.failure {
            let then = match policy {
                FailurePolicy::Closed => "the run fails",
                FailurePolicy::Open => "the run goes on without a pattern",
                FailurePolicy::Builtin => "a built-in pattern takes over",
            };
            let what =
                if message.starts_with(&**code) { message.clone() } else { format!("{code}: {message}") };
            self.failures.push(format!("step {} failed: {what}; {then}", record.step));
        }
        let place = || format!("entry seq {seq} (step {})", record.step);
        if record.seed != self.seed {
            let detail = format!("its seed is {}, the seed of this run is {}", record.seed, self.seed);
            findings.fail(CheckName::Steps, place(), detail);
        }
        let Some(seen) = seen else { return };
        self.views += 1;
        if seen.digest != record.view {
            let detail = format!(
                "it says that the pattern saw {}, the entries before it give {}",
                record.view, seen.digest
            );
            findings.fail(CheckName::Steps, place(), detail);
        }
    }

    /// The decisions of a record, when they are what they must be.
    fn decisions(&mut self, seq: u64, record: &DecisionRecord, findings: &mut Findings) -> Option<Decisions> {
        let bytes = match self.objects.get(&record.decisions) {
            Lookup::Bytes(bytes) => bytes,
            // Reported by the objects check: as damaged, or as missing.
            Lookup::Damaged | Lookup::Missing => {
                self.unread = true;
                return None;
            }
        };
        let digest = &record.decisions;
        let place = || format!("object {digest} (decisions of entry seq {seq})");
        let decisions: Decisions = match serde_json::from_slice(&bytes) {
            Ok(decisions) => decisions,
            Err(error) => {
                findings.fail(CheckName::Decisions, place(), format!("are not decisions: {error}"));
                return None;
            }
        };
        self.read += 1;
        if canon::to_vec(&decisions).is_ok_and(|again| again != *bytes) {
            findings.fail(CheckName::Decisions, place(), "are not in their canonical form");
        }
        let Decisions {
            spawned: _,
            explanations: _,
            tolerated,
            close,
            ordered,
            held,
            findings: refused,
            possible: _,
        } = &decisions;
        let rules = [
            (record.failure.is_some() && decisions != Decisions::default(), "the step failed but decided"),
            (record.failure.is_none() && *close != record.closes, "the record disagrees about closing"),
            (!refused.is_empty(), "a plan with findings is rejected and never becomes a run"),
            (
                record.step == 0 && !tolerated.is_empty(),
                "at admission no item has ended that it could tolerate",
            ),
            (record.step > 0 && !ordered.is_empty(), "only at admission a pattern can order items"),
            (record.step > 0 && !held.is_empty(), "only at admission a pattern can hold items"),
        ];
        for (_, detail) in rules.iter().filter(|(broken, _)| *broken) {
            findings.fail(CheckName::Decisions, place(), *detail);
        }
        Some(decisions)
    }

    /// What the engine must make of the decisions, when that can be known.
    fn decided(
        &mut self,
        seq: u64,
        record: &DecisionRecord,
        decisions: &Decisions,
        view: Option<Arc<RunView>>,
        state: Option<&RunState>,
        findings: &mut Findings,
    ) -> Option<Follows> {
        if record.step == 0 {
            self.amended(seq, decisions, findings);
            return Some(Follows::default());
        }
        let state = state?;
        let fitting = additions(decisions, state, &context())
            .and_then(|additions| Ok((additions, tolerances(decisions, state)?)));
        match fitting {
            Ok((additions, tolerances)) => {
                Some(Follows { additions: additions.into(), tolerances: tolerances.into(), view })
            }
            Err(unfit) => {
                let place = format!("entry seq {seq} (step {})", record.step);
                findings.fail(CheckName::Growth, place, format!("cannot be taken: {unfit}"));
                None
            }
        }
    }

    /// The amended plan is the submitted one with what step 0 decided.
    fn amended(&mut self, seq: u64, decisions: &Decisions, findings: &mut Findings) {
        let Some(submitted) = self.submitted.as_deref() else { return };
        let place = "entry seq 0 (graph)".to_owned();
        if submitted.graph.is_none() && !decisions.amends_plan() {
            return;
        }
        let Lookup::Bytes(plan) = self.objects.get(&submitted.plan) else {
            self.unread = true;
            return;
        };
        // A plan that is not JSON is reported by the state check.
        let Ok(plan) = serde_json::from_slice::<Value>(&plan) else { return };
        let amended = match apply_plan_decisions(plan, decisions) {
            Ok(amended) => amended,
            Err(errors) => {
                let detail = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                let place = format!("entry seq {seq} (step 0)");
                return findings.fail(CheckName::Growth, place, detail);
            }
        };
        let expected = canon::to_vec(&amended).map(|bytes| Digest::of(&bytes)).ok();
        if submitted.graph != expected {
            let text = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |d| d.to_string());
            let detail = format!(
                "the amended plan is {}, the plan with the decisions of step 0 is {}",
                text(submitted.graph),
                text(expected)
            );
            findings.fail(CheckName::Growth, place, detail);
        }
    }

    fn extended(&mut self, entry: &Entry, state: Option<&RunState>, findings: &mut Findings) {
        let EntryBody::RunExtended { items, cause: caused, explanation, plugin, supersedes, .. } =
            &entry.body
        else {
            return;
        };
        let mut fail =
            |detail: String| findings.fail(CheckName::Growth, format!("entry seq {}", entry.seq), detail);
        let Some(plugin) = plugin else {
            if self.steps > 0 && entry.actor.starts_with("pattern:") {
                fail("the actor is a pattern, but no component is named that decided".to_owned());
            }
            return;
        };
        let Some(state) = state else { return };
        let next = match &mut self.expected {
            Some(Expected { additions: None, .. }) => return,
            Some(Expected { seq, component, additions: Some(follows) }) => {
                let view = follows.view.clone();
                follows.additions.pop_front().map(|addition| (*seq, *component, addition, view))
            }
            None => None,
        };
        let Some((seq, component, addition, view)) = next else {
            return fail("no recorded decision adds these items".to_owned());
        };
        self.added += items.len() as u64;
        if *plugin != component {
            fail(format!("it names component {plugin}, entry seq {seq} is of {component}"));
        }
        let expected: Vec<_> = addition.items.iter().map(|item| &item.id).collect();
        if !items.iter().eq(expected.iter().copied()) {
            let list = |ids: &mut dyn Iterator<Item = String>| ids.take(5).collect::<Vec<_>>().join(", ");
            return fail(format!(
                "it adds {} ({} items), entry seq {seq} decided {} ({} items)",
                list(&mut items.iter().map(ToString::to_string)),
                items.len(),
                list(&mut expected.iter().map(ToString::to_string)),
                expected.len(),
            ));
        }
        let differs = addition
            .items
            .iter()
            .find(|decided| state.item(&decided.id).is_none_or(|added| added.plan != *decided));
        if let Some(item) = differs {
            fail(format!("item {} is not the one that entry seq {seq} decided", item.id));
        }
        if *supersedes != addition.supersedes {
            fail(format!("it supersedes other items than entry seq {seq} decided"));
        }
        if *explanation != addition.explanation {
            fail(format!("its explanation is not the one of entry seq {seq}"));
        }
        if let Some(view) = view {
            let real = cause(&view, &addition.items);
            if *caused != real {
                let text =
                    |item: &Option<ItemId>| item.as_ref().map_or("nothing".to_owned(), ToString::to_string);
                fail(format!("it names {} as the cause, it was {}", text(caused), text(&real)));
            }
        }
    }

    /// Entries of a pattern, and no others, are of the actor `pattern:<queue>`.
    fn actor(&self, entry: &Entry, findings: &mut Findings) {
        let is_of_pattern = matches!(
            &entry.body,
            EntryBody::PatternDecided(_)
                | EntryBody::ItemTolerated { .. }
                | EntryBody::RunExtended { plugin: Some(_), .. }
        );
        let Some(submitted) = self.submitted.as_ref().filter(|_| is_of_pattern) else { return };
        let actor = format!("pattern:{}", submitted.queue);
        if entry.actor != actor {
            let detail = format!("its actor is {:?}, the pattern of the queue is {actor:?}", entry.actor);
            findings.fail(CheckName::Growth, format!("entry seq {}", entry.seq), detail);
        }
    }

    fn tolerated(&mut self, entry: &Entry, findings: &mut Findings) {
        let EntryBody::ItemTolerated { items, explanation, plugin } = &entry.body else { return };
        let mut fail =
            |detail: String| findings.fail(CheckName::Growth, format!("entry seq {}", entry.seq), detail);
        let next = match &mut self.expected {
            Some(Expected { additions: None, .. }) => return,
            // Not before everything is added: the order is part of the record.
            Some(Expected { seq, component, additions: Some(follows) }) if follows.additions.is_empty() => {
                follows.tolerances.pop_front().map(|tolerance| (*seq, *component, tolerance))
            }
            _ => None,
        };
        let Some((seq, component, tolerance)) = next else {
            return fail("no recorded decision tolerates these items here".to_owned());
        };
        self.tolerated += items.len() as u64;
        if *plugin != component {
            fail(format!("it names component {plugin}, entry seq {seq} is of {component}"));
        }
        if *items != tolerance.items {
            fail(format!("it tolerates other items than entry seq {seq} decided"));
        }
        if *explanation != tolerance.explanation {
            fail(format!("its explanation is not the one of entry seq {seq}"));
        }
    }

    /// Everything that was decided must have been added by now.
    fn settle(&mut self, findings: &mut Findings) {
        let Some(Expected { seq, additions: Some(follows), .. }) = self.expected.take() else { return };
        let Follows { additions, tolerances, .. } = follows;
        let left: usize = tolerances.iter().map(|tolerance| tolerance.items.len()).sum();
        if left > 0 {
            let detail = format!("{left} items that were decided to be tolerated are not in what follows");
            findings.fail(CheckName::Growth, format!("entry seq {seq}"), detail);
        }
        if let Some(item) = additions.front().and_then(|addition| addition.items.first()) {
            let count: usize = additions.iter().map(|addition| addition.items.len()).sum();
            let detail =
                format!("{count} items that were decided are not added by what follows, first {}", item.id);
            findings.fail(CheckName::Growth, format!("entry seq {seq}"), detail);
        }
    }

    /// Sets the outcome of the checks.
    pub(super) fn finish(mut self, stopped: Option<&str>, findings: &mut Findings) {
        self.settle(findings);
        let Self { steps, views, read, added, tolerated, unread, failures, pins, .. } = self;
        if steps == 0 {
            let graph = self.submitted.as_deref().and_then(|submitted| submitted.graph);
            if let Some(graph) = graph {
                let detail = format!("the run starts from the amended plan {graph}, but nothing decided it");
                findings.fail(CheckName::Growth, "entry seq 0 (graph)", detail);
            }
            let unasked = || Check::not_applicable("no pattern was asked");
            findings.set(CheckName::Steps, unasked());
            findings.set(CheckName::Decisions, unasked());
            let growth = match (pins.added, pins.unread || stopped.is_some()) {
                (0, _) | (_, true) => unasked(),
                (added, false) => Check::pass(format!(
                    "{added} items were added and are pinned; no pattern was asked, so nothing had to be decided"
                )),
            };
            findings.set(CheckName::Growth, growth);
            return;
        }
        let all = |count: u64, text: String| match stopped {
            None if count == steps => Check::pass(text),
            Some(reason) => Check::not_applicable(reason),
            None => Check::not_applicable(format!("{count} of {steps} steps could be looked at")),
        };
        let mut text = format!("{steps} steps saw what the entries say");
        for failure in failures {
            text.push_str("; ");
            text.push_str(&failure);
        }
        findings.set(CheckName::Steps, all(views, text));
        let text = format!("{steps} steps, each with the decisions that its record names");
        findings.set(
            CheckName::Decisions,
            if unread { Check::not_applicable("decisions are missing or damaged") } else { all(read, text) },
        );
        let mut text = match tolerated {
            0 => format!("{added} items were added, each as decided"),
            _ => format!("{added} items were added and {tolerated} failures tolerated, each as decided"),
        };
        if pins.added > 0 {
            let count = pins.added;
            text = format!("{text}; {count} added items are pinned, and names mean what they meant before");
        }
        let growth = match (unread, pins.unread) {
            (true, _) => Check::not_applicable("decisions are missing or damaged"),
            (false, true) => Check::not_applicable("pins are missing or damaged"),
            (false, false) => all(read, text),
        };
        findings.set(CheckName::Growth, growth);
    }
}
