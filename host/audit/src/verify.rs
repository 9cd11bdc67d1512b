//! Judges a bundle, offline and without trusting who made it.
//!
//! Every check looks at the bundle's own bytes. A failure never stops an independent check, but a check that would
//! only repeat an earlier failure says "n/a". Deliberately not here: asking anchors, trusted time, and executing a pattern's
//! steps again (`pangolin-replay`).

mod entries;
mod findings;
mod growth;
mod history;
mod objects;
mod pins;
mod seals;

use pangolin_core::{entry::RunSubmitted, ids::Digest};

use crate::{
    anchor::AnchorEvidence,
    bundle::{Bundle, FormatError, WITH_EVIDENCE},
    note::{NoteError, VerifierKey},
    report::{Check, Claim, KeyUsed, REPORT_VERSION, Report, Verdict},
};
use findings::{CheckName, Findings};

/// What the verifier was given from outside the bundle.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Keys of deployments that are trusted. Without any, the key inside the bundle is used and the report says that
    /// it is not pinned.
    pub keys: Vec<VerifierKey>,
    /// Where the anchor of the deployment is known to be, as [`AnchorEvidence::place`] gives it. A bundle that is anchored
    /// elsewhere, or only by its own deployment, fails then. Without it the bundle decides where to look.
    pub anchor: Option<String>,
}

impl Trust {
    /// Reads verifier keys, one per line; empty lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// [`NoteError`] names the bad key.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Self { keys: lines.map(str::parse).collect::<Result<_, _>>()?, anchor: None })
    }
}

/// Verifies a bundle. Never fails itself: whatever the bytes are, the report says what is wrong with them.
///
/// An anchor outside the deployment is not asked: what the bundle says of it is checked as far as it goes, and supports no
/// claim.
#[must_use]
pub fn verify_bundle(bytes: &[u8], trust: &Trust) -> Report {
    verify_with(bytes, trust, None)
}

/// As [`verify_bundle`], with what the caller saw just now at the anchor, by its own means, about the checkpoint of the log
/// in the bundle. Only this can make the claim `tamper-evident`.
#[must_use]
pub fn verify_bundle_live(bytes: &[u8], trust: &Trust, seen: &AnchorEvidence) -> Report {
    verify_with(bytes, trust, Some(seen))
}

fn verify_with(bytes: &[u8], trust: &Trust, seen: Option<&AnchorEvidence>) -> Report {
    let bundle = match Bundle::parse(bytes) {
        Ok(bundle) => bundle,
        Err(error) => return unreadable(&error),
    };
    let mut findings = Findings::default();
    let key = choose_key(&bundle, trust, &mut findings);
    let objects = objects::Objects::decode(&bundle, &mut findings);
    let walk = entries::walk(&bundle, &objects, &mut findings);
    let submitted = walk.submitted.as_deref();
    let run_tree = seals::run_checkpoint(&bundle, submitted, key.as_ref(), &mut findings);
    seals::root(&walk, run_tree.as_ref(), &mut findings);
    if let Some(suspect) = &walk.broken_link {
        suspect.report(&bundle, &walk, run_tree.as_ref(), &mut findings);
    }
    let sealed = seals::log(&bundle, submitted, &walk, key.as_ref(), &mut findings);
    let anchored = seals::anchor(&bundle, sealed.as_ref(), key.as_ref(), (trust, seen), &mut findings);
    objects.check_references(&bundle, &walk, &mut findings);
    findings.set(
        CheckName::Time,
        Check::not_applicable("times are asserted by the orchestrator; no outside clock vouches for them"),
    );
    format(&bundle, bytes, &walk, &mut findings);
    assemble(&bundle, key, walk, findings, (trust, anchored))
}

/// The file could not be read as a bundle at all.
fn unreadable(error: &FormatError) -> Report {
    let mut findings = Findings::default();
    if matches!(error, FormatError::Newer { .. }) {
        findings.unverifiable.push(error.to_string());
        findings.set(CheckName::Format, Check::not_applicable(error.to_string()));
    } else {
        findings.fail(CheckName::Format, error.place(), error.to_string());
    }
    let verdict = findings.verdict();
    let (failure, checks) = findings.finish("the file is not a readable bundle");
    Report {
        schema_version: REPORT_VERSION,
        run_id: None,
        verdict: verdict.0,
        intact: false,
        anchor_id: None,
        guarantee: None,
        claim: None,
        time_tier: "asserted".to_owned(),
        key: None,
        failure,
        unverifiable: verdict.1,
        incomplete: verdict.2,
        unknown_kinds: 0,
        entries: 0,
        outcome: None,
        checks,
        ledger: Vec::new(),
    }
}

/// The key to check signatures with: a trusted one that is the bundle's, or without trust the bundle's own.
fn choose_key(bundle: &Bundle<'_>, trust: &Trust, findings: &mut Findings) -> Option<VerifierKey> {
    let embedded: VerifierKey = match bundle.key.parse() {
        Ok(key) => key,
        Err(error) => {
            findings.fail(CheckName::Signature, "key", NoteError::to_string(&error));
            return None;
        }
    };
    if !trust.keys.is_empty() && !trust.keys.contains(&embedded) {
        let detail = format!("the bundle is signed by {embedded}, which is not one of the given keys");
        findings.fail(CheckName::Signature, "key", detail);
        return None;
    }
    Some(embedded)
}

/// The bundle's own digest and version. Last, because a more telling check has usually named the place by now.
fn format(bundle: &Bundle<'_>, bytes: &[u8], walk: &entries::Walk, findings: &mut Findings) {
    let computed: Digest = bundle.digest_of(bytes);
    let with_evidence = bundle.anchor.as_ref().is_some_and(|anchor| anchor.evidence.is_some());
    let found = bundle.schema_version;
    let needed = if with_evidence { WITH_EVIDENCE } else { walk.bundle_version };
    let version_fits = found == needed || (walk.unknown_kinds > 0 && found > needed) || !walk.complete;
    if computed == bundle.digest && version_fits {
        findings
            .pass(CheckName::Format, format!("canonical JSON, schema version {found}, all bytes covered"));
        return;
    }
    if !version_fits {
        let detail =
            format!("the schema version was altered: these entries need version {needed}, not {found}");
        return findings.fail(CheckName::Format, "schemaVersion", detail);
    }
    let hint = "only the bundle's digest, or a size in `external`, can be wrong when no other check fails";
    let detail = format!("content has digest {computed}, the bundle says {}; {hint}", bundle.digest);
    findings.fail(CheckName::Format, "digest", detail);
}

fn assemble(
    bundle: &Bundle<'_>,
    key: Option<VerifierKey>,
    walk: entries::Walk,
    findings: Findings,
    (trust, anchored): (&Trust, Option<seals::Anchored>),
) -> Report {
    let (verdict, unverifiable, incomplete) = findings.verdict();
    let (failure, checks) = findings.finish("not checked: an earlier check failed");
    let intact = verdict == Verdict::Intact;
    Report {
        schema_version: REPORT_VERSION,
        run_id: Some(bundle.run.to_string()),
        verdict,
        intact,
        claim: intact.then(|| anchored.as_ref().map_or(Claim::TamperDetecting, |anchored| anchored.claim)),
        anchor_id: anchored.as_ref().map(|anchored| anchored.id.clone()),
        guarantee: anchored.map(|anchored| anchored.guarantee),
        time_tier: "asserted".to_owned(),
        key: key.map(|key| KeyUsed { vkey: key.to_string(), pinned: !trust.keys.is_empty() }),
        failure,
        unverifiable,
        incomplete,
        unknown_kinds: walk.unknown_kinds,
        entries: bundle.entries.len() as u64,
        outcome: walk.outcome,
        checks,
        ledger: walk.ledger,
    }
}

/// Origin of the deployment log as the run's first entry fixes it; the bundle's own word without that entry.
fn log_origin<'b>(bundle: &'b Bundle<'_>, submitted: Option<&'b RunSubmitted>) -> &'b str {
    submitted.map_or(bundle.log.origin.as_str(), |submitted| submitted.log.as_str())
}
