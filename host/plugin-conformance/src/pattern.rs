//! What every pattern must keep, whatever it decides. The order and the words are those of the suite in the SDK.

mod moments;
mod strange;
mod walk;

use std::{future::Future, sync::Arc};

use pangolin_core::{
    ids::Digest,
    pattern::{ItemPhase, RunView},
};
use pangolin_plugin_host::{Failure, Limits, PatternComponent, PluginError, Probe, StepOutcome};
use serde_json::{Value, json};

pub(crate) use walk::{WalkStep, walk, write_expectations};

use crate::{
    bill::{Cost, keep},
    check::{Options, first, is_limit, trap},
    fixture::{Fixture, FixtureFile, PatternFixture},
    mutate::mutations,
    rehearsal::Planning,
    report::{Check, Report},
};
use moments::{Moment, Moments, Subject};

/// What is asked of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// `planner.plan`, once, when a run is submitted.
    Plan,
    /// `decide.step`.
    Step,
}

/// Something that answers like a pattern. A trait, so that the suite can be shown something that no sandbox allows.
pub trait PatternSubject {
    /// Digest of the component.
    fn digest(&self) -> Digest;

    /// Whether it has a planner.
    fn has_planner(&self) -> bool;

    /// Answers once. Never asked for [`When::Plan`] without a planner.
    fn ask(
        &self,
        when: When,
        view: &Arc<RunView>,
        probe: Probe,
    ) -> impl Future<Output = Result<StepOutcome, PluginError>> + Send;
}

/// A component under its limits.
pub(crate) struct Loaded {
    component: PatternComponent,
    limits: Limits,
}

impl Loaded {
    pub(crate) const fn new(component: PatternComponent, limits: Limits) -> Self {
        Self { component, limits }
    }
}

impl PatternSubject for Loaded {
    fn digest(&self) -> Digest {
        self.component.digest()
    }

    fn has_planner(&self) -> bool {
        self.component.has_planner()
    }

    async fn ask(&self, when: When, view: &Arc<RunView>, probe: Probe) -> Result<StepOutcome, PluginError> {
        let component = self.component.with_limits(Limits { probe, ..self.limits.clone() });
        match when {
            When::Step => component.step(view).await,
            When::Plan => component.plan(view).await?.ok_or_else(|| {
                let problem = "the planner is gone".to_owned();
                PluginError::new(component.digest(), Failure::ContractMismatch { problem })
            }),
        }
    }
}

/// Host calls of one answer that are refused in turn, at most.
const REFUSALS_MAX: u64 = 400;

/// Answers whose host calls are refused in turn.
const REFUSED_MOMENTS: usize = 6;

/// Views made at random.
const RANDOM_VIEWS: u64 = 48;

/// Plans with something wrong, per recorded case.
const MUTATIONS: usize = 150;

/// Checks a pattern on the courses of these cases, and of some that every pattern must survive.
pub async fn check_pattern<S: PatternSubject>(
    subject: &S,
    fixtures: &[FixtureFile],
    options: &Options,
) -> Vec<Check> {
    let cases: Vec<(&FixtureFile, &PatternFixture)> = fixtures
        .iter()
        .filter_map(|file| match &file.fixture {
            Fixture::Pattern(fixture) => Some((file, &**fixture)),
            _ => None,
        })
        .collect();
    let subjects = moments::subjects(&cases);
    let moments = moments::collect(subject, &subjects).await;
    let mut report = Report::new(subject.digest(), None);
    let suite = Suite { subject, moments: &moments };
    suite.twice(&mut report).await;
    suite.seed(&mut report).await;
    suite.pages(&mut report).await;
    suite.idempotence(&mut report).await;
    suite.unknowns(&mut report).await;
    suite.refusals(&mut report).await;
    suite.limits(&subjects, options, &mut report).await;
    report.add(
        "decisions",
        first(&moments.unfit, || {
            format!("the engine takes what was decided in {} answers", moments.all.len())
        }),
        None,
    );
    suite.planner(&cases, &subjects, &mut report).await;
    suite.traps(&subjects, &mut report).await;
    for (file, fixture) in cases {
        let steps = walk(subject, fixture).await;
        let problems: Vec<String> = steps.iter().flat_map(WalkStep::problems).collect();
        let added = steps.iter().map(|step| step.added.len()).sum::<usize>();
        let seen = || format!("{} steps, {added} items added", steps.len());
        report.add(&format!("fixture:{}", file.name), first(&problems, seen), None);
    }
    report.checks
}

struct Suite<'a, S> {
    subject: &'a S,
    moments: &'a Moments,
}

/// What of an answer must be the same.
fn same(left: &Result<StepOutcome, PluginError>, right: &Result<StepOutcome, PluginError>) -> bool {
    match (left, right) {
        (Ok(left), Ok(right)) => left.decisions == right.decisions,
        (Err(left), Err(right)) => left.failure == right.failure,
        _ => false,
    }
}

/// An answer in a few words, for messages.
fn words(answer: &Result<StepOutcome, PluginError>) -> String {
    match answer {
        Ok(outcome) => {
            let decisions = &outcome.decisions;
            let ids: Vec<&str> = decisions.spawned.iter().take(8).map(|spec| spec.id.as_str()).collect();
            let why: Vec<&str> = decisions.explanations.iter().take(3).map(|it| it.why.as_str()).collect();
            let close = if decisions.close { ", close" } else { "" };
            let why: String = why.join(" | ").chars().take(160).collect();
            format!("[{}]{close} ({why})", ids.join(", "))
        }
        Err(error) => error.failure.to_string().chars().take(300).collect(),
    }
}

impl<S: PatternSubject> Suite<'_, S> {
    /// Answers that are no trap, which is what the checks compare with.
    fn sound(&self) -> impl Iterator<Item = &Moment> {
        self.moments.all.iter().filter(|moment| match &moment.plain {
            Ok(_) => true,
            Err(error) => trap(error).is_none(),
        })
    }

    /// Asks every sound moment again, as `change` says; the answer must be the same.
    async fn compare(
        &self,
        what: &str,
        change: impl Fn(&Moment) -> (Arc<RunView>, Probe),
    ) -> (usize, Vec<String>) {
        let (mut count, mut problems) = (0, Vec::new());
        for moment in self.sound() {
            let (view, probe) = change(moment);
            let other = self.subject.ask(moment.when, &view, probe).await;
            count += 1;
            if !same(&moment.plain, &other) {
                let (before, after) = (words(&moment.plain), words(&other));
                problems
                    .push(format!("{what} changes the decisions of {}: {before}, then {after}", moment.name));
            }
        }
        (count, problems)
    }

    async fn twice(&self, report: &mut Report) {
        let (mut problems, mut count, mut most) = (Vec::new(), 0, None);
        for moment in self.sound() {
            let again = self.subject.ask(moment.when, &moment.view, Probe::default()).await;
            count += 1;
            if !same(&moment.plain, &again) {
                let (before, after) = (words(&moment.plain), words(&again));
                problems.push(format!(
                    "asking again changes the decisions of {}: {before}, then {after}",
                    moment.name
                ));
            } else if let (Ok(plain), Ok(again)) = (&moment.plain, &again) {
                keep(&mut most, Cost::from(&plain.bill));
                if plain.bill.fuel != again.bill.fuel {
                    let (before, after) = (plain.bill.fuel, again.bill.fuel);
                    problems.push(format!(
                        "asking again changes the fuel of {}: {before}, then {after}",
                        moment.name
                    ));
                }
            }
        }
        report.add(
            "twice-run",
            first(&problems, || format!("{count} answers, equal in decisions and fuel")),
            most,
        );
    }

    async fn seed(&self, report: &mut Report) {
        let (count, problems) = self
            .compare("another seed", |moment| {
                let mut view = RunView::clone(&moment.view);
                view.seed ^= 0x000d_eadb_eefc_afe5;
                (Arc::new(view), Probe::default())
            })
            .await;
        let problems: Vec<String> = problems
            .into_iter()
            .map(|problem| {
                format!("order-dependent: {problem}; sort before you decide, and do not use the seed")
            })
            .collect();
        report.add("seed-swap", first(&problems, || format!("{count} answers, equal under two seeds")), None);
    }

    async fn pages(&self, report: &mut Report) {
        let (mut total, mut problems) = (0, Vec::new());
        for page in [1, 7, 1_024] {
            let probe = Probe { page_items: Some(page), ..Probe::default() };
            let what = format!("serving pages of {page}");
            let (count, found) = self.compare(&what, |moment| (Arc::clone(&moment.view), probe)).await;
            total += count;
            problems.extend(found.into_iter().map(|it| format!("{it}; read on until a page is empty")));
        }
        let seen = || format!("{total} answers, equal with views served in pages of 1, 7 and 1024");
        report.add("page-size", first(&problems, seen), None);
    }

    async fn idempotence(&self, report: &mut Report) {
        let (mut count, mut problems) = (0, Vec::new());
        for moment in self.sound() {
            let Some(view) = &moment.again else { continue };
            count += 1;
            if let Ok(outcome) = self.subject.ask(When::Step, view, Probe::default()).await {
                let ids: Vec<&str> = outcome.decisions.spawned.iter().map(|spec| spec.id.as_str()).collect();
                if !ids.is_empty() {
                    problems.push(format!(
                        "after {}, {} is added although the run holds what the same ends led to; look whether the \
                         item is there before you add it",
                        moment.name,
                        ids.join(", ")
                    ));
                }
            }
        }
        match count {
            0 => report
                .skip("idempotence", "no step of a course added an item; write a fixture in which one does"),
            _ => report.add(
                "idempotence",
                first(&problems, || {
                    format!("{count} views that hold what was added; nothing is added again")
                }),
                None,
            ),
        }
    }

    async fn unknowns(&self, report: &mut Report) {
        let (mut count, mut problems) = (0, Vec::new());
        for moment in self.sound() {
            let facts = self.subject.ask(moment.when, &strange::facts(&moment.view), Probe::default()).await;
            let phases =
                self.subject.ask(moment.when, &strange::phases(&moment.view), Probe::default()).await;
            count += 2;
            if let Err(error) = &facts
                && (moment.plain.is_ok() || trap(error).is_some())
            {
                let name = &moment.name;
                problems
                    .push(format!("unknown states and facts must be tolerated, {name}: {}", words(&facts)));
            }
            if let Err(error) = &phases
                && let Some(trap) = trap(error)
            {
                problems.push(format!("unlikely phases and unknown parameters, {}: {trap}", moment.name));
            }
        }
        let seen =
            || format!("{count} views with unknown states, facts, outputs, parameters and unlikely phases");
        report.add("unknowns", first(&problems, seen), None);
    }

    async fn refusals(&self, report: &mut Report) {
        let decides = |moment: &&Moment| {
            moment.plain.as_ref().is_ok_and(|outcome| {
                let it = &outcome.decisions;
                !it.spawned.is_empty() || !it.ordered.is_empty() || !it.held.is_empty()
            })
        };
        let (mut count, mut problems) = (0_u64, Vec::new());
        let mut moments: Vec<&Moment> = self.sound().filter(decides).collect();
        // The ones with the most to refuse first, and not the same twice.
        moments.sort_by_key(|moment| std::cmp::Reverse(moment.calls()));
        moments.dedup_by_key(|moment| moment.calls());
        for moment in moments.into_iter().take(REFUSED_MOMENTS) {
            let calls = moment.calls();
            let step = usize::try_from(calls.div_ceil(REFUSALS_MAX)).unwrap_or(1).max(1);
            for number in (1..=calls).step_by(step) {
                let probe = Probe { refuse_call: Some(number), ..Probe::default() };
                count += 1;
                if let Err(error) = self.subject.ask(moment.when, &moment.view, probe).await
                    && let Some(trap) = trap(&error)
                {
                    problems.push(format!(
                        "with host call {number} of {} refused: {trap}; a refusal is an answer, go on without or \
                         return a fault",
                        moment.name
                    ));
                }
            }
        }
        match count {
            0 => report.skip(
                "refusals",
                "no answer had something to refuse; write a fixture in which items are added",
            ),
            _ => report.add(
                "refusals",
                first(&problems, || format!("{count} host calls refused, never a trap")),
                None,
            ),
        }
    }

    async fn limits(&self, subjects: &[Subject], options: &Options, report: &mut Report) {
        let (mut most, mut problems, mut asked) = (None, Vec::new(), 0);
        for moment in &self.moments.all {
            match &moment.plain {
                Ok(outcome) => keep(&mut most, Cost::from(&outcome.bill)),
                Err(error) if is_limit(error.code()) => {
                    problems.push(format!("{}: {}", moment.name, error.failure))
                }
                Err(_) => {}
            }
        }
        for large in moments::large(self.subject, subjects, options.large_items).await {
            let (name, answer) = large;
            asked += 1;
            match answer {
                Ok(outcome) => keep(&mut most, Cost::from(&outcome.bill)),
                Err(error) if is_limit(error.code()) => problems.push(format!("{name}: {}", error.failure)),
                Err(_) => {}
            }
        }
        let seen = || format!("{asked} answers over {} items, within every limit", options.large_items);
        report.add("limits", first(&problems, seen), most);
    }

    async fn planner(
        &self,
        cases: &[(&FixtureFile, &PatternFixture)],
        subjects: &[Subject],
        report: &mut Report,
    ) {
        if !self.subject.has_planner() {
            return report.skip("planner", "it exports no planner");
        }
        let (mut asked, mut findings, mut problems) = (0_u64, 0_u64, Vec::new());
        let any = json!({ "id": "any", "queue": "any", "items": [moments::item("a", &[])] });
        let any = PatternFixture { plan: any, params: Value::Null, expect_plan: None, steps: Vec::new() };
        let all = cases.iter().map(|(file, fixture)| (file.name.as_str(), *fixture)).chain([("any", &any)]);
        for (name, fixture) in all {
            let params = moments::params(&fixture.params);
            let plans = mutations(&fixture.plan, MUTATIONS).into_iter().map(|plan| (plan, params.clone()));
            let other = mutations(&fixture.params, MUTATIONS / 3);
            let other = other.into_iter().map(|params| params.to_string());
            let texts = ["", "null", "[]", "7", "{", "\"x\"", "{\"xUnknown\":[{}]}"].map(str::to_owned);
            let params = other.chain(texts).map(|params| (fixture.plan.clone(), params));
            for (plan, params) in plans.chain(params) {
                // What validation refuses never reaches a planner.
                let Ok(planning) = Planning::new(&plan, &params) else { continue };
                asked += 1;
                match self.subject.ask(When::Plan, planning.view(), Probe::default()).await {
                    Ok(outcome) => findings += u64::from(!outcome.decisions.findings.is_empty()),
                    Err(error) => match trap(&error) {
                        None => findings += 1,
                        Some(trap) => problems.push(format!(
                            "{name} with something wrong in it: {trap}; bad configuration is a finding. The plan: {}, \
                             parameters {params:?}",
                            plan.to_string().chars().take(600).collect::<String>()
                        )),
                    },
                }
            }
        }
        for seed in 0..RANDOM_VIEWS {
            asked += 1;
            let view = strange::random(subjects, seed);
            if let Err(error) = self.subject.ask(When::Plan, &view, Probe::default()).await
                && let Some(trap) = trap(&error)
            {
                problems.push(format!("random view {seed}: {trap}; bad configuration is a finding"));
            }
        }
        let seen = || {
            format!(
                "{asked} plans with something wrong in them, {findings} answered with findings or a fault"
            )
        };
        report.add("planner", first(&problems, seen), None);
    }

    async fn traps(&self, subjects: &[Subject], report: &mut Report) {
        let (mut count, mut problems) = (self.moments.all.len(), Vec::new());
        let mut note = |name: &str, answer: &Result<StepOutcome, PluginError>| {
            if let Err(error) = answer
                && let Some(trap) = trap(error)
                && !is_limit(error.code())
            {
                problems.push(format!("{name}: {trap}"));
            }
        };
        for moment in &self.moments.all {
            note(&moment.name, &moment.plain);
        }
        for seed in 0..RANDOM_VIEWS {
            let view = strange::random(subjects, seed);
            count += 1;
            let answer = self.subject.ask(When::Step, &view, Probe::default()).await;
            note(&format!("random view {seed}"), &answer);
        }
        report.add(
            "no-traps",
            first(&problems, || format!("{count} answers, on random views too, never a trap")),
            None,
        );
    }
}

/// The view with every item ended, of which a few are new.
pub(crate) fn all_ended(view: &RunView) -> RunView {
    let mut view = view.clone();
    for index in 0..u32::try_from(view.items().len()).unwrap_or(u32::MAX) {
        let mut item = view.items()[index as usize].clone();
        item.phase = ItemPhase::Succeeded;
        item.state = "done".into();
        item.attempts = 1;
        view.set(index, item);
    }
    view.tick = 3;
    view.changed = (0..u32::try_from(view.items().len().min(64)).unwrap_or(0)).collect();
    view
}
