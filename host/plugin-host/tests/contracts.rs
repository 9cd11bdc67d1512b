//! What a plugin that does not fit the contracts of this host is told.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use pangolin_plugin_host::{Failure, PATTERN_CONTRACT, PluginError};
use support::shared_host;

/// The problem of a component whose only import is this instance.
fn problem(interface: &str, exports: &str) -> String {
    let text = format!(r#"(component (import "{interface}" (instance {exports})))"#);
    let bytes = wat::parse_str(text).unwrap();
    text_of(shared_host().load_pattern(&bytes).err().unwrap())
}

fn text_of(error: PluginError) -> String {
    match error.failure {
        Failure::ContractMismatch { problem } => problem,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn says(problem: &str, words: &[&str]) {
    for words in words {
        assert!(problem.contains(words), "{words:?} is missing in {problem}");
    }
}

const GRAPH: &str = "pangolin:pattern/graph";

#[test]
fn a_later_contract_is_named_with_the_one_that_is_here() {
    let later = problem(
        &format!("{GRAPH}@1.99.0"),
        r#"(export "after" (func)) (export "rv" (type $rv (sub resource)))
           (export "[method]rv.deadline" (func (param "self" (borrow $rv)) (result u64)))"#,
    );
    let newest = PATTERN_CONTRACT.split_once('@').unwrap().1;
    says(
        &later,
        &[
            "imports after of pangolin:pattern/graph@1.99.0, which is later than what this host has",
            "imports rv.deadline of pangolin:pattern/graph@1.99.0",
            "a later Pangolin may have it",
            &format!("this host offers pangolin:base up to 1.0.0 and pangolin:pattern up to {newest}"),
            // All of it at once.
            "does not export pangolin:pattern/decide of pangolin:pattern@1.0.0",
        ],
    );
    let major = problem(&format!("{GRAPH}@7.0.0"), r#"(export "f" (func))"#);
    says(
        &major,
        &[
            "imports pangolin:pattern/graph@7.0.0, and no pangolin:pattern/graph of that major version is there",
            &format!("pangolin:pattern up to {newest}"),
        ],
    );
}

#[test]
fn what_no_version_has_is_told_from_what_is_there_with_another_type() {
    let never = problem(&format!("{GRAPH}@1.0.0"), r#"(export "never" (func))"#);
    says(&never, &["imports never of pangolin:pattern/graph@1.0.0, which no version up to 1."]);
    let count = |result: &str| {
        problem(
            &format!("{GRAPH}@1.1.0"),
            &format!(
                r#"(type $p (enum "waiting" "active" "succeeded" "unsuccessful"))
                   (export "phase" (type $phase (eq $p))) (export "run-view" (type $rv (sub resource)))
                   (export "[method]run-view.count"
                     (func (param "self" (borrow $rv)) (param "phase" $phase) (result {result})))"#
            ),
        )
    };
    says(
        &count("u64"),
        &[
            "imports run-view.count of pangolin:pattern/graph, which exists since pangolin:pattern@1.1.0, with another type",
        ],
    );
    // As it is: all that is missing is what a pattern exports.
    assert!(count("u32").starts_with("does not export pangolin:pattern/decide"), "{}", count("u32"));
}

#[test]
fn every_kind_has_its_own_contract() {
    let empty = wat::parse_str("(component)").unwrap();
    let host = shared_host();
    says(
        &text_of(host.load_adapter(&empty).err().unwrap()),
        &["does not export pangolin:runtime-adapter/adapter", "pangolin:runtime-adapter up to 1.0.0"],
    );
    says(
        &text_of(host.load_block(&empty).err().unwrap()),
        &["does not export pangolin:block/run", "pangolin:block up to 1.0.0"],
    );
}
