//! Properties: the fast entry codec against the general one, the Merkle tree against its definition.

use pangolin_audit::{
    canon::{self, CanonError, DecodeError, EncodeError, decode_entry, encode_entry},
    chain::RunChain,
    merkle::{
        Frontier, consistency_proof, empty_root, inclusion_proof, leaf_hash, node_hash, root,
        verify_consistency, verify_inclusion,
    },
};
use pangolin_core::{
    entry::{
        ENTRY_VERSION, Entry, EntryBody, Evidence, Failure, FailureClass, FailureReason, FinalStatus,
        Isolation, IsolationUsed, RetryPolicy, RunOutcome, RunSubmitted, Usage, UsageQuality, VerifyResult,
    },
    ids::{Digest, DispatchId, ItemId, QueueName, RunId},
    outputs::OutputsTotal,
    pattern::{DecisionRecord, FailurePolicy, PatternFailure, StepLimits},
};
use proptest::{collection, option, prelude::*, sample::select};

const MAX: i64 = canon::INTEGER_MAX as i64;

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn item() -> impl Strategy<Value = ItemId> {
    "[a-zA-Z0-9][a-zA-Z0-9_~:@+-]{0,20}".prop_map(|id| ItemId::new(id).expect("item id"))
}

fn run() -> impl Strategy<Value = RunId> {
    "[a-z0-9][a-z0-9_~:@+-]{0,20}".prop_map(|id| RunId::new(id).expect("run id"))
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(MAX), Just(-MAX), -MAX..=MAX, -9_i64..1_000]
}

fn count() -> impl Strategy<Value = u64> {
    (0..=canon::INTEGER_MAX).prop_map(|n| n)
}

/// Text with quotes, control characters, and characters where UTF-8 and UTF-16 order differ.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\"\\\\\u{0}-\u{1f}a\u{7f}é\u{e000}-\u{e010}\u{ffff}\u{10000}-\u{10010}]{0,12}"
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    let reasons = [
        FailureReason::WorkerFailed,
        FailureReason::ProviderFailed,
        FailureReason::Timeout,
        FailureReason::Cancelled,
        FailureReason::FetchFailed,
        FailureReason::IntegrityFailed,
    ];
    let classes = [
        FailureClass::Infrastructure,
        FailureClass::Work,
        FailureClass::Timeout,
        FailureClass::Refusal,
        FailureClass::Invalid,
        FailureClass::Cancelled,
    ];
    (select(reasons.to_vec()), select(classes.to_vec()), text())
        .prop_map(|(reason, class, message)| Failure { reason, class, message })
}

fn usage() -> impl Strategy<Value = Usage> {
    let qualities =
        [UsageQuality::Exact, UsageQuality::Partial, UsageQuality::Estimated, UsageQuality::Missing];
    let counters = collection::btree_map(text(), count(), 0..4);
    (collection::vec(text(), 0..3), counters, option::of(count()), select(qualities.to_vec())).prop_map(
        |(models, counters, cost_microusd, quality)| Usage { models, counters, cost_microusd, quality },
    )
}

fn isolation() -> impl Strategy<Value = IsolationUsed> {
    let levels = [Isolation::None, Isolation::Sandbox, Isolation::Container];
    (select(levels.to_vec()), collection::vec(text(), 0..3), text(), option::of(text()))
        .prop_map(|(level, mechanisms, network, image)| IsolationUsed { level, mechanisms, network, image })
}

fn evidence() -> impl Strategy<Value = Box<Evidence>> {
    let digests = collection::vec(option::of(digest()), 5);
    let verify = option::of((any::<bool>(), integer()));
    (
        option::of(any::<i32>()),
        digests,
        option::of(text()),
        (collection::btree_map(text(), digest(), 0..4), option::of((count(), digest()))),
        verify,
        option::of(usage()),
        option::of(isolation()),
        option::of(integer()),
        option::of(integer()),
    )
        .prop_map(
            |(exit_code, digests, tree, outputs, verify, usage, isolation, started_at, finished_at)| {
                let (outputs, total) = outputs;
                Box::new(Evidence {
                    exit_code,
                    outputs_total: total.map(|(count, digest)| OutputsTotal { count, digest }),
                    result: digests[0],
                    patch: digests[1],
                    tree,
                    outputs,
                    block_artifacts: digests[4],
                    events: digests[2],
                    transcript: digests[3],
                    verify: verify.map(|(passed, duration_ms)| VerifyResult { passed, duration_ms }),
                    usage,
                    isolation,
                    started_at,
                    finished_at,
                })
            },
        )
}

fn status() -> impl Strategy<Value = FinalStatus> {
    let all = [
        FinalStatus::Done,
        FinalStatus::Failed,
        FinalStatus::Skipped,
        FinalStatus::Cancelled,
        FinalStatus::Denied,
        FinalStatus::NeedsInput,
    ];
    select(all.to_vec())
}

fn submitted() -> impl Strategy<Value = EntryBody> {
    let retry = (any::<u32>(), integer(), integer(), integer()).prop_map(
        |(max_attempts, base_ms, cap_ms, timeout_ms)| RetryPolicy {
            max_attempts,
            base_ms,
            cap_ms,
            timeout_ms,
        },
    );
    (
        text(),
        text(),
        digest(),
        count(),
        option::of(digest()),
        option::of(text()),
        (option::of(digest()), option::of(text()), option::of(digest()), option::of(digest())),
        retry,
        any::<bool>(),
    )
        .prop_map(|(log, namespace, plan, items, pins, base_commit, pattern, retry, open_ended)| {
            let (pattern, pattern_id, pattern_params, graph) = pattern;
            EntryBody::RunSubmitted(Box::new(RunSubmitted {
                log,
                namespace,
                plan,
                items,
                queue: QueueName::new("default").expect("queue name"),
                pins,
                base_commit,
                pattern,
                pattern_id,
                pattern_params,
                graph,
                retry,
                open_ended,
            }))
        })
}

fn body() -> impl Strategy<Value = EntryBody> {
    let outcome = select(vec![RunOutcome::Done, RunOutcome::Failed, RunOutcome::Cancelled]);
    prop_oneof![
        submitted(),
        (item(), any::<u32>(), option::of(digest()), run()).prop_map(|(item, attempt, manifest, run)| {
            let dispatch = DispatchId::derive("n", &run, &item, attempt);
            EntryBody::ItemFired { item, attempt, dispatch, manifest }
        }),
        (item(), any::<u32>(), run(), count(), collection::btree_map(text(), digest(), 0..4)).prop_map(
            |(item, attempt, run, part, outputs)| {
                let dispatch = DispatchId::derive("n", &run, &item, attempt);
                EntryBody::ItemOutputs { item, attempt, dispatch, part, outputs }
            }
        ),
        (item(), any::<u32>(), status(), option::of(failure()), evidence()).prop_map(
            |(item, attempt, status, failure, evidence)| EntryBody::ItemReconciled {
                item,
                attempt,
                status,
                failure,
                evidence
            }
        ),
        (item(), any::<u32>(), failure(), integer(), evidence()).prop_map(
            |(item, attempt, failure, not_before, evidence)| EntryBody::ItemRetried {
                item,
                attempt,
                failure,
                not_before,
                evidence
            }
        ),
        (collection::vec(item(), 0..4), item())
            .prop_map(|(items, cause)| EntryBody::ItemSkipped { items, cause }),
        (item(), failure()).prop_map(|(item, failure)| EntryBody::ItemDenied { item, failure }),
        item().prop_map(|item| EntryBody::ItemCancelled { item }),
        (
            option::of(item()),
            collection::vec(item(), 0..4),
            digest(),
            text(),
            option::of(digest()),
            collection::btree_map(item(), item(), 0..3),
            option::of(digest())
        )
            .prop_map(|(cause, items, document, explanation, plugin, supersedes, pins)| {
                EntryBody::RunExtended { cause, items, document, explanation, plugin, supersedes, pins }
            }),
        (collection::vec(item(), 0..4), text(), digest()).prop_map(|(items, explanation, plugin)| {
            EntryBody::ItemTolerated { items, explanation, plugin }
        }),
        decision().prop_map(|record| EntryBody::PatternDecided(Box::new(record))),
        (digest(), digest(), count()).prop_map(|(from, to, steps)| EntryBody::PatternMoved {
            from,
            to,
            steps
        }),
        Just(EntryBody::RunCancelled {}),
        Just(EntryBody::RunClosed {}),
        (outcome, collection::btree_map(status(), count(), 0..6))
            .prop_map(|(outcome, counts)| EntryBody::RunCompleted { outcome, counts }),
    ]
}

fn decision() -> impl Strategy<Value = DecisionRecord> {
    let policy = select(vec![FailurePolicy::Closed, FailurePolicy::Open, FailurePolicy::Builtin]);
    let failure =
        (text(), text(), policy).prop_map(|(code, message, policy)| PatternFailure { code, message, policy });
    let digests = (digest(), digest(), digest(), option::of(digest()));
    let numbers = (count(), count(), count(), integer(), count(), count());
    let limits = (count(), count(), count(), count(), count(), count()).prop_map(
        |(fuel, memory, wall_ms, output_bytes, output_pieces, items)| StepLimits {
            fuel,
            memory,
            wall_ms,
            output_bytes,
            output_pieces,
            items,
        },
    );
    let numbers = (numbers, option::of(limits));
    (digests, numbers, (text(), text(), text()), any::<bool>(), option::of(failure)).prop_map(
        |(
            (component, view, decisions, grant),
            ((step, seen, seed, now, fuel, peak_memory), limits),
            (contract, engine, profile),
            closes,
            failure,
        )| DecisionRecord {
            step,
            component,
            contract,
            engine,
            profile,
            view,
            seen,
            seed,
            now,
            grant,
            limits,
            fuel,
            peak_memory,
            decisions,
            closes,
            failure,
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    (run(), count(), integer(), text(), option::of(digest()), body()).prop_map(
        |(run, seq, at, actor, prev, body)| Entry { v: ENTRY_VERSION, run, seq, at, actor, prev, body },
    )
}

fn leaves(count: usize) -> Vec<Digest> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

/// The root as RFC 6962 section 2.1 defines it.
fn defined_root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let middle = leaves.len().next_power_of_two() / 2;
            node_hash(&defined_root(&leaves[..middle]), &defined_root(&leaves[middle..]))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn fast_and_general_encoders_agree_for_every_kind(entry in entry()) {
        let fast = encode_entry(&entry).expect("encodable");
        let general = canon::to_vec(&entry).expect("serialisable");
        prop_assert_eq!(String::from_utf8_lossy(&fast), String::from_utf8_lossy(&general));
        canon::check(&fast).expect("canonical");
        prop_assert_eq!(decode_entry(&fast), Ok(entry));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_decoded_entry_has_exactly_the_bytes_it_was_read_from(entry in entry(), at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = encode_entry(&entry).expect("encodable");
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(read) = decode_entry(&bytes) {
            prop_assert_eq!(encode_entry(&read).expect("encodable"), bytes);
        }
    }

    #[test]
    fn proofs_hold_and_altered_ones_do_not(size in 1_usize..70, a in any::<usize>(), b in any::<usize>(), bit in 0..256_usize) {
        let leaves = leaves(size);
        let (index, old, total) = (a % size, a % size + 1, size as u64);
        let top = root(&leaves);
        prop_assert_eq!(top, defined_root(&leaves));
        let flip = |digest: &mut Digest| {
            let mut bytes = *digest.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            *digest = Digest::from_bytes(bytes);
        };

        let mut proof = inclusion_proof(&leaves, index as u64).expect("in the tree");
        verify_inclusion(&leaves[index], index as u64, total, &proof, &top).expect("included");
        let other = b % size;
        prop_assert_eq!(verify_inclusion(&leaves[index], other as u64, total, &proof, &top).is_ok(), other == index);
        if !proof.is_empty() {
            let at = b % proof.len();
            flip(&mut proof[at]);
            prop_assert!(verify_inclusion(&leaves[index], index as u64, total, &proof, &top).is_err());
            proof.pop();
            prop_assert!(verify_inclusion(&leaves[index], index as u64, total, &proof, &top).is_err());
        }

        let old_root = root(&leaves[..old]);
        let mut proof = consistency_proof(&leaves, old as u64).expect("a prefix");
        verify_consistency(old as u64, total, &old_root, &top, &proof).expect("consistent");
        if !proof.is_empty() {
            let at = b % proof.len();
            flip(&mut proof[at]);
            prop_assert!(verify_consistency(old as u64, total, &old_root, &top, &proof).is_err());
        }
    }

    #[test]
    fn a_frontier_is_the_tree(size in 0_usize..200) {
        let leaves = leaves(size);
        let mut frontier: Frontier = leaves.iter().copied().collect();
        prop_assert_eq!(frontier.root(), defined_root(&leaves));
        prop_assert_eq!(Frontier::from_bytes(&frontier.to_bytes()), Ok(frontier.clone()));
        let proof = frontier.proof_of_next();
        let next = leaf_hash(b"next");
        frontier.push(next);
        verify_inclusion(&next, size as u64, frontier.len(), &proof, &frontier.root()).expect("included");
        let mut bytes = frontier.to_bytes();
        bytes.push(0);
        prop_assert!(Frontier::from_bytes(&bytes).is_err());
        prop_assert!(Frontier::from_bytes(&bytes[..bytes.len() - 2]).is_err());
    }

    #[test]
    fn canonical_json_is_a_fixed_point(text in text(), number in integer(), keys in collection::vec(text(), 0..6)) {
        let members: serde_json::Map<_, _> = keys.into_iter().map(|key| (key, number.into())).collect();
        let value = serde_json::json!({ "t": text, "n": number, "m": members });
        let bytes = canon::to_vec(&value).expect("serialisable");
        canon::check(&bytes).expect("canonical");
        let spaced = serde_json::to_vec_pretty(&value).expect("serialisable");
        let refused = matches!(canon::check(&spaced), Err(CanonError::NotCanonical { .. }));
        prop_assert!(refused);
    }
}

fn closed(actor: String) -> Entry {
    let run = RunId::new("r").expect("run id");
    Entry { v: 1, run, seq: 0, at: 0, actor, prev: None, body: EntryBody::RunClosed {} }
}

#[test]
fn what_does_not_fit_is_refused_not_written() {
    let spare = 60_000 - encode_entry(&closed(String::new())).expect("small").len();
    assert_eq!(encode_entry(&closed("a".repeat(spare))).expect("fits exactly").len(), 60_000);
    let long = encode_entry(&closed("a".repeat(spare + 1)));
    assert!(matches!(long, Err(EncodeError::TooLong { bytes: 60_001, .. })), "{long:?}");
    let mut entry = closed("engine".to_owned());
    entry.at = MAX + 1;
    let large = encode_entry(&entry);
    assert!(matches!(large, Err(EncodeError::IntegerTooLarge { field: "at", .. })), "{large:?}");

    let mut chain = RunChain::new();
    let run = RunId::new("r").expect("run id");
    chain.append(&run, 0, "engine", EntryBody::RunClosed {}).expect("entry");
    let before = chain.clone();
    assert!(chain.append(&run, MAX + 1, "engine", EntryBody::RunClosed {}).is_err());
    assert_eq!(chain, before);
}

#[test]
fn near_misses_of_an_entry_are_told_apart() {
    let good = br#"{"actor":"engine","at":5,"kind":"run.closed","run":"r","seq":0,"v":1}"#;
    decode_entry(good).expect("an entry");
    type Expected = fn(&DecodeError) -> bool;
    let cases: [(&str, Expected); 9] = [
        (
            r#"{"actor":"engine","at":5,"kind":"run.paused","run":"r","seq":0,"v":1}"#,
            |error| matches!(error, DecodeError::UnknownKind(entry) if entry.kind == "run.paused" && entry.seq == 0),
        ),
        (
            r#"{"actor":"engine","at":5,"extra":1,"kind":"run.closed","run":"r","seq":0,"v":1}"#,
            |error| matches!(error, DecodeError::UnknownMember(name) if name == "extra"),
        ),
        (
            r#"{"actor":"engine","at":5,"kind":"run.closed","prev":null,"run":"r","seq":0,"v":1}"#,
            |error| matches!(error, DecodeError::UnknownMember(name) if name == "prev"),
        ),
        (r#"{"actor":"engine","at":5,"kind":"run.closed","run":"r","seq":0,"v":2}"#, |error| {
            matches!(error, DecodeError::UnknownVersion(2))
        }),
        (r#"{"at":5,"actor":"engine","kind":"run.closed","run":"r","seq":0,"v":1}"#, |error| {
            matches!(error, DecodeError::Canon(CanonError::NotCanonical { byte: 3 }))
        }),
        (r#"{"actor":"engine","at":5,"at":5,"kind":"run.closed","run":"r","seq":0,"v":1}"#, |error| {
            matches!(error, DecodeError::Canon(_))
        }),
        (r#"{"actor":"engine","at":5.0,"kind":"run.closed","run":"r","seq":0,"v":1}"#, |error| {
            matches!(error, DecodeError::Canon(_) | DecodeError::Malformed(_))
        }),
        (r#"{"actor":"engine","at":5,"kind":"run.closed","run":"../r","seq":0,"v":1}"#, |error| {
            matches!(error, DecodeError::Malformed(_))
        }),
        (r#"{"actor":"engine""#, |error| matches!(error, DecodeError::Canon(CanonError::Syntax { .. }))),
    ];
    for (text, expected) in cases {
        let error = decode_entry(text.as_bytes()).expect_err(text);
        assert!(expected(&error), "{text}: {error:?}");
    }
}
