//! Where a pattern is asked: courses of plans with reproducible outcomes.

use std::sync::Arc;

use pangolin_core::pattern::{Decisions, RunView};
use pangolin_plugin_host::{PluginError, Probe, StepOutcome};
use serde_json::{Value, json};

use super::{PatternSubject, When, all_ended};
use crate::{
    dice::dice,
    fixture::{FixtureFile, Outcome, PatternFixture, Step},
    rehearsal::{Planning, Rehearsal, RehearsalError},
};

/// Random courses of each plan.
const COURSES: u64 = 3;

/// Steps of a course: a pattern that grows for ever shows it before.
const STEPS_MAX: usize = 200;

/// Steps of a course that are asked about again.
const KEPT: usize = 16;

/// Moments in all that are asked about again.
const MOMENTS_MAX: usize = 96;

/// A plan with its parameters, and steps that lead to what its author cares about.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) plan: Value,
    pub(super) params: String,
    pub(super) steps: Vec<Step>,
}

/// One question with its answer.
pub(super) struct Moment {
    pub(super) name: String,
    pub(super) when: When,
    pub(super) view: Arc<RunView>,
    pub(super) plain: Result<StepOutcome, PluginError>,
    /// The same ends again, now that the run holds what they led to; only where something was added.
    pub(super) again: Option<Arc<RunView>>,
}

impl Moment {
    /// Host calls of the answer.
    pub(super) fn calls(&self) -> u64 {
        self.plain.as_ref().map_or(0, |outcome| outcome.bill.host_calls)
    }

    fn decided(&self) -> bool {
        self.plain.as_ref().is_ok_and(|outcome| outcome.decisions != Decisions::default())
    }
}

/// Everything that was asked.
#[derive(Default)]
pub(super) struct Moments {
    pub(super) all: Vec<Moment>,
    /// Decisions that the engine would not take.
    pub(super) unfit: Vec<String>,
}

/// A plan item with what must be there.
pub(super) fn item(id: &str, depends_on: &[&str]) -> Value {
    json!({ "id": id, "executor": "dispatch", "inputs": {}, "depends_on": depends_on, "resourceLocks": [] })
}

/// Parameters as the queue hands them over; a string is taken as the text itself.
pub(super) fn params(params: &Value) -> String {
    match params {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The recorded cases, and plans that every pattern must survive.
pub(super) fn subjects(cases: &[(&FixtureFile, &PatternFixture)]) -> Vec<Subject> {
    let own = cases.iter().map(|(file, fixture)| Subject {
        name: file.name.clone(),
        plan: fixture.plan.clone(),
        params: params(&fixture.params),
        steps: fixture.steps.clone(),
    });
    let plan = |id: &str, open: bool, items: Vec<Value>| Subject {
        name: id.to_owned(),
        plan: json!({ "id": id, "queue": "any", "openEnded": open, "items": items }),
        params: cases.first().map_or_else(String::new, |(_, fixture)| params(&fixture.params)),
        steps: Vec::new(),
    };
    let any = [
        plan("no-items", true, Vec::new()),
        plan("a-graph", false, vec![item("a", &[]), item("b", &["a"]), item("c", &[])]),
        plan("open-ended", true, vec![item("a", &[])]),
    ];
    own.chain(any).collect()
}

fn outcome(id: &str, seed: u64) -> Outcome {
    let dice = dice(id, seed);
    let (status, verify_passed) = match dice % 16 {
        0..=4 => ("done", None),
        5..=8 => ("done", Some(true)),
        9..=12 => ("done", Some(false)),
        13 => ("failed", None),
        14 => ("denied", None),
        _ => ("cancelled", None),
    };
    let outputs: &[&str] = match (dice >> 8) % 3 {
        0 => &[],
        1 => &["findings", "result"],
        _ => &["a.csv", "b/c.csv", "result"],
    };
    Outcome {
        status: status.to_owned(),
        verify_passed,
        outputs: outputs.iter().map(|path| (*path).to_owned()).collect(),
        has_patch: !(dice >> 16).is_multiple_of(8),
        message: Some("of a random course".to_owned()),
    }
}

/// Ends the outcomes of a step, each when what it waits for has ended.
pub(super) fn end_all(run: &mut Rehearsal, step: &Step) -> Result<(), RehearsalError> {
    let mut left: Vec<(&String, &Outcome)> = step.outcomes.iter().collect();
    while !left.is_empty() {
        let (mut waiting, mut problem) = (Vec::new(), None);
        let before = left.len();
        for (item, outcome) in left {
            if let Err(error) = run.end(item, outcome) {
                waiting.push((item, outcome));
                problem.get_or_insert(error);
            }
        }
        if let (true, Some(problem)) = (waiting.len() == before, problem) {
            return Err(problem);
        }
        left = waiting;
    }
    Ok(())
}

/// Asks a pattern on courses of these plans.
pub(super) async fn collect<S: PatternSubject>(subject: &S, subjects: &[Subject]) -> Moments {
    let mut moments = Moments::default();
    for course in subjects {
        let Ok(planning) = Planning::new(&course.plan, &course.params) else { continue };
        let decisions = match plan(subject, &planning, &course.name, &mut moments).await {
            Some(decisions) if decisions.findings.is_empty() => decisions,
            _ => continue,
        };
        let run = match planning.admit(subject.digest(), &decisions) {
            Ok(run) => run,
            Err(error) => {
                moments.unfit.push(format!("planning {}: {error}", course.name));
                continue;
            }
        };
        if !course.steps.is_empty() {
            scripted(subject, run.clone(), course, &mut moments).await;
        }
        for seed in 0..COURSES {
            random(subject, run.clone(), &course.name, seed, &mut moments).await;
        }
    }
    // What decided something first: that is where rules are broken.
    moments.all.sort_by_key(|moment| !moment.decided() && moment.plain.is_ok());
    moments.all.truncate(MOMENTS_MAX);
    moments
}

async fn plan<S: PatternSubject>(
    subject: &S,
    planning: &Planning,
    name: &str,
    moments: &mut Moments,
) -> Option<Decisions> {
    if !subject.has_planner() {
        return Some(Decisions::default());
    }
    let view = Arc::clone(planning.view());
    let plain = subject.ask(When::Plan, &view, Probe::default()).await;
    let decisions = plain.as_ref().ok().map(|outcome| outcome.decisions.clone());
    let name = format!("planning {name}");
    moments.all.push(Moment { name, when: When::Plan, view, plain, again: None });
    decisions
}

/// Asks when the pattern is due. `false`: this course is over.
async fn ask<S: PatternSubject>(
    subject: &S,
    run: &mut Rehearsal,
    name: String,
    keep: bool,
    moments: &mut Moments,
) -> bool {
    if !run.is_due() {
        return true;
    }
    let view = run.view();
    let plain = subject.ask(When::Step, &view, Probe::default()).await;
    let mut again = None;
    let goes_on = match &plain {
        Err(_) => false,
        Ok(outcome) => match run.take(&outcome.decisions) {
            Err(error) => {
                moments.unfit.push(format!("{name}: {error}"));
                false
            }
            Ok(added) => {
                again = (!added.is_empty()).then(|| {
                    let mut view_after = RunView::clone(&run.clone().view());
                    view_after.changed.extend(&view.changed);
                    view_after.changed.sort_unstable();
                    view_after.changed.dedup();
                    Arc::new(view_after)
                });
                true
            }
        },
    };
    if keep || plain.is_err() || again.is_some() {
        moments.all.push(Moment { name, when: When::Step, view, plain, again });
    }
    goes_on
}

async fn scripted<S: PatternSubject>(
    subject: &S,
    mut run: Rehearsal,
    course: &Subject,
    moments: &mut Moments,
) {
    for (number, step) in course.steps.iter().enumerate() {
        // What is wrong with the script is told where the case itself is checked.
        if end_all(&mut run, step).is_err() {
            return;
        }
        let name = format!("step {} of {}", number + 1, course.name);
        if !ask(subject, &mut run, name, true, moments).await {
            return;
        }
    }
}

async fn random<S: PatternSubject>(
    subject: &S,
    mut run: Rehearsal,
    plan: &str,
    seed: u64,
    moments: &mut Moments,
) {
    for step in 0..STEPS_MAX {
        let ready = run.ready();
        let dice = usize::try_from(dice("which", seed.wrapping_add(step as u64)) >> 1).unwrap_or(0);
        let Some(item) = ready.get(dice % ready.len().max(1)) else { return };
        let name = format!("course {seed} of {plan}, step {}", step + 1);
        if let Err(error) = run.end(item.as_str(), &outcome(item.as_str(), seed)) {
            moments.unfit.push(format!("{name}: {error}"));
            return;
        }
        if !ask(subject, &mut run, name, step < KEPT, moments).await {
            return;
        }
    }
    moments.unfit.push(format!("course {seed} of {plan}: no end after {STEPS_MAX} steps; bound the rounds"));
}

/// Answers over many items, the plan's own first.
pub(super) async fn large<S: PatternSubject>(
    subject: &S,
    subjects: &[Subject],
    count: usize,
) -> Vec<(String, Result<StepOutcome, PluginError>)> {
    let mut answers = Vec::new();
    let mut plans: Vec<&Subject> = subjects.iter().take(3).collect();
    plans.extend(subjects.iter().find(|subject| subject.name == "a-graph"));
    plans.dedup_by_key(|subject| subject.name.clone());
    for course in plans {
        let mut plan = course.plan.clone();
        let Some(items) = plan.get_mut("items").and_then(Value::as_array_mut) else { continue };
        let first = items.first().and_then(|item| item.get("id")).and_then(Value::as_str).map(str::to_owned);
        // Not roots, so that a pattern that chains roots has something to look at and nothing to add.
        let behind: Vec<&str> = first.as_deref().into_iter().collect();
        for number in items.len()..count {
            items.push(item(&format!("filler-{number}"), &behind));
        }
        let Ok(planning) = Planning::new(&plan, &course.params) else { continue };
        let name = |what: &str| format!("{what} {} with {count} items", course.name);
        let mut decisions = Decisions::default();
        if subject.has_planner() {
            let answer = subject.ask(When::Plan, planning.view(), Probe::default()).await;
            match &answer {
                Ok(outcome) if outcome.decisions.findings.is_empty() => decisions = outcome.decisions.clone(),
                _ => {
                    answers.push((name("planning"), answer));
                    continue;
                }
            }
            answers.push((name("planning"), answer));
        }
        let Ok(mut run) = planning.admit(subject.digest(), &decisions) else { continue };
        if let Some(item) = run.ready().first() {
            let green = Outcome { verify_passed: Some(true), ..Outcome::default() };
            if run.end(item.as_str(), &green).is_ok() && run.is_due() {
                answers
                    .push((name("a step of"), subject.ask(When::Step, &run.view(), Probe::default()).await));
            }
        }
        let ended = Arc::new(all_ended(planning.view()));
        answers.push((name("the end of"), subject.ask(When::Step, &ended, Probe::default()).await));
    }
    answers
}
