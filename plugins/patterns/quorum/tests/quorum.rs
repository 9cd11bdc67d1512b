//! The rules of the vote, one by one, natively.

use pangolin_pattern_quorum::Quorum;
use pangolin_pattern_sdk::{
    conformance, copy_id, generation,
    mock::{MockRun, Outcome, RunEnd},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn template(name: &str) -> Value {
    json!({"executor": "dispatch", "inputs": {"subagent": name}})
}

fn config(reviewers: usize, threshold: u32, more: Value) -> Value {
    let mut config = json!({
        "reviewers": (0..reviewers).map(|it| template(&format!("reviewer-{it}"))).collect::<Vec<_>>(),
        "threshold": threshold, "commit": template("committer"), "onReject": "block",
    });
    for (key, value) in more.as_object().expect("members") {
        config[key] = value.clone();
    }
    config
}

fn fixing(rounds: u32) -> Value {
    json!({"onReject": "spawn-fix", "fixTemplate": template("fixer"), "maxRounds": rounds})
}

fn plan(config: Value) -> Vec<Value> {
    vec![
        json!({"id": "seed"}),
        json!({"id": "change", "depends_on": ["seed"], "inputs": {"subagent": "author", "quorum": config}}),
    ]
}

fn planned(config: Value) -> MockRun {
    let mut run = MockRun::of_items(plan(config));
    assert_eq!(run.plan::<Quorum>().findings, []);
    run
}

/// Ends everything that may start until nothing is left; the fault of the last step, if there is one.
fn drive(run: &mut MockRun, script: impl Fn(&str) -> Outcome) -> Option<String> {
    while let Some(id) = run.ready().first().map(|id| (*id).to_owned()) {
        run.end_item(&id, &script(&id));
        if let Err(fault) = run.try_step::<Quorum>().result {
            assert_eq!(run.ready(), Vec::<&str>::new(), "a fault only when everything has ended");
            return Some(fault.to_string());
        }
    }
    None
}

#[test]
fn enough_approvals_commit() {
    let mut run = planned(config(3, 2, json!({})));
    let fault = drive(&mut run, |id| match id {
        "change::rev-1" => Outcome::red(),
        _ => Outcome::green(),
    });
    assert_eq!(fault, None);
    assert_eq!(run.ids()[2..], ["change::rev-0", "change::rev-1", "change::rev-2", "change::commit"]);
    let work = json!({"work": {"from": "change", "select": {"kind": "patch"}}});
    assert_eq!(run.spec("change::rev-1")["needs"], work);
    assert_eq!(run.spec("change::rev-1")["inputs"], json!({"subagent": "reviewer-1"}));
    assert_eq!(run.spec("change::commit")["needs"], work);
    assert_eq!(run.depends_on("change::commit"), ["change", "change::rev-0", "change::rev-2"]);
    assert_eq!(run.explained("change::commit"), "2 of 3 reviewers approved: 2 were needed");
    assert_eq!(run.end(), RunEnd::Done);
    assert!(run.is_closed());
}

#[test]
fn only_a_passed_verify_is_an_approval() {
    for (outcome, reason) in [
        (Outcome::done(), "change::rev-0 gave no verdict"),
        (Outcome::red(), "change::rev-0 rejects it"),
        (Outcome::failed("crashed"), "change::rev-0 failed (crashed)"),
        (Outcome::denied("policy"), "change::rev-0 denied (policy)"),
    ] {
        let mut run = planned(config(2, 2, json!({})));
        let fault =
            drive(&mut run, |id| if id == "change::rev-0" { outcome.clone() } else { Outcome::green() });
        assert!(!run.ids().contains(&"change::commit"));
        // Every item may be done and the work is rejected all the same: that must not look like a success.
        assert_eq!(
            fault.expect("the run must not end well"),
            format!(
                "rejected: the work of change is rejected: 1 of 2 reviewers approved, 2 are needed: {reason}. \
                 No fix: onReject is \"block\""
            )
        );
    }
}

#[test]
fn a_failed_reviewer_does_not_stop_the_others() {
    let mut run = planned(config(3, 2, json!({})));
    let fault =
        drive(
            &mut run,
            |id| if id == "change::rev-0" { Outcome::failed("crashed") } else { Outcome::green() },
        );
    assert_eq!(fault, None);
    assert_eq!(run.depends_on("change::commit"), ["change", "change::rev-1", "change::rev-2"]);
    assert_eq!(run.state("change::commit"), "done");
    // It stays visible, with the reason why the run succeeds all the same.
    assert_eq!((run.state("change::rev-0"), run.end()), ("failed", RunEnd::Done));
    let tolerated: Vec<_> = run.history().iter().flat_map(|record| &record.tolerated).collect();
    let why = "2 of 3 reviewers approved without it; 2 were needed".to_owned();
    assert_eq!(tolerated, [&(vec!["change::rev-0".to_owned()], why)]);
}

#[test]
fn a_reviewer_that_failed_in_an_earlier_round_is_tolerated_once_the_quorum_is_met() {
    for (met, end) in [(true, RunEnd::Done), (false, RunEnd::Failed)] {
        let mut run = planned(config(2, 2, fixing(1)));
        let fault = drive(&mut run, |id| match id {
            "change::rev-0" => Outcome::denied("policy"),
            "change~2::rev-1" if !met => Outcome::red(),
            _ => Outcome::green(),
        });
        assert_eq!(fault.is_none(), met);
        assert_eq!(run.is_tolerated("change::rev-0"), met);
        assert_eq!(run.end(), end);
    }
}

#[test]
fn the_vote_waits_for_every_reviewer() {
    let mut run = planned(config(2, 1, json!({})));
    for id in ["seed", "change", "change::rev-1"] {
        run.end_item(id, &Outcome::green());
        run.step::<Quorum>();
    }
    assert!(!run.ids().contains(&"change::commit"));
    run.end_item("change::rev-0", &Outcome::green());
    assert_eq!(run.step::<Quorum>().spawned_ids(), ["change::commit"]);
}

#[test]
fn rounds_of_fixes_work_on_the_newest_work() {
    let mut run = planned(config(2, 2, fixing(3)));
    let fault = drive(&mut run, |id| match id {
        "change::rev-0" => Outcome::red().outputs(["findings"]),
        "change~2::rev-1" => Outcome::red(),
        _ => Outcome::green(),
    });
    assert_eq!(fault, None);
    assert_eq!(
        run.ids()[2..],
        [
            "change::rev-0",
            "change::rev-1",
            "change-fix-1",
            "change~2",
            "change~2::rev-0",
            "change~2::rev-1",
            "change-fix-2",
            "change~3",
            "change~3::rev-0",
            "change~3::rev-1",
            "change~3::commit",
        ]
    );
    let fix = run.spec("change-fix-1");
    assert_eq!(fix["needs"]["work"]["from"], "change");
    assert_eq!(
        fix["needs"]["findings-0"],
        json!({"from": "change::rev-0", "select": {"kind": "output", "path": "findings"}})
    );
    assert_eq!(fix["inputs"], json!({"subagent": "fixer"}));

    let second = run.spec("change~2");
    assert_eq!(second["needs"], json!({"work": {"from": "change-fix-1", "select": {"kind": "patch"}}}));
    assert_eq!(second["inputs"], run.spec("change")["inputs"]);
    assert_eq!(run.depends_on("change~2"), ["change-fix-1", "seed"]);
    assert_eq!(run.spec("change~2::rev-0")["needs"]["work"]["from"], "change~2");

    let fix = run.spec("change-fix-2");
    assert_eq!(fix["needs"]["work"]["from"], "change~2");
    assert_eq!(fix["inputs"]["gateReason"], "change~2::rev-1 rejects it");
    assert_eq!(run.depends_on("change~3"), ["change-fix-2", "seed"]);
    assert_eq!(run.spec("change~3::commit")["needs"]["work"]["from"], "change~3");
    assert_eq!(run.end(), RunEnd::Done);
}

#[test]
fn when_the_copy_changes_nothing_more_the_fix_is_the_newest_work() {
    let mut run = planned(config(1, 1, fixing(1)));
    drive(&mut run, |id| match id {
        "change::rev-0" => Outcome::red(),
        "change~2" => Outcome::done().no_patch(),
        _ => Outcome::green(),
    });
    assert_eq!(run.spec("change~2::rev-0")["needs"]["work"]["from"], "change-fix-1");
    assert_eq!(run.spec("change~2::commit")["needs"]["work"]["from"], "change-fix-1");
}

#[test]
fn rounds_end_when_they_are_used_up() {
    for rounds in [0, 1, 2] {
        let mut run = planned(config(1, 1, fixing(rounds)));
        let fault =
            drive(&mut run, |id| if id.contains("::rev-") { Outcome::red() } else { Outcome::done() });
        assert_eq!(run.ids().len(), 3 + 3 * rounds as usize);
        let last = if rounds == 0 { "change".to_owned() } else { format!("change~{}", rounds + 1) };
        let fault = fault.expect("rejected");
        assert!(fault.starts_with(&format!("rejected: the work of {last} is rejected: 0 of 1")), "{fault}");
        assert!(fault.ends_with(&format!("No fix: {rounds} of {rounds} rounds were tried")), "{fault}");
    }
}

#[test]
fn what_is_cancelled_stops_its_lineage() {
    for victim in ["change::rev-0", "change-fix-1", "change~2", "change~2::rev-0"] {
        let mut run = planned(config(2, 2, fixing(3)));
        let fault = drive(&mut run, |id| match id {
            _ if id == victim => Outcome::cancelled(),
            _ if id.contains("::rev-1") => Outcome::red(),
            _ => Outcome::green(),
        });
        assert_eq!(fault, None, "a cancelled vote is not a rejected one");
        assert!(!run.ids().iter().any(|id| id.ends_with("::commit")));
        assert!(!run.ids().contains(&"change-fix-2"), "{victim}: {:?}", run.ids());
        assert_ne!(run.end(), RunEnd::Done);
    }
}

#[test]
fn a_subject_that_did_not_work_is_not_voted_on() {
    let mut run = planned(config(2, 1, json!({})));
    drive(&mut run, |id| if id == "change" { Outcome::failed("no idea") } else { Outcome::done() });
    assert_eq!(run.ids().len(), 2);
    assert_eq!(run.explained("change::commit"), "not added: change is failed (no idea)");
}

#[test]
fn several_subjects_have_their_own_votes() {
    let subject = |id: &str| json!({"id": id, "inputs": {"quorum": config(1, 1, json!({}))}});
    let mut run = MockRun::of_items([subject("a"), subject("b"), subject("c")]);
    run.plan::<Quorum>();
    let fault = drive(&mut run, |id| if id == "b::rev-0" { Outcome::red() } else { Outcome::green() });
    assert!(
        run.ids().contains(&"a::commit")
            && run.ids().contains(&"c::commit")
            && !run.ids().contains(&"b::commit")
    );
    // Explained at once; what the run comes to is said when everything has ended.
    let why = "0 of 1 reviewers approved, 1 are needed: b::rev-0 rejects it. No fix: onReject is \"block\"";
    assert_eq!(run.explained("b::commit"), format!("not added: {why}"));
    assert_eq!(fault, Some(format!("rejected: the work of b is rejected: {why}")));
}

#[test]
fn every_finding_comes_at_once() {
    let subject = |id: &str, config: Value| json!({"id": id, "inputs": {"quorum": config}});
    let mut wrong = config(2, 3, json!({"onReject": "fix", "maxRound": 2}));
    wrong["reviewers"][1] = json!({"executor": "dispatch"});
    let items = vec![
        subject("a", wrong),
        subject("b", config(2, 3, json!({}))),
        subject("c", config(0, 1, json!({}))),
        subject("d", config(1, 1, json!({"onReject": "spawn-fix"}))),
        subject("e", json!({})),
        subject("f", config(1, 0, json!({"commit": "yes"}))),
        subject("g", config(2, 1, fixing(2))),
        json!({"id": "g-fix-2"}),
        json!({"id": "g~3::rev-1"}),
        subject("h~2", config(1, 1, json!({}))),
        subject(&"i".repeat(125), config(1, 1, json!({}))),
    ];
    let found = MockRun::of_items(items).plan::<Quorum>().findings;
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    let has = |part: &str| assert!(text.iter().any(|it| it.contains(part)), "{part} is not in {text:#?}");
    has("/items/0/inputs/quorum/reviewers/1: member \"inputs\" is missing");
    has("/items/0/inputs/quorum/onReject: must be \"spawn-fix\" or \"block\"");
    has("/items/0/inputs/quorum/maxRound: member \"maxRound\" is not known; did you mean \"maxRounds\"?");
    has("/items/1/inputs/quorum/threshold: must be an integer from 1 to 2");
    has("/items/2/inputs/quorum/reviewers: must hold 1 to 100 templates");
    has("/items/3/inputs/quorum/fixTemplate: \"onReject\": \"spawn-fix\" needs a template");
    has("/items/4/inputs/quorum: member \"reviewers\" is missing");
    has("/items/4/inputs/quorum: member \"commit\" is missing");
    has("/items/5/inputs/quorum/threshold: must be an integer from 1 to 1");
    has("/items/5/inputs/quorum/commit: must be an object");
    has("/items/7/id: g-fix-2 is the id of an item that the vote on g adds");
    has("/items/8/id: g~3::rev-1 is the id of an item that the vote on g adds");
    has("/items/9/id: h~2 ends like the id of a copy");
    has("/items/10/id: ids of the vote on iii");
}

#[test]
fn possible_votes_are_drawn() {
    let record = MockRun::of_items(plan(config(1, 1, fixing(1)))).plan::<Quorum>();
    let drawn: Vec<(&str, Vec<&str>)> =
        record.possible.iter().map(|it| (&*it.0, it.1.iter().map(String::as_str).collect())).collect();
    assert_eq!(
        drawn,
        [
            ("change::rev-0", vec!["change"]),
            ("change::commit", vec!["change::rev-0"]),
            ("change-fix-1", vec!["change::rev-0"]),
            ("change~2", vec!["change-fix-1"]),
            ("change~2::rev-0", vec!["change~2"]),
            ("change~2::commit", vec!["change~2::rev-0"]),
        ]
    );
}

#[test]
fn without_a_subject_there_is_nothing_to_decide() {
    assert!(MockRun::of_items([json!({"id": "a"})]).plan::<Quorum>().close);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_votes_end_and_keep_the_rules(
        reviewers in 1..5_usize,
        threshold in 1..5_u32,
        rounds in 0..4_u32,
        subjects in 1..4_usize,
        dice in prop::collection::vec(any::<(u8, u8)>(), 0..60),
    ) {
        let threshold = threshold.min(u32::try_from(reviewers).expect("few"));
        let subject = |at: usize| json!({"id": format!("s{at}"), "inputs": {"quorum": config(reviewers, threshold, fixing(rounds))}});
        let mut run = MockRun::of_items((0..subjects).map(subject));
        run.plan::<Quorum>();
        let mut fault = None;
        for (which, how) in dice.iter().chain(std::iter::repeat(&(0, 120))) {
            let ready: Vec<String> = run.ready().into_iter().map(str::to_owned).collect();
            if ready.is_empty() {
                break;
            }
            let id = ready[usize::from(*which) % ready.len()].clone();
            let outcome = match how {
                0..110 => Outcome::green(),
                110..200 => Outcome::red().outputs(["findings"]),
                200..215 => Outcome::done(),
                215..230 => Outcome::done().no_patch(),
                230..245 => Outcome::failed("by chance"),
                _ => Outcome::cancelled(),
            };
            run.end_item(&id, &outcome);
            fault = run.try_step::<Quorum>().result.err();
            prop_assert!(fault.is_none() || run.ready().is_empty());
        }
        let mut commits = 0;
        for id in run.ids() {
            let Some(subject) = id.strip_suffix("::commit") else { continue };
            commits += 1;
            let approved = (0..reviewers).filter(|at| run.approves(&format!("{subject}::rev-{at}"))).count();
            prop_assert!(approved >= threshold as usize, "{} with {} approvals", id, approved);
            // Nothing later of a lineage that is committed.
            let (base, number) = generation(subject);
            let later = copy_id(base, number + 1);
            prop_assert!(!run.ids().contains(&later.as_str()));
        }
        prop_assert!(commits <= subjects);
        for at in 0..subjects {
            let fixes = run.ids().iter().filter(|id| id.starts_with(&format!("s{at}-fix-"))).count();
            prop_assert!(fixes <= rounds as usize);
        }
        // Work that nobody cancelled and that was not committed never ends as a success.
        if commits < subjects && fault.is_none() {
            prop_assert_ne!(run.end(), RunEnd::Done);
        }
    }
}

conformance!(
    Quorum,
    [json!({"items": plan(config(3, 2, json!({})))}), json!({"items": plan(config(2, 1, fixing(2)))}),]
);
