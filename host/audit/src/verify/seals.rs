//! What is signed: the run's checkpoint, the deployment log, the anchor.

use pangolin_core::entry::RunSubmitted;

use super::{
    entries::Walk,
    findings::{CheckName, Findings},
    log_origin,
};
use crate::{
    bundle::{Bundle, LogLeaf},
    chain::run_origin,
    checkpoint::Checkpoint,
    log::{LogEvent, Seal},
    merkle::{leaf_hash, verify_inclusion},
    note::VerifierKey,
    report::Check,
};

/// The run's checkpoint, when its signature holds.
pub(super) fn run_checkpoint(
    bundle: &Bundle<'_>,
    submitted: Option<&RunSubmitted>,
    key: Option<&VerifierKey>,
    findings: &mut Findings,
) -> Option<Checkpoint> {
    let key = key?;
    let origin = log_origin(bundle, submitted);
    if key.name() != origin {
        let detail = format!("the key is of {:?}, the run belongs to {origin:?}", key.name());
        findings.fail(CheckName::Signature, "key", detail);
        return None;
    }
    match Checkpoint::open(&bundle.checkpoint, &run_origin(origin, &bundle.run), std::slice::from_ref(key)) {
        Ok(checkpoint) => {
            let detail = format!("checkpoint over {} entries, signed by {}", checkpoint.size, key.name());
            findings.pass(CheckName::Signature, detail);
            Some(checkpoint)
        }
        Err(error) => {
            findings.fail(CheckName::Signature, "checkpoint", error.to_string());
            None
        }
    }
}

/// The signed root is the root over the entries.
pub(super) fn root(walk: &Walk, tree: Option<&Checkpoint>, findings: &mut Findings) {
    let (Some(tree), true) = (tree, walk.complete) else { return };
    let (size, computed) = (walk.frontier.len(), walk.frontier.root());
    if tree.size != size {
        let place = format!("entry seq {}", size.min(tree.size));
        let what = if size < tree.size { "entries are missing" } else { "entries were added" };
        let detail = format!("the checkpoint covers {} entries, the bundle has {size}: {what}", tree.size);
        findings.fail(CheckName::Root, place, detail);
    } else if tree.root != computed {
        // All links hold, so only the entry that no other one names can be wrong.
        let place = format!("entry seq {}", size.saturating_sub(1));
        findings.fail(
            CheckName::Root,
            place,
            format!("the entries have root {computed}, signed is {}", tree.root),
        );
    } else {
        findings.pass(CheckName::Root, format!("{computed}"));
    }
}

/// Admission and seal in the deployment log. Returns the seal when everything about it holds.
pub(super) fn log(
    bundle: &Bundle<'_>,
    submitted: Option<&RunSubmitted>,
    walk: &Walk,
    key: Option<&VerifierKey>,
    findings: &mut Findings,
) -> Option<Seal> {
    let origin = log_origin(bundle, submitted);
    if bundle.log.origin != origin {
        let detail = format!("the bundle says {:?}, the run was submitted to {origin:?}", bundle.log.origin);
        findings.fail(CheckName::Log, "log origin", detail);
        return None;
    }
    let tree = match Checkpoint::open(&bundle.log.checkpoint, origin, std::slice::from_ref(key?)) {
        Ok(tree) => tree,
        Err(error) => {
            findings.fail(CheckName::Log, "log checkpoint", error.to_string());
            return None;
        }
    };
    let admit = leaf(&bundle.log.admit, "admit", &tree, findings)?;
    let LogEvent::Admit(admit) = admit else {
        findings.fail(CheckName::Log, "log admit event", "it is not an admission");
        return None;
    };
    let (submitted, true) = (submitted?, walk.complete) else { return None };
    let same = [
        ("run", admit.run == bundle.run),
        ("plan", admit.plan == submitted.plan),
        ("queue", admit.queue == submitted.queue),
        ("actor", admit.actor == walk.submitter),
        ("seq", admit.seq <= bundle.log.admit.index),
    ];
    if disagree("log admit event", &same, findings) {
        return None;
    }
    let Some(seal_leaf) = &bundle.log.seal else {
        if walk.outcome.is_some() {
            findings.incomplete.push("the run is finished but not sealed in the deployment log".to_owned());
        }
        findings
            .pass(CheckName::Log, format!("admission {} is in the log; the run is not sealed", admit.seq));
        return None;
    };
    let LogEvent::Seal(seal) = leaf(seal_leaf, "seal", &tree, findings)? else {
        findings.fail(CheckName::Log, "log seal event", "it is not a seal");
        return None;
    };
    let same = [
        ("run", seal.run == bundle.run),
        ("admission", seal.admission == admit.seq),
        ("entries", seal.entries == walk.frontier.len()),
        ("root", seal.root == walk.frontier.root()),
        ("outcome", Some(seal.outcome) == walk.outcome),
        ("index", seal_leaf.index > bundle.log.admit.index),
    ];
    if disagree("log seal event", &same, findings) {
        return None;
    }
    let detail =
        format!("admission {} and its seal are in the signed log of {} leaves", admit.seq, tree.size);
    findings.pass(CheckName::Log, detail);
    Some(seal)
}

fn leaf(leaf: &LogLeaf<'_>, name: &str, tree: &Checkpoint, findings: &mut Findings) -> Option<LogEvent> {
    let bytes = leaf.event.get().as_bytes();
    let event = match LogEvent::decode(bytes) {
        Ok(event) => event,
        Err(error) => {
            findings.fail(CheckName::Log, format!("log {name} event"), error.to_string());
            return None;
        }
    };
    if let Err(error) = verify_inclusion(&leaf_hash(bytes), leaf.index, tree.size, &leaf.proof, &tree.root) {
        let detail = format!("event, index and proof do not lead to the signed log: {error}");
        findings.fail(CheckName::Log, format!("log {name} proof"), detail);
        return None;
    }
    Some(event)
}

fn disagree(place: &str, same: &[(&str, bool)], findings: &mut Findings) -> bool {
    let wrong: Vec<&str> = same.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
    if !wrong.is_empty() {
        let detail = format!("it does not agree with the entries about: {}", wrong.join(", "));
        findings.fail(CheckName::Log, place, detail);
    }
    !wrong.is_empty()
}

/// The anchor repeats what was sealed.
pub(super) fn anchor(bundle: &Bundle<'_>, sealed: Option<&Seal>, findings: &mut Findings) {
    let Some(anchor) = &bundle.anchor else {
        if bundle.log.seal.is_some() {
            findings.incomplete.push("the run is sealed but has no anchor".to_owned());
        }
        return findings.set(CheckName::Anchor, Check::not_applicable("not anchored: the run is not sealed"));
    };
    if anchor.anchor_id != "local" {
        let reason = format!("anchor {:?} cannot be checked by this program", anchor.anchor_id);
        findings.unverifiable.push(reason.clone());
        return findings.set(CheckName::Anchor, Check::not_applicable(reason));
    }
    if anchor.guarantee != "detect" {
        let detail = format!("a local anchor guarantees \"detect\", not {:?}", anchor.guarantee);
        return findings.fail(CheckName::Anchor, "anchor", detail);
    }
    if bundle.log.seal.is_none() {
        return findings.fail(CheckName::Anchor, "anchor", "there is an anchor but nothing is sealed");
    }
    let Some(seal) = sealed else { return };
    if seal.at == anchor.at {
        findings.pass(CheckName::Anchor, "local (detect): the root is sealed in the deployment's own log");
    } else {
        let detail = format!("anchored at {}, sealed at {}", anchor.at, seal.at);
        findings.fail(CheckName::Anchor, "anchor", detail);
    }
}
