//! Calls of AWS that fail, through the whole stack: functions and workers are processes, and a proxy between them and the
//! emulators decides which of their calls fail, and how.
//!
//! Every test ends with the same: all runs are done, every item ran once (but for workers that were lost on purpose), there is
//! one task for each attempt, and every bundle is tamper-evident.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use pangolin_aws_e2e::{EmulatedStack, Options, Project};
use pangolin_aws_proxy::{Call, Fault, Kind, Outcome, Refusal};
use pangolin_core::ids::RunId;
use pangolin_lambda_fake::{Kill, LambdaFake};
use pangolin_runtime::deployment::Deployment;
use tempfile::TempDir;

const TICK: &str = env!("CARGO_BIN_EXE_pangolin-lambda-tick");

/// Class of the calls about the lease.
const LEASE: &str = "cell:lease/scheduler";

/// One look at a time, so that the end of a look is the end of all its calls.
fn alone() -> Options {
    Options { ticks: 1, ..Options::default() }
}

/// A stack with its project, and somebody at home who has agents.
struct Stage {
    stack: EmulatedStack,
    home: Deployment,
    project: TempDir,
    _dir: TempDir,
}

async fn start(options: Options, executor: &str) -> Option<Stage> {
    let project = Project { repository: true, executor }.make();
    let stack = EmulatedStack::deploy(Path::new(TICK).parent().unwrap(), project.path(), options).await?;
    let (home, dir) = stack.at_home().await;
    stack.cast(&home).await;
    Some(Stage { stack, home, project, _dir: dir })
}

impl Stage {
    /// A fan-out and a gated circle-back, from the submission to bundles that verify.
    async fn round(&self, number: usize) {
        let (fan, circle) = (format!("fan-{number}"), format!("circle-{number}"));
        let before = self.stack.ecs.tasks().len();
        self.stack.submit_fan(&self.home, &fan).await;
        self.stack.submit_circle(&self.home, &circle).await;
        let mut attempts = 0;
        for run in [&fan, &circle] {
            let outcome = self.stack.until_ended(&self.home, run).await;
            assert_eq!(outcome, "Done", "{run}: {}", self.stack.logs());
            attempts += self.stack.ran_once(&self.home, run).await;
        }
        assert_eq!(self.stack.ecs.tasks().len() - before, attempts, "tasks of {fan} and {circle}");
        assert_eq!(self.stack.lambda.violations(), Vec::<String>::new());
    }

    fn kinds(&self) -> BTreeSet<Kind> {
        self.stack.proxy.counts().into_keys().collect()
    }
}

/// Where a kind of call is on its way through its two failures.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// All its calls fail before they have an effect, as long as the spell lasts.
    Before(Spell),
    /// They have their effect and no answer, as long as the spell lasts.
    After(Spell),
    Over,
}

/// Longer than any repetition: for a tick until it ends, whatever it repeats meanwhile; for the other functions a call of the
/// SDK with all its tries; for a worker a request, since more would be a lost worker.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spell {
    logical: String,
    ended: usize,
}

impl Spell {
    fn begin(call: &Call, ended: usize) -> Self {
        Self { logical: call.logical.clone(), ended }
    }

    fn lasts(&self, call: &Call, ended: usize) -> bool {
        if call.kind.caller == "tick" { self.ended == ended } else { self.logical == call.logical }
    }
}

/// Kinds of calls in trouble, each twice, as they come.
#[derive(Debug, Default)]
struct Troubles {
    kinds: BTreeSet<Kind>,
    seen: BTreeMap<Kind, Trouble>,
}

impl Troubles {
    fn decide(&mut self, call: &Call, ended: usize) -> Option<Fault> {
        if !self.kinds.contains(&call.kind) {
            return None;
        }
        let begin = Spell::begin(call, ended);
        let next = match self.seen.get(&call.kind) {
            None => Trouble::Before(begin),
            Some(Trouble::Before(spell)) if spell.lasts(call, ended) => Trouble::Before(spell.clone()),
            Some(Trouble::Before(_)) => Trouble::After(begin),
            Some(Trouble::After(spell)) if spell.lasts(call, ended) => Trouble::After(spell.clone()),
            Some(Trouble::After(_) | Trouble::Over) => Trouble::Over,
        };
        // What a client may meet in an outage, in turns.
        let fault = match (&next, call.attempt % 3) {
            (Trouble::Before(_), 1) => Some(Fault::Reset),
            (Trouble::Before(_), 2) => Some(Fault::Refuse(Refusal::Internal)),
            (Trouble::Before(_), _) => Some(Fault::Refuse(Refusal::Unavailable)),
            (Trouble::After(_), 1) => Some(Fault::LoseAnswer),
            (Trouble::After(_), _) => Some(Fault::RefuseAfterEffect(Refusal::Internal)),
            (Trouble::Over, _) => None,
        };
        self.seen.insert(call.kind.clone(), next);
        fault
    }

    /// What has not been in trouble twice.
    fn left(&self) -> Vec<Kind> {
        let is_left = |kind: &&Kind| !matches!(self.seen.get(*kind), Some(Trouble::After(_) | Trouble::Over));
        self.kinds.iter().filter(is_left).cloned().collect()
    }
}

fn ended(lambda: &LambdaFake, kind: &Kind) -> usize {
    if kind.caller == "tick" { lambda.invocations("tick").unwrap().len() } else { 0 }
}

/// Rounds until each of these kinds was in trouble twice.
async fn in_trouble(kinds: BTreeSet<Kind>) {
    const ROUNDS: usize = 6;
    let stage = start(alone(), "").await.unwrap();
    let troubles = Arc::new(Mutex::new(Troubles { kinds, ..Troubles::default() }));
    let (rule, lambda) = (troubles.clone(), stage.stack.lambda.clone());
    stage.stack.proxy.hurry();
    stage.stack.proxy.rule(move |call| rule.lock().unwrap().decide(call, ended(&lambda, &call.kind)));
    for number in 1..=ROUNDS {
        // What is called at the start of a function is called again.
        stage.stack.lambda.kill_next("tick", Kill::AtInvocation).unwrap();
        stage.round(number).await;
        if troubles.lock().unwrap().left().is_empty() {
            break;
        }
    }
    assert_eq!(troubles.lock().unwrap().left(), Vec::<Kind>::new(), "came too rarely");
    let looks = stage.stack.lambda.invocations("tick").unwrap();
    assert!(looks.iter().any(|look| !look.is_success()), "no look failed");
}

/// Each kind of call that there is fails for so long that the function's own call fails, once before it takes effect and once
/// after it did. Which kinds there are is seen without any fault, so that a new one cannot be forgotten here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_fails_for_good_before_and_after_its_effect() {
    /// Most of the time is waiting for pauses.
    const STACKS: usize = 4;
    let Some(calm) = start(alone(), "").await else { return };
    calm.round(1).await;
    let kinds = calm.kinds();
    drop(calm);
    println!("{} kinds: {}", kinds.len(), kinds.iter().map(Kind::to_string).collect::<Vec<_>>().join(", "));
    for (caller, service) in [
        ("inbox", "sqs"),
        ("task-events", "sqs"),
        ("tick", "dynamodb"),
        ("tick", "ecs"),
        ("tick", "s3"),
        ("tick", "secretsmanager"),
        ("worker", "s3"),
    ] {
        assert!(
            kinds.iter().any(|kind| kind.caller == caller && kind.service == service),
            "{caller} {service}"
        );
    }
    let parts = (0..STACKS).map(|part| kinds.iter().skip(part).step_by(STACKS).cloned().collect());
    let stages: Vec<_> = parts.map(|part| tokio::spawn(in_trouble(part))).collect();
    for stage in stages {
        stage.await.unwrap();
    }
}

/// In each round of the same work every fifth call of each kind fails, another fifth each time: first each before it has an
/// effect, then each after it. So every call of the work fails once before and once after, and the clients repeat it: nobody else
/// notices. Not all in one round: a client that meets nothing but failures stops repeating, the SDK has a budget for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_fails_once_before_and_once_after_its_effect_and_is_repeated() {
    const PARTS: usize = 5;
    let Some(stage) = start(alone(), "").await else { return };
    stage.round(0).await;
    let kinds = stage.kinds();
    stage.stack.proxy.hurry();
    for round in 1..=2 * PARTS {
        let (part, after) = (round % PARTS, round > PARTS);
        let mut numbers: HashMap<Kind, usize> = HashMap::new();
        stage.stack.proxy.rule(move |call| {
            let number = numbers.entry(call.kind.clone()).or_default();
            *number += 1;
            (*number % PARTS == part).then_some(match (after, call.nth % 2) {
                (false, 0) => Fault::Reset,
                (false, _) => Fault::Refuse(Refusal::Unavailable),
                (true, 0) => Fault::LoseAnswer,
                (true, _) => Fault::RefuseAfterEffect(Refusal::Internal),
            })
        });
        // What is called at the start of a function is called again, and its client has its whole budget.
        stage.stack.lambda.kill_next("tick", Kill::AtInvocation).unwrap();
        stage.round(round).await;
    }
    let counts = stage.stack.proxy.counts();
    // What comes less than once in a round is left to the test above.
    for kind in kinds.iter().filter(|kind| counts[kind].calls > 2 * PARTS as u64) {
        let count = &counts[kind];
        assert!(count.failed_before.min(count.failed_after) >= 1, "{kind}: {count:?}");
    }
    let looks = stage.stack.lambda.invocations("tick").unwrap();
    let failed: Vec<_> = looks.iter().filter(|look| !look.is_success()).collect();
    assert!(failed.iter().all(|look| format!("{:?}", look.outcome) == "Killed"), "{failed:?}");
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    /// From 0 up to `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Half of the first calls are throttled or meet somebody else at the same place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_all_calls_are_throttled_and_meet_others() {
    const CALLS: u64 = 500;
    let Some(stage) = start(Options::default(), "").await else { return };
    let (mut seen, mut dice) = (0, Dice(20_261_122));
    stage.stack.proxy.rule(move |call| {
        seen += 1;
        let half = dice.roll(2) == 0;
        let refusal = match (call.kind.service.as_str(), dice.roll(3)) {
            // S3 answers so for conditional writes only.
            ("s3", 0) if call.creates => Refusal::Conflict,
            ("dynamodb", 0) => Refusal::Conflict,
            ("dynamodb", 1) => Refusal::Cancelled("ThrottlingError"),
            _ => Refusal::Throttled,
        };
        (seen <= CALLS && half).then_some(Fault::Refuse(refusal))
    });
    stage.round(1).await;
    let counts = stage.stack.proxy.counts();
    let refused: u64 = counts.values().map(|count| count.failed_before).sum();
    assert!(refused > 150, "only {refused} calls were refused");
}

/// ECS forgets a task that left nothing: one lost attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_vanishes_is_one_lost_attempt() {
    let Some(stage) = start(Options::default(), "visibility_seconds = 5").await else { return };
    let Stage { stack, home, project, .. } = &stage;
    let gate = project.path().join("gate");
    let script = format!("while [ ! -e {} ]; do sleep 0.1; done; echo ok > ok.txt", gate.display());
    stack.agent(home, "wait", &script).await;
    stack.submit(home, "vanished", &[("one", "wait", &[])]).await;
    // Its work is done by other processes: there is nothing to wait on but what they left.
    while stack.ecs.tasks().first().is_none_or(|task| task.last_status != "RUNNING") {
        stack.lambda.tick_clock().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stack.ecs.vanish(&stack.ecs.tasks()[0].arn);
    fs::write(&gate, "").unwrap();
    assert_eq!(stack.until_ended(home, "vanished").await, "Done", "{}", stack.logs());
    let view = home.run_view(&RunId::new("vanished").unwrap()).await.unwrap();
    assert_eq!((view.items[0].attempts.len(), stack.ecs.tasks().len()), (2, 2), "{view:?}");
    stack.is_tamper_evident(home, "vanished").await;
    assert_eq!(stack.lambda.violations(), Vec::<String>::new());
}

/// One look hangs when it has done everything, until Lambda ends it; another one in the middle, with a task that was started and
/// is not in the ledger: it gives up in time and gives back its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_that_meet_their_time_limit_are_taken_up_by_the_next() {
    let options = Options { ticks: 1, tick_seconds: 8, ..Options::default() };
    let Some(stage) = start(options, "").await else { return };
    stage.stack.proxy.rule(|call| {
        // The lease is taken with the first and given back with the second.
        let last =
            call.kind.class.contains(LEASE) && call.kind.operation == "TransactWriteItems" && call.nth == 2;
        let middle = call.kind.operation == "RunTask" && call.nth == 1;
        (last || middle).then_some(Fault::HangAfterEffect)
    });
    stage.stack.lambda.tick_clock().await.unwrap();
    stage.round(1).await;
    let looks = stage.stack.lambda.invocations("tick").unwrap();
    let ends = looks.iter().filter(|look| !look.is_success());
    let ends: Vec<String> = ends.map(|look| format!("{:?}", look.outcome)).collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert_eq!(ends[0], "TimedOut");
    assert!(ends[1].contains("Tick.TooLate"), "{ends:?}");
}

/// Three functions look as often as they can, first with the lease that keeps all but one of them away, then without: to all
/// of them the lease looks free. What guarantees anything is the ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_looks_at_once_and_a_storm_of_doorbells_start_nothing_twice() {
    let Some(stage) = start(Options { ticks: 3, ..Options::default() }, "").await else { return };
    let storm = stage.stack.lambda.clone();
    let storm = tokio::spawn(async move {
        let ring = || async {
            loop {
                // One that is throttled is as good as any other.
                if storm.invoke("tick", r#"{"doorbell":"storm"}"#).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::join!(ring(), ring(), ring())
    });
    stage.round(1).await;
    stage.stack.proxy.rule(|call| call.kind.class.contains(LEASE).then_some(Fault::Pretend("{}")));
    stage.round(2).await;
    storm.abort();
    let met = |(call, outcome): &(Call, Outcome)| {
        call.kind.operation == "TransactWriteItems"
            && !call.kind.class.contains(LEASE)
            && *outcome == Outcome::Answered(400)
    };
    assert!(stage.stack.proxy.calls().iter().any(met), "no two looks met at the ledger");
}
