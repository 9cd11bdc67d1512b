//! Bundles of runs that a real component grew: as recorded they agree, and every lie is named.

#[path = "../../audit/tests/common/mod.rs"]
mod common;

use common::{Run, item, key};
use pangolin_audit::{
    canon,
    report::Verdict,
    verify::{Trust, verify_bundle},
};
use pangolin_core::{
    entry::{Entry, EntryBody, RunOutcome},
    ids::Digest,
    pattern::{Addition, DecisionRecord, Decisions, Explanation, FailurePolicy, PatternFailure, StepLimits},
};
use pangolin_plugin_host::{CacheKey, Compiler, HostOptions, PatternComponent, PluginHost};
use pangolin_replay::{
    Ask, Comparison, Given, Progress, ReplayReport, ReplayVerdict, render_replay, replay, replay_steps,
};

/// Does what its parameters say; kept for ever.
const HOSTILE: &[u8] = include_bytes!("../../../tests/corpus/plugins/pattern/1.0.0-rust-hostile.wasm");
/// Decides nothing and closes.
const STATIC: &[u8] = include_bytes!("../../../tests/corpus/plugins/pattern/1.0.0-rust-static-dag.wasm");

fn host() -> PluginHost {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    PluginHost::with_options(&dir, CacheKey::from_bytes([7; 32]), options).expect("a plugin host")
}

fn load(bytes: &[u8]) -> PatternComponent {
    host().load_pattern(bytes).expect("a pattern")
}

fn hostile() -> Digest {
    Digest::of(HOSTILE)
}

/// A run with one item that has ended, bound to `component`.
async fn begun(component: &[u8], params: &str) -> Run {
    let pattern = Digest::of(component);
    let mut run = Run::submit_with("growing", &[("first", &[])], |submitted| {
        submitted.pattern = Some(pattern);
        submitted.pattern_id = Some("scripted".to_owned());
    });
    run.keep(component.to_vec());
    run.params(params);
    step(&mut run, component).await;
    run.fire("first", 1, &[]);
    run.done("first", 1);
    run
}

/// Asks the component and records the answer as it is.
async fn step(run: &mut Run, component: &[u8]) {
    step_with(run, component, |_| ()).await;
}

async fn step_with(run: &mut Run, component: &[u8], change: impl FnOnce(&mut DecisionRecord)) {
    let additions = record(run, component, change).await;
    for addition in additions {
        run.extend(Digest::of(component), addition);
    }
}

async fn record(run: &mut Run, component: &[u8], change: impl FnOnce(&mut DecisionRecord)) -> Vec<Addition> {
    let (asked, _, seen) = run.look(Digest::of(component));
    let answer = load(component).ask(asked.step, &seen.view, None).await;
    let (decisions, fuel, peak, failure) = match answer {
        Ok(answer) => (answer.decisions, answer.fuel, answer.peak_memory, None),
        Err(failed) => {
            let failure =
                PatternFailure { code: failed.code, message: failed.message, policy: FailurePolicy::Open };
            (Decisions::default(), 0, 0, Some(failure))
        }
    };
    run.record(Digest::of(component), &decisions, |record| {
        (record.fuel, record.peak_memory, record.failure) = (fuel, peak, failure);
        change(record);
    })
}

/// A whole run: `first` ends, two items are added, they end.
async fn grown() -> Run {
    let mut run = begun(HOSTILE, "spawn 2").await;
    step(&mut run, HOSTILE).await;
    end(&mut run);
    run
}

fn end(run: &mut Run) {
    for id in ["item-0", "item-1"] {
        run.fire(id, 1, &[]);
        run.done(id, 1);
    }
    run.complete(RunOutcome::Done);
}

async fn replayed(bytes: &[u8]) -> ReplayReport {
    replay(bytes, &host(), &Given::default(), |_| ()).await.expect("a bundle")
}

/// What the ordinary verification says: no signature and no digest is wrong with what the tests below forge.
fn verified(bytes: &[u8]) -> (Verdict, Option<String>) {
    let report = verify_bundle(bytes, &Trust { keys: vec![key().verifier_key()], ..Trust::default() });
    (report.verdict, report.failure.map(|failure| failure.check))
}

#[track_caller]
fn assert_differs(report: &ReplayReport, step: u64, item: Option<&str>, member: &str, texts: [&str; 2]) {
    assert_eq!(report.verdict, ReplayVerdict::Differs, "{report:#?}");
    let difference = report.difference.as_ref().expect("a difference");
    assert_eq!((difference.step, difference.what.item.as_deref()), (step, item), "{difference:#?}");
    assert_eq!(difference.what.member, member, "{difference:#?}");
    let [recorded, now] = texts;
    assert!(difference.what.recorded.contains(recorded), "{difference:#?}");
    assert!(difference.what.now.contains(now), "{difference:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_as_recorded_agrees() {
    let bytes = grown().await.bundle(Some(RunOutcome::Done));
    assert_eq!(verified(&bytes), (Verdict::Intact, None));
    let mut told = Vec::new();
    let report =
        replay(&bytes, &host(), &Given::default(), |progress| told.push(progress)).await.expect("a bundle");
    assert_eq!(report.verdict, ReplayVerdict::Agrees, "{report:#?}");
    assert_eq!((report.steps, report.agreed, report.notes.len()), (2, 2, 0), "{report:#?}");
    assert_eq!(told, [Progress { done: 0, total: 2 }, Progress { done: 1, total: 2 }]);
    let component = &report.components[0];
    assert_eq!((component.digest, component.steps), (hostile(), 2));
    assert_eq!(component.fuel_now, component.fuel_recorded);
    assert!(component.fuel_now > 0);
    let json = serde_json::to_string(&report).expect("JSON");
    assert_eq!(serde_json::from_str::<ReplayReport>(&json).expect("report"), report);
    assert!(render_replay(&report).starts_with("✓ REPLAY  2 of 2 steps decide as recorded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_costs_differently_is_a_note() {
    let mut run = begun(HOSTILE, "spawn 2").await;
    step_with(&mut run, HOSTILE, |record| {
        record.fuel += 5;
        record.engine = "wasmtime 47.0.1".to_owned();
    })
    .await;
    end(&mut run);
    let report = replayed(&run.bundle(Some(RunOutcome::Done))).await;
    assert_eq!(report.verdict, ReplayVerdict::Agrees, "{report:#?}");
    assert!(report.notes[0].starts_with("recorded with wasmtime 47.0.1, executed with"), "{report:#?}");
    assert!(report.notes[1].contains("units of fuel"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_decisions_has_nothing_to_replay() {
    let report = replayed(&common::small_run().bundle(Some(RunOutcome::Done))).await;
    assert_eq!((report.verdict, report.steps), (ReplayVerdict::Nothing, 0));
    assert!(render_replay(&report).contains("no pattern decided anything"));
}

/// A signed record whose step 1 says something else than the component decides.
async fn forged(params: &str, change: impl FnOnce(&mut Decisions)) -> Vec<u8> {
    let mut run = begun(HOSTILE, params).await;
    let (asked, _, seen) = run.look(hostile());
    let mut decisions = load(HOSTILE).ask(asked.step, &seen.view, None).await.expect("an answer").decisions;
    change(&mut decisions);
    run.decide(hostile(), &decisions, |_| ());
    run.bundle(None)
}

/// Changes a member of the `at`th item.
fn member(decisions: &mut Decisions, at: usize, key: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let item = &mut decisions.spawned[at].item;
    let mut members = item.to_json();
    change(&mut members[key]);
    *item = members.into();
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_decisions_are_named_with_item_and_member() {
    type Change = fn(&mut Decisions);
    let cases: [(Change, Option<&str>, &str, [&str; 2]); 8] = [
        (
            |decisions| {
                member(decisions, 1, "inputs", |it| drop(it.as_object_mut().expect("inputs").remove("n")));
            },
            Some("item-1"),
            "spawned/inputs/n",
            ["(nothing)", "1"],
        ),
        (
            |decisions| member(decisions, 0, "executor", |it| *it = "other".into()),
            Some("item-0"),
            "spawned/executor",
            ["other", "dispatch"],
        ),
        (
            |decisions| member(decisions, 0, "resourceLocks", |it| it[0] = "m".into()),
            Some("item-0"),
            "spawned/resourceLocks/0",
            ["m", "l"],
        ),
        // One that the component would have added was dropped, before and after signing.
        (|decisions| drop(decisions.spawned.pop()), Some("item-1"), "spawned", ["(nothing)", "item-1"]),
        (|decisions| decisions.spawned.swap(0, 1), Some("item-1"), "spawned", ["item-1", "item-0"]),
        (
            |decisions| {
                let mut more = decisions.spawned[1].clone();
                more.id = item("more");
                decisions.spawned.push(more);
                member(decisions, 2, "id", |it| *it = "more".into());
            },
            Some("more"),
            "spawned",
            ["more", "(nothing)"],
        ),
        (
            |decisions| {
                decisions.explanations[0] =
                    Explanation { item: "item-0".to_owned(), why: "because".to_owned() };
            },
            Some("item-0"),
            "explanation",
            ["because", "asked to"],
        ),
        (|decisions| decisions.close = false, None, "close", ["false", "true"]),
    ];
    for (change, item, member, texts) in cases {
        let bytes = forged("spawn 2", change).await;
        // Everything that can be checked without executing holds: the forger has the key.
        assert_eq!(verified(&bytes), (Verdict::Incomplete, None), "{member}");
        let report = replayed(&bytes).await;
        assert_differs(&report, 1, item, member, texts);
        assert_eq!(report.agreed, 1);
        let text = render_replay(&report);
        assert!(text.starts_with("✗ REPLAY DIFFERS") && text.contains(member), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_view_is_named() {
    let mut run = begun(HOSTILE, "spawn 2").await;
    step_with(&mut run, HOSTILE, |record| record.view = Digest::of(b"other")).await;
    let bytes = run.bundle(None);
    assert_eq!(verified(&bytes), (Verdict::Failed, Some("steps".to_owned())));
    let report = replayed(&bytes).await;
    assert_differs(&report, 1, None, "view", [&Digest::of(b"other").to_string(), "sha256:"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_component_does_not_decide_the_same() {
    // The run is admitted with, and names, a component that never decided what is recorded.
    let bytes = {
        let mut run = begun(STATIC, "spawn 2").await;
        let decisions = {
            let (asked, _, seen) = run.look(Digest::of(STATIC));
            load(HOSTILE).ask(asked.step, &seen.view, None).await.expect("an answer").decisions
        };
        run.decide(Digest::of(STATIC), &decisions, |_| ());
        run.bundle(None)
    };
    assert_eq!(verified(&bytes), (Verdict::Incomplete, None));
    let report = replayed(&bytes).await;
    assert_eq!(report.verdict, ReplayVerdict::Differs, "{report:#?}");

    // Other bytes under the digest of the component.
    let run = grown().await;
    let bytes = run.bundle(Some(RunOutcome::Done));
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    let other = value["objects"][Digest::of(b"spawn 2").to_string()].clone();
    value["objects"][hostile().to_string()] = other;
    let swapped = canon::to_vec(&value).expect("bundle");
    assert_eq!(verified(&swapped).0, Verdict::Failed);
    let report = replayed(&swapped).await;
    assert_eq!((report.verdict, report.not_executed_count), (ReplayVerdict::NotExecuted, 2));
    assert!(report.not_executed[0].reason.contains("is damaged in the bundle"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_executed_is_named_and_a_given_component_helps() {
    let run = grown().await;
    let without = run.bundle_with(Some(RunOutcome::Done), &key(), |digest| *digest != hostile());
    let report = replayed(&without).await;
    assert_eq!((report.verdict, report.not_executed_count), (ReplayVerdict::NotExecuted, 2));
    let reason = &report.not_executed[0].reason;
    assert!(reason.contains(&hostile().to_string()) && reason.contains("--component"), "{reason}");
    assert!(render_replay(&report).starts_with("? REPLAY INCOMPLETE"));
    // A wrong one is not used, the right one is.
    for (bytes, verdict) in [(STATIC, ReplayVerdict::NotExecuted), (HOSTILE, ReplayVerdict::Agrees)] {
        let given = Given { components: vec![bytes.to_vec()] };
        let report = replay(&without, &host(), &given, |_| ()).await.expect("a bundle");
        assert_eq!(report.verdict, verdict, "{report:#?}");
    }

    type Change = fn(&mut DecisionRecord);
    let cases: [(Change, &str); 3] = [
        (|record| record.contract = "pangolin:pattern@1.99.0".to_owned(), "use a newer pangolin"),
        (|record| record.contract = "pangolin:pattern@2.0.0".to_owned(), "use a newer pangolin"),
        (|record| record.profile = "pure/99".to_owned(), "engine profile"),
    ];
    for (change, text) in cases {
        let mut run = begun(HOSTILE, "spawn 2").await;
        step_with(&mut run, HOSTILE, change).await;
        let report = replayed(&run.bundle(None)).await;
        assert_eq!((report.verdict, report.agreed), (ReplayVerdict::NotExecuted, 1), "{report:#?}");
        assert!(report.not_executed[0].reason.contains(text), "{report:#?}");
    }

    // Decisions that are missing, and entries behind which nothing can be rebuilt.
    let run = grown().await;
    let (blob, plan) = (decisions_of(&run, 1), run.plan);
    let report = replayed(&run.bundle_with(None, &key(), |digest| *digest != blob)).await;
    assert_eq!((report.agreed, report.not_executed_count), (1, 1), "{report:#?}");
    let report = replayed(&run.bundle_with(None, &key(), |digest| *digest != plan)).await;
    assert_eq!((report.agreed, report.not_executed_count), (0, 2), "{report:#?}");
    assert!(report.not_executed[0].reason.contains("beyond entry seq 0"), "{report:#?}");
    assert!(replay(b"{}", &host(), &Given::default(), |_| ()).await.is_err());
}

fn entries(run: &Run) -> Vec<Entry> {
    run.records.iter().map(|record| canon::decode_entry(record).expect("entry")).collect()
}

fn decisions_of(run: &Run, step: u64) -> Digest {
    let found = entries(run).into_iter().find_map(|entry| match entry.body {
        EntryBody::PatternDecided(record) if record.step == step => Some(record.decisions),
        _ => None,
    });
    found.expect("the step")
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_failures_must_happen_again() {
    // Real ones do.
    let codes = [
        ("panic", "guest-panic"),
        ("fault gone", "fault"),
        ("spin", "cpu-budget"),
        ("recurse", "stack"),
        ("exit", "guest-exit"),
    ];
    for (params, code) in codes {
        let mut run = begun(HOSTILE, params).await;
        step_with(&mut run, HOSTILE, |record| {
            assert_eq!(record.failure.as_ref().map(|failure| &*failure.code), Some(code), "{params}");
        })
        .await;
        run.complete(RunOutcome::Done);
        let report = replayed(&run.bundle(Some(RunOutcome::Done))).await;
        assert_eq!(report.verdict, ReplayVerdict::Agrees, "{params}: {report:#?}");
    }
    let claim = |code: &'static str| {
        move |record: &mut DecisionRecord| {
            (record.fuel, record.peak_memory) = (20_000_000, 64 << 20);
            let (code, message) = (code.to_owned(), format!("{code}: so they say"));
            record.failure = Some(PatternFailure { code, message, policy: FailurePolicy::Open });
        }
    };
    let lie = async |params: &str, code: &'static str| {
        let mut run = begun(HOSTILE, params).await;
        run.record(hostile(), &Decisions::default(), claim(code));
        run.complete(RunOutcome::Done);
        let bytes = run.bundle(Some(RunOutcome::Done));
        assert_eq!(verified(&bytes), (Verdict::Intact, None));
        replayed(&bytes).await
    };
    // It decides, or fails otherwise.
    let report = lie("spawn 2", "guest-panic").await;
    assert_differs(&report, 1, None, "failure", ["it failed with guest-panic", "it decides"]);
    let report = lie("spawn 2", "cpu-budget").await;
    assert_differs(&report, 1, None, "failure", ["it failed with cpu-budget", "it decides"]);
    let report = lie("panic", "cpu-budget").await;
    assert_differs(&report, 1, None, "failure", ["it failed with cpu-budget", "it fails with guest-panic"]);
    // What is a machine's cannot be proven; that is said, and it does not count as agreed.
    for code in ["deadline", "host-busy", "host-error"] {
        let report = lie("spawn 2", code).await;
        assert_eq!((report.verdict, report.agreed, report.unrepeatable), (ReplayVerdict::Agrees, 1, 1));
        assert!(report.notes[0].contains(code), "{report:#?}");
        let text = render_replay(&report);
        assert!(text.contains("1 of 2 steps decide as recorded, 1 not provable"), "{text}");
        assert!(text.contains(&format!("not provable: failed with {code} on the machine")), "{text}");
    }
    // Older records do not have the limits, but what was used.
    let mut run = begun(HOSTILE, "spawn 2").await;
    run.record(hostile(), &Decisions::default(), |record| {
        claim("cpu-budget")(record);
        record.fuel = 1_000;
    });
    let report = replayed(&run.bundle(None)).await;
    assert_eq!((report.verdict, report.unrepeatable), (ReplayVerdict::Agrees, 1), "{report:#?}");
    assert!(report.notes[0].contains("at 1000 units of fuel"), "{report:#?}");
    // The engine did not take an answer: its limits are not in the record.
    let report = lie("spawn 2", "refused").await;
    assert_eq!((report.verdict, report.unrepeatable), (ReplayVerdict::Agrees, 1), "{report:#?}");

    // A success that is none.
    let mut run = begun(HOSTILE, "panic").await;
    run.decide(hostile(), &Decisions::default(), |_| ());
    let report = replayed(&run.bundle(None)).await;
    assert_differs(&report, 1, None, "failure", ["it decided", "guest-panic"]);
}

/// The limits of the profile over one item, as far as `lower` does not change them.
fn limits(lower: impl FnOnce(&mut StepLimits)) -> StepLimits {
    let mut limits = StepLimits { items: 100_000, ..load(HOSTILE).limits().of_step(1) };
    lower(&mut limits);
    limits
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_under_lower_limits_is_proven_under_the_recorded_ones() {
    // With the limits of the profile each of them decides.
    let fuel = limits(|limits| limits.fuel = 1_000);
    let memory = limits(|limits| limits.memory = 64 << 10);
    let pieces = limits(|limits| limits.output_pieces = 1);
    for (limits, code) in [(fuel, "cpu-budget"), (memory, "memory-limit"), (pieces, "output-limit")] {
        let mut run = begun(HOSTILE, "spawn 2").await;
        let (asked, _, seen) = run.look(hostile());
        let failed = load(HOSTILE).ask(asked.step, &seen.view, Some(&limits)).await.expect_err(code);
        assert_eq!(failed.code, code);
        let fail = |record: &mut DecisionRecord, limits: StepLimits| {
            let (code, message) = (failed.code.clone(), failed.message.clone());
            record.failure = Some(PatternFailure { code, message, policy: FailurePolicy::Open });
            record.limits = Some(limits);
        };
        run.record(hostile(), &Decisions::default(), |record| fail(record, limits));
        let report = replayed(&run.bundle(None)).await;
        assert_eq!((report.verdict, report.agreed), (ReplayVerdict::Agrees, 2), "{code}: {report:#?}");
        assert_eq!((report.unrepeatable, report.notes.len()), (0, 0), "{code}: {report:#?}");

        // Under the limits that the profile has it is a lie.
        let mut run = begun(HOSTILE, "spawn 2").await;
        run.record(hostile(), &Decisions::default(), |record| fail(record, self::limits(|_| ())));
        let report = replayed(&run.bundle(None)).await;
        assert_differs(&report, 1, None, "failure", [&format!("it failed with {code}"), "it decides"]);

        // Another version of the engine counts fuel otherwise.
        let mut run = begun(HOSTILE, "spawn 2").await;
        run.record(hostile(), &Decisions::default(), |record| {
            fail(record, self::limits(|_| ()));
            record.engine = "wasmtime 1.2.3".to_owned();
        });
        let report = replayed(&run.bundle(None)).await;
        if code != "cpu-budget" {
            assert_differs(&report, 1, None, "failure", [code, "it decides"]);
            continue;
        }
        assert_eq!((report.verdict, report.unrepeatable), (ReplayVerdict::Agrees, 1), "{report:#?}");
        assert!(report.notes.iter().any(|note| note.contains("not provable")), "{report:#?}");
    }
    // The cap of items is in the record as well.
    for (items, agrees) in [(2, true), (3, false)] {
        let mut run = begun(HOSTILE, "spawn 2").await;
        run.record(hostile(), &Decisions::default(), |record| {
            let (code, message) = ("output-limit".to_owned(), "the run would have 3 items".to_owned());
            record.failure = Some(PatternFailure { code, message, policy: FailurePolicy::Open });
            record.limits = Some(limits(|limits| limits.items = items));
        });
        let report = replayed(&run.bundle(None)).await;
        match agrees {
            true => assert_eq!((report.verdict, report.agreed), (ReplayVerdict::Agrees, 2), "{report:#?}"),
            false => {
                assert_differs(&report, 1, None, "failure", ["output-limit", "within the recorded limits"])
            }
        }
    }
    // Decisions that took more than this program allows are not called a lie.
    let mut run = begun(HOSTILE, "spin").await;
    run.record(hostile(), &Decisions::default(), |record| {
        record.limits = Some(limits(|limits| limits.fuel *= 1_000));
    });
    let report = replayed(&run.bundle(None)).await;
    assert_eq!(report.verdict, ReplayVerdict::NotExecuted, "{report:#?}");
    assert!(report.not_executed[0].reason.contains("higher limits"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_whose_answer_depends_on_the_seed_agrees_with_the_pinned_one() {
    let mut run = begun(HOSTILE, "order").await;
    step(&mut run, HOSTILE).await;
    let report = replayed(&run.bundle(None)).await;
    assert_eq!((report.verdict, report.agreed), (ReplayVerdict::Agrees, 2), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_needs_the_same_answers() {
    let run = grown().await;
    let entries = entries(&run);
    let compare = async |component: &[u8]| {
        replay_steps(&entries, &run.objects, &load(component)).await.expect("a record that can be rebuilt")
    };
    assert_eq!(compare(HOSTILE).await, Comparison::Agreement { steps: 2 });
    let Comparison::Difference(difference) = compare(STATIC).await else { panic!("a difference") };
    assert_eq!(difference.component, Digest::of(STATIC));
    assert!(difference.to_string().starts_with("step "), "{difference}");

    // A record that contradicts itself says nothing about the component.
    let mut forged = entries.clone();
    if let Some(EntryBody::PatternDecided(record)) = forged
        .iter_mut()
        .map(|entry| &mut entry.body)
        .find(|body| matches!(body, EntryBody::PatternDecided(_)))
    {
        record.view = Digest::of(b"other");
    }
    let error = replay_steps(&forged, &run.objects, &load(HOSTILE)).await.expect_err("a contradiction");
    assert!(error.to_string().contains("its view is"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_executed_on_the_component_that_took_over() {
    // Two components that differ in bytes only, and one that decides otherwise.
    let mut twin = HOSTILE.to_vec();
    // An empty custom section named "twin".
    twin.extend_from_slice(b"\x00\x05\x04twin");
    for (to, expected) in [(twin.as_slice(), ReplayVerdict::Agrees), (STATIC, ReplayVerdict::Differs)] {
        let mut run = begun(HOSTILE, "count 10").await;
        step(&mut run, HOSTILE).await;
        let moved = run.keep(to.to_vec());
        run.entry("engine", EntryBody::PatternMoved { from: hostile(), to: moved, steps: 2 });
        let bytes = run.bundle(None);
        assert_eq!(verified(&bytes), (Verdict::Incomplete, None));
        let report = replayed(&bytes).await;
        assert_eq!(report.verdict, expected, "{report:#?}");
        match &report.difference {
            None => assert_eq!((report.agreed, report.moves_checked), (2, 2)),
            Some(difference) => assert_eq!(difference.component, moved),
        }
    }
}
