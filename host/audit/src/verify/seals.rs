//! What is signed: the run's checkpoint, the deployment log, the anchor.

use pangolin_core::entry::RunSubmitted;

use super::{
    Trust,
    entries::Walk,
    findings::{CheckName, Findings},
    log_origin,
};
use crate::{
    anchor::{AnchorEvidence, EVIDENCE_VERSION, Guarantee, Standing},
    bundle::{Anchor, Bundle, LogLeaf},
    chain::run_origin,
    checkpoint::Checkpoint,
    log::{LogEvent, Seal},
    merkle::{leaf_hash, verify_inclusion},
    note::VerifierKey,
    report::{Check, Claim},
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

/// So much later than a run was sealed may an anchor take it. What it took later is held from then on, but says nothing about
/// what was sealed: whoever holds the key had the time to make another history.
const LATE_MS: i64 = 24 * 60 * 60 * 1_000;

/// What the report says of the anchor.
pub(super) struct Anchored {
    pub(super) id: String,
    pub(super) guarantee: String,
    /// What an intact bundle may claim.
    pub(super) claim: Claim,
}

impl Anchored {
    /// Not more than the deployment's own log gives.
    fn detecting(id: &str) -> Self {
        let guarantee = Guarantee::Detect.as_str().to_owned();
        Self { id: id.to_owned(), guarantee, claim: Claim::TamperDetecting }
    }
}

/// The anchor repeats what was sealed.
pub(super) fn anchor(
    bundle: &Bundle<'_>,
    sealed: Option<&Seal>,
    key: Option<&VerifierKey>,
    (trust, seen): (&Trust, Option<&AnchorEvidence>),
    findings: &mut Findings,
) -> Option<Anchored> {
    let Some(anchor) = &bundle.anchor else {
        if bundle.log.seal.is_some() {
            findings.incomplete.push("the run is sealed but has no anchor".to_owned());
        }
        findings.set(CheckName::Anchor, Check::not_applicable("not anchored: the run is not sealed"));
        return None;
    };
    if let Some(problem) = trust.anchor.as_deref().and_then(|place| elsewhere(place, anchor, seen)) {
        findings.fail(CheckName::Anchor, "anchor", problem);
        return Some(Anchored::detecting(&anchor.anchor_id));
    }
    let outside = anchor.anchor_id != "local";
    if outside && anchor.evidence.is_none() {
        let reason = format!("anchor {:?} cannot be checked by this program", anchor.anchor_id);
        findings.unverifiable.push(reason.clone());
        findings.set(CheckName::Anchor, Check::not_applicable(reason));
        return Some(Anchored {
            guarantee: anchor.guarantee.clone(),
            ..Anchored::detecting(&anchor.anchor_id)
        });
    }
    if bundle.log.seal.is_none() {
        findings.fail(CheckName::Anchor, "anchor", "there is an anchor but nothing is sealed");
        return Some(Anchored::detecting(&anchor.anchor_id));
    }
    match &anchor.evidence {
        Some(AnchorEvidence { schema_version, .. }) if *schema_version != EVIDENCE_VERSION => {
            let what =
                format!("evidence of an anchor in version {schema_version}, this program understands 1");
            findings.unverifiable.push(what.clone());
            findings.set(CheckName::Anchor, Check::not_applicable(what));
            return Some(Anchored::detecting(&anchor.anchor_id));
        }
        Some(evidence) => recorded(anchor, evidence, findings),
        None => local(anchor, sealed, findings),
    }
    let (Some(sealed), Some(key)) = (sealed, key) else {
        return Some(Anchored::detecting(&anchor.anchor_id));
    };
    // Its signature was checked with the log.
    let Ok(tree) = Checkpoint::open(&bundle.log.checkpoint, &bundle.log.origin, std::slice::from_ref(key))
    else {
        return Some(Anchored::detecting(&anchor.anchor_id));
    };
    if let Some(evidence) = &anchor.evidence {
        judge("anchor evidence", evidence, &tree, key, findings);
    }
    let Some(seen) = seen else {
        if let Some(AnchorEvidence { anchor_id, checked_at_ms, .. }) = &anchor.evidence {
            let detail = format!(
                "{anchor_id} was asked by the exporter ({}, at {checked_at_ms} ms) and not now: whoever can ask it may",
                anchor.guarantee
            );
            findings.set(CheckName::Anchor, Check::not_applicable(detail));
        }
        return Some(Anchored::detecting(&anchor.anchor_id));
    };
    if outside && seen.anchor_id != anchor.anchor_id {
        let detail = format!("asked was {:?}, the bundle names {:?}", seen.anchor_id, anchor.anchor_id);
        findings.fail(CheckName::Anchor, "anchor", detail);
        return Some(Anchored::detecting(&anchor.anchor_id));
    }
    if judge("anchor", seen, &tree, key, findings) {
        if let Some(late) = lateness(sealed, seen) {
            findings.replace(CheckName::Anchor, Check::not_applicable(late));
            return Some(Anchored::detecting(&seen.anchor_id));
        }
        let detail = format!("{} ({}), seen now at {}", seen.anchor_id, seen.guarantee, seen.locator);
        let check = match seen.standing {
            Standing::Held => Check::pass(detail),
            _ => Check::not_applicable(format!("{detail}: {}", seen.findings.join("; "))),
        };
        findings.replace(CheckName::Anchor, check);
    }
    let guarantee = seen.guarantee.as_str().to_owned();
    Some(Anchored { id: seen.anchor_id.clone(), guarantee, claim: seen.claim() })
}

/// Why this is not the anchor that the verifier knows of. `None`: it is. What was seen now counts before what the bundle says:
/// the exporter may have reached the same bucket by another name.
fn elsewhere(place: &str, anchor: &Anchor, seen: Option<&AnchorEvidence>) -> Option<String> {
    match seen.or(anchor.evidence.as_ref()) {
        None => Some(format!("it is {}, not at {place}, where the anchor is known to be", anchor.anchor_id)),
        Some(evidence) if evidence.place() == Some(place) => None,
        Some(evidence) => {
            Some(format!("it is at {}, not in {place}, where the anchor is known to be", evidence.locator))
        }
    }
}

/// Why the time at which the anchor took the checkpoint does not speak for what was sealed. `None`: it does.
fn lateness(sealed: &Seal, seen: &AnchorEvidence) -> Option<String> {
    if seen.standing != Standing::Held {
        return None;
    }
    let Some(taken) = seen.taken_at_ms else {
        return Some(format!("{} does not say when it took the checkpoint", seen.locator));
    };
    let hours = taken.saturating_sub(sealed.at) / (60 * 60 * 1_000);
    (taken.saturating_sub(sealed.at) > LATE_MS).then(|| {
        format!(
            "{} took the checkpoint {hours} hours after the run was sealed by its own word: what was sealed until then is the \
             word of whoever holds the key",
            seen.locator
        )
    })
}

fn local(anchor: &Anchor, sealed: Option<&Seal>, findings: &mut Findings) {
    if anchor.guarantee != Guarantee::Detect.as_str() {
        let detail = format!("a local anchor guarantees \"detect\", not {:?}", anchor.guarantee);
        return findings.fail(CheckName::Anchor, "anchor", detail);
    }
    let Some(seal) = sealed else { return };
    if seal.at == anchor.at {
        findings.pass(CheckName::Anchor, "local (detect): the root is sealed in the deployment's own log");
    } else {
        let detail = format!("anchored at {}, sealed at {}", anchor.at, seal.at);
        findings.fail(CheckName::Anchor, "anchor", detail);
    }
}

/// What a bundle says of an anchor outside repeats its evidence.
fn recorded(anchor: &Anchor, evidence: &AnchorEvidence, findings: &mut Findings) {
    let said = Anchor::external(evidence.clone());
    if anchor.anchor_id == "local" || *anchor != said {
        findings.fail(CheckName::Anchor, "anchor", "it does not repeat its own evidence");
    }
}

/// Whether the evidence is good for the tree; a bad one fails the check.
fn judge(
    place: &str,
    evidence: &AnchorEvidence,
    tree: &Checkpoint,
    key: &VerifierKey,
    findings: &mut Findings,
) -> bool {
    let problem = match (evidence.check(tree, key), evidence.standing) {
        (Err(problem), _) => problem,
        (Ok(()), Standing::Contested) => format!("contested: {}", evidence.findings.join("; ")),
        (Ok(()), Standing::Absent) => format!("{} does not hold this checkpoint", evidence.anchor_id),
        (Ok(()), Standing::Held | Standing::Weak) => return true,
    };
    findings.fail(CheckName::Anchor, place, problem);
    false
}
