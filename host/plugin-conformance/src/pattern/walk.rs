//! One recorded case, step by step.

use std::sync::Arc;

use pangolin_core::{
    pattern::{Decisions, RunView},
    plan::PlanItem,
};
use pangolin_plugin_host::{Failure, PluginError, Probe, StepOutcome};
use serde_json::{Map, Value, json};

use super::{PatternSubject, When, moments};
use crate::{
    fixture::{FixtureError, FixtureFile, PatternExpect, PatternFixture},
    rehearsal::{Planning, Rehearsal},
};

/// What one step of a case led to.
pub(crate) struct WalkStep {
    /// `plan`, or the number of the step from 1.
    pub(crate) title: String,
    /// Items that the script ended, each with how.
    pub(crate) ended: Vec<(String, String)>,
    /// What was decided; `None` when the pattern was not asked.
    pub(crate) answer: Option<Result<StepOutcome, PluginError>>,
    /// What the run got.
    pub(crate) added: Vec<PlanItem>,
    /// Items of the run with their states, after the step.
    pub(crate) states: Vec<(String, String)>,
    /// What the case says.
    expect: Option<PatternExpect>,
    /// Why the case itself cannot go on.
    broken: Option<String>,
}

impl WalkStep {
    /// What was decided, in the form of an expectation.
    fn found(&self) -> PatternExpect {
        let mut found = PatternExpect::default();
        match &self.answer {
            Some(Ok(outcome)) => {
                let decisions = &outcome.decisions;
                found.spawned = decisions.spawned.iter().map(|spec| spec.id.to_string()).collect();
                found.findings = decisions.findings.iter().map(|finding| finding.pointer.clone()).collect();
                found.close = Some(decisions.close);
            }
            Some(Err(error)) => found.fault = Some(code(error)),
            None => {}
        }
        found.spawned.sort();
        found.findings.sort();
        found
    }

    /// Why the case itself cannot go on.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.as_ref().map(|problem| format!("{}: {problem}", self.title))
    }

    /// What is not as the case says.
    pub(crate) fn problems(&self) -> Vec<String> {
        let title = &self.title;
        let mut problems: Vec<String> = self.broken().into_iter().collect();
        let mut found = self.found();
        let Some(mut wanted) = self.expect.clone() else {
            if let (Some(Err(error)), true) = (&self.answer, problems.is_empty()) {
                problems.push(format!("{title}: {}", error.failure));
            }
            return problems;
        };
        wanted.spawned.sort();
        wanted.findings.sort();
        if wanted.close.is_none() || self.answer.is_none() {
            (wanted.close, found.close) = (None, None);
        }
        if wanted != found && self.broken.is_none() {
            let show = |expect: &PatternExpect| serde_json::to_string(expect).unwrap_or_default();
            let failure = match &self.answer {
                Some(Err(error)) => format!(" ({})", error.failure),
                _ => String::new(),
            };
            problems.push(format!("{title}: expected {}, decided {}{failure}", show(&wanted), show(&found)));
        }
        problems
    }
}

fn code(error: &PluginError) -> String {
    match &error.failure {
        Failure::Fault { code, .. } => code.clone(),
        other => other.code().to_owned(),
    }
}

/// Goes through a case.
pub(crate) async fn walk<S: PatternSubject>(subject: &S, fixture: &PatternFixture) -> Vec<WalkStep> {
    let mut plan = WalkStep {
        title: "plan".to_owned(),
        ended: Vec::new(),
        answer: None,
        added: Vec::new(),
        states: Vec::new(),
        expect: fixture.expect_plan.clone(),
        broken: None,
    };
    let planning = match Planning::new(&fixture.plan, &moments::params(&fixture.params)) {
        Ok(planning) => planning,
        Err(error) => {
            plan.broken = Some(error.to_string());
            return vec![plan];
        }
    };
    let mut decisions = Decisions::default();
    if subject.has_planner() {
        let answer = subject.ask(When::Plan, planning.view(), Probe::default()).await;
        let goes_on = answer.as_ref().is_ok_and(|outcome| outcome.decisions.findings.is_empty());
        if let Ok(outcome) = &answer {
            decisions = outcome.decisions.clone();
        }
        if !goes_on && fixture.expect_plan.is_none() && answer.is_ok() {
            let findings = decisions.findings.iter().map(|it| format!("{}: {}", it.pointer, it.message));
            plan.broken = Some(format!("the plan is rejected: {}", findings.collect::<Vec<_>>().join("; ")));
        }
        plan.answer = Some(answer);
        if !goes_on {
            return vec![plan];
        }
    }
    let mut run = match planning.admit(subject.digest(), &decisions) {
        Ok(run) => run,
        Err(error) => {
            plan.broken = Some(error.to_string());
            return vec![plan];
        }
    };
    let planned = decisions.spawned.iter().filter_map(|spec| run.state().item(&spec.id));
    plan.added = planned.map(|item| item.plan.clone()).collect();
    plan.states = states(&run);
    let mut steps = vec![plan];
    for (number, script) in fixture.steps.iter().enumerate() {
        let mut step = WalkStep {
            title: format!("step {}", number + 1),
            ended: script
                .outcomes
                .iter()
                .map(|(item, outcome)| {
                    let verify = match outcome.verify_passed {
                        Some(true) => ", verify passed",
                        Some(false) => ", verify red",
                        None => "",
                    };
                    let outputs = match outcome.outputs.as_slice() {
                        [] => String::new(),
                        outputs => format!(", outputs {}", outputs.join(" ")),
                    };
                    (item.clone(), format!("{}{verify}{outputs}", outcome.status))
                })
                .collect(),
            answer: None,
            added: Vec::new(),
            states: Vec::new(),
            expect: script.expect.clone(),
            broken: None,
        };
        if let Err(error) = moments::end_all(&mut run, script) {
            step.broken = Some(error.to_string());
        } else if run.is_due() {
            let view: Arc<RunView> = run.view();
            let answer = subject.ask(When::Step, &view, Probe::default()).await;
            match answer.as_ref().map(|outcome| run.take(&outcome.decisions)) {
                Ok(Ok(added)) => step.added = added,
                Ok(Err(error)) => step.broken = Some(error.to_string()),
                Err(_) => {}
            }
            step.answer = Some(answer);
        }
        step.states = states(&run);
        let over = step.broken.is_some() || matches!(step.answer, Some(Err(_)));
        steps.push(step);
        if over {
            break;
        }
    }
    steps
}

fn states(run: &Rehearsal) -> Vec<(String, String)> {
    run.state().items().map(|item| (item.id().to_string(), item.state.name().to_owned())).collect()
}

/// Writes what was decided as what is expected.
pub(crate) fn write_expectations(file: &FixtureFile, steps: &[WalkStep]) -> Result<(), FixtureError> {
    file.write(|document| {
        for (number, step) in steps.iter().enumerate() {
            if step.broken.is_some() {
                continue;
            }
            let found = json!(step.found());
            let place: Option<(&mut Map<String, Value>, &str)> = match number.checked_sub(1) {
                None if step.answer.is_some() => Some((document, "expectPlan")),
                None => None,
                Some(index) => {
                    let steps = document.get_mut("steps").and_then(Value::as_array_mut);
                    steps.and_then(|steps| steps.get_mut(index)?.as_object_mut()).map(|step| (step, "expect"))
                }
            };
            if let Some((object, key)) = place {
                object.insert(key.to_owned(), found);
            }
        }
    })
}
