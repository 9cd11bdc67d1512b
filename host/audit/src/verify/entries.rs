//! One pass over the entries: chain, tree, manifests, hand-offs, references and history.

use std::collections::{BTreeMap, HashSet};

use pangolin_core::{
    artifacts::{ARTIFACT_LIST_VERSION, ArtifactList},
    entry::{Entry, EntryBody, FinalStatus, RunOutcome, RunSubmitted},
    ids::{Digest, DispatchId, ItemId, RunId},
    manifest::{DispatchManifest, MANIFEST_VERSION},
    pattern::DecisionRecord,
};

use super::{
    findings::{CheckName, Findings},
    growth::Growth,
    history::History,
    objects::{Lookup, Objects},
};
use crate::{
    bundle::{Bundle, version_for},
    canon::{DecodeError, UnknownEntry, decode_entry},
    checkpoint::Checkpoint,
    merkle::{Frontier, leaf_hash},
    refs::References,
    report::{Check, LedgerLine},
};

/// What the pass learned.
#[derive(Default)]
pub(super) struct Walk {
    /// What was fixed at admission.
    pub(super) submitted: Option<Box<RunSubmitted>>,
    /// Actor of the first entry.
    pub(super) submitter: String,
    /// The run's tree over the entries that were read.
    pub(super) frontier: Frontier,
    /// All entries were read and linked.
    pub(super) complete: bool,
    /// A link that does not fit; which entry is to blame is decided when the checkpoint is known.
    pub(super) broken_link: Option<BrokenLink>,
    /// What the entries and manifests refer to.
    pub(super) references: References,
    /// A manifest could not be read, so some references are not known.
    pub(super) manifests_missing: bool,
    /// A list of artifacts could not be read, so some references are not known.
    pub(super) lists_missing: bool,
    /// Entries of unknown kinds.
    pub(super) unknown_kinds: u64,
    /// Version of the bundle format that the entries need.
    pub(super) bundle_version: u32,
    /// Outcome in `run.completed`.
    pub(super) outcome: Option<RunOutcome>,
    /// For display.
    pub(super) ledger: Vec<LedgerLine>,
}

/// Entry `seq` does not name the leaf hash of the entry before it.
pub(super) struct BrokenLink {
    seq: usize,
    before: Digest,
}

impl BrokenLink {
    /// Decides which of the two entries was altered and reports it.
    ///
    /// The next link tells: if the entry after the later one still names it, the later one is as it was sealed, so
    /// the earlier one was altered. At the end of the chain the signed root tells.
    pub(super) fn report(
        &self,
        bundle: &Bundle<'_>,
        walk: &Walk,
        tree: Option<&Checkpoint>,
        findings: &mut Findings,
    ) {
        let later = bundle.entries[self.seq].get().as_bytes();
        let later_is_sealed = match bundle.entries.get(self.seq + 1) {
            Some(next) => read(next.get().as_bytes()).is_ok_and(|next| next.prev() == Some(leaf_hash(later))),
            None => {
                // Put the right `prev` in: if that gives the signed root, only `prev` was altered.
                let repaired = read(later).ok().and_then(|entry| entry.with_prev(self.before));
                let root = repaired.map(|leaf| {
                    let mut frontier = walk.frontier.clone();
                    frontier.push(leaf);
                    frontier.root()
                });
                tree.is_none_or(|tree| root != Some(tree.root))
            }
        };
        let seq = if later_is_sealed { self.seq - 1 } else { self.seq };
        let detail =
            format!("entry seq {} names another entry before it than seq {} is", self.seq, self.seq - 1);
        findings.fail(CheckName::Chain, format!("entry seq {seq}"), detail);
    }
}

/// An entry, or the place in the chain of one that this program does not understand.
enum Read {
    Known(Box<Entry>),
    Unknown(Box<UnknownEntry>),
}

impl Read {
    fn place(&self) -> (&RunId, u64, Option<Digest>) {
        match self {
            Self::Known(entry) => (&entry.run, entry.seq, entry.prev),
            Self::Unknown(entry) => (&entry.run, entry.seq, entry.prev),
        }
    }

    fn prev(&self) -> Option<Digest> {
        self.place().2
    }

    /// Leaf hash if `prev` were this.
    fn with_prev(self, prev: Digest) -> Option<Digest> {
        let Self::Known(mut entry) = self else { return None };
        entry.prev = Some(prev);
        crate::canon::encode_entry(&entry).ok().map(|bytes| leaf_hash(&bytes))
    }
}

fn read(bytes: &[u8]) -> Result<Read, DecodeError> {
    match decode_entry(bytes) {
        Ok(entry) => Ok(Read::Known(Box::new(entry))),
        Err(DecodeError::UnknownKind(entry)) => Ok(Read::Unknown(entry)),
        Err(DecodeError::UnknownVersion(version)) => serde_json::from_slice(bytes)
            .map(|entry| Read::Unknown(Box::new(entry)))
            .map_err(|_| DecodeError::UnknownVersion(version)),
        Err(error) => Err(error),
    }
}

/// Goes over the entries.
pub(super) fn walk<'o>(bundle: &Bundle<'_>, objects: &'o Objects<'o>, findings: &mut Findings) -> Walk {
    let mut walk = Walk { bundle_version: 1, ..Walk::default() };
    let mut attempts = Attempts::default();
    let mut history = History::new(objects, &records(bundle));
    let mut growth = Growth::new(objects);
    let mut head = None;
    for (position, raw) in bundle.entries.iter().enumerate() {
        let bytes = raw.get().as_bytes();
        let place = format_args!("entry seq {position}").to_string();
        let entry = match read(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                findings.fail(CheckName::Chain, place, error.to_string());
                break;
            }
        };
        let (run, seq, prev) = entry.place();
        if *run != bundle.run {
            let (place, detail) = wrong_run(bundle, run, place);
            findings.fail(CheckName::Chain, place, detail);
            break;
        }
        if seq != position as u64 {
            let detail = format!("position {position} holds the entry with seq {seq}");
            findings.fail(CheckName::Chain, place, detail);
            break;
        }
        if prev != head {
            match head {
                Some(before) => walk.broken_link = Some(BrokenLink { seq: position, before }),
                None => findings.fail(CheckName::Chain, place, "the first entry names an entry before it"),
            }
            break;
        }
        let leaf = leaf_hash(bytes);
        walk.frontier.push(leaf);
        head = Some(leaf);
        match entry {
            Read::Unknown(entry) => {
                walk.unknown_kinds += 1;
                let reason =
                    format!("{place} is of unknown kind {:?} (format version {})", entry.kind, entry.v);
                history.give_up(&reason);
                findings.unverifiable.push(reason);
                walk.ledger.push(LedgerLine { at: entry.at, kind: entry.kind, item: None, leaf });
            }
            Read::Known(entry) => {
                walk.references.add_entry(&entry);
                walk.bundle_version = walk.bundle_version.max(version_for(&entry.body));
                let manifest = attempts.entry(&entry, objects, &mut walk, findings);
                let seen = history.entry(&entry, findings);
                growth.entry(&entry, manifest.as_ref(), seen.as_ref(), &history, findings);
                let (kind, item) = (entry.body.kind().to_owned(), item_of(&entry.body));
                walk.ledger.push(LedgerLine { at: entry.at, kind, item, leaf });
                match entry.body {
                    EntryBody::RunSubmitted(submitted) if position == 0 => {
                        walk.submitter = entry.actor;
                        walk.submitted = Some(submitted);
                    }
                    EntryBody::RunCompleted { outcome, .. } => walk.outcome = Some(outcome),
                    _ => {}
                }
            }
        }
    }
    finish(&mut walk, bundle, &attempts, history, growth, findings);
    walk
}

/// The records of the pattern: what it saw must be cut out of the history before its record comes. What is no entry is
/// left out here and reported when its turn comes.
fn records(bundle: &Bundle<'_>) -> Vec<DecisionRecord> {
    let decided = bundle.entries.iter().filter(|raw| raw.get().contains("\"pattern.decided\""));
    decided
        .filter_map(|raw| match decode_entry(raw.get().as_bytes()).ok()?.body {
            EntryBody::PatternDecided(record) => Some(*record),
            _ => None,
        })
        .collect()
}

fn finish(
    walk: &mut Walk,
    bundle: &Bundle<'_>,
    attempts: &Attempts,
    history: History<'_>,
    growth: Growth<'_>,
    findings: &mut Findings,
) {
    let count = bundle.entries.len();
    if count == 0 {
        findings.fail(CheckName::Chain, "entries", "the bundle has no entries");
    }
    walk.complete = count > 0 && walk.frontier.len() == count as u64;
    if !walk.complete {
        return;
    }
    let unknown = match walk.unknown_kinds {
        0 => String::new(),
        n => format!(", {n} of unknown kinds"),
    };
    findings.pass(CheckName::Chain, format!("{count} entries, each names the one before{unknown}"));
    attempts.finish(walk, findings);
    growth.finish(history.stopped(), findings);
    history.finish(findings);
    if walk.outcome.is_none() {
        findings.incomplete.push("the run is not finished: its last entry is not run.completed".to_owned());
    }
}

/// Either the entry or the bundle's `run` is wrong; the checkpoint's text says which.
fn wrong_run(bundle: &Bundle<'_>, found: &RunId, entry_place: String) -> (String, String) {
    let first_line = bundle.checkpoint.lines().next().unwrap_or_default();
    let place = match first_line.ends_with(&format!("/run/{found}")) {
        true => "run".to_owned(),
        false => entry_place,
    };
    (place, format!("the bundle is of run {}, the entry of run {found}", bundle.run))
}

fn item_of(body: &EntryBody) -> Option<ItemId> {
    match body {
        EntryBody::ItemFired { item, .. }
        | EntryBody::ItemOutputs { item, .. }
        | EntryBody::ItemReconciled { item, .. }
        | EntryBody::ItemRetried { item, .. }
        | EntryBody::ItemDenied { item, .. }
        | EntryBody::ItemCancelled { item } => Some(item.clone()),
        EntryBody::ItemSkipped { cause, .. } => Some(cause.clone()),
        EntryBody::RunExtended { cause, .. } => cause.clone(),
        EntryBody::ItemTolerated { items, .. } => items.first().cloned(),
        EntryBody::RunSubmitted(_)
        | EntryBody::PatternDecided(_)
        | EntryBody::PatternMoved { .. }
        | EntryBody::RunCancelled {}
        | EntryBody::RunClosed {}
        | EntryBody::RunCompleted { .. } => None,
    }
}

/// The artifacts that the plugin blocks of an attempt left.
fn artifacts(
    digest: &Digest,
    seq: u64,
    dispatch: &DispatchId,
    objects: &Objects<'_>,
    walk: &mut Walk,
    findings: &mut Findings,
) {
    // Missing and damaged ones are reported by the objects check.
    let Lookup::Bytes(bytes) = objects.get(digest) else {
        walk.lists_missing = true;
        return;
    };
    let place = || format!("object {digest} (artifact list of entry seq {seq})");
    let list: ArtifactList = match serde_json::from_slice(&bytes) {
        Ok(list) => list,
        Err(error) => {
            findings.fail(CheckName::Objects, place(), format!("is not a list of artifacts: {error}"));
            walk.lists_missing = true;
            return;
        }
    };
    walk.references.add_artifacts(&list, seq);
    if list.v != ARTIFACT_LIST_VERSION {
        findings.unverifiable.push(format!("{} has format version {}", place(), list.v));
    }
    if list.dispatch != *dispatch {
        findings.fail(CheckName::Objects, place(), "its dispatch is not that of the attempt");
    }
}

/// Manifests and hand-offs of the attempts.
#[derive(Default)]
struct Attempts {
    namespace: String,
    /// Patch and outputs of items that are done.
    products: BTreeMap<ItemId, HashSet<Digest>>,
    /// Outputs of running attempts that were recorded in parts; they are products once the attempt is done.
    parts: BTreeMap<ItemId, HashSet<Digest>>,
    with_manifest: u64,
    without_manifest: u64,
    unread: u64,
    edges: u64,
}

/// One `item.fired`.
struct Fired<'e> {
    run: &'e RunId,
    seq: u64,
    item: &'e ItemId,
    attempt: u32,
    dispatch: &'e DispatchId,
}

impl Attempts {
    /// Looks at an entry; answers the manifest that it fired, when it can be read.
    fn entry(
        &mut self,
        entry: &Entry,
        objects: &Objects<'_>,
        walk: &mut Walk,
        findings: &mut Findings,
    ) -> Option<DispatchManifest> {
        if let EntryBody::ItemReconciled { item, attempt, evidence, .. }
        | EntryBody::ItemRetried { item, attempt, evidence, .. } = &entry.body
            && let Some(list) = &evidence.block_artifacts
        {
            let dispatch = DispatchId::derive(&self.namespace, &entry.run, item, *attempt);
            artifacts(list, entry.seq, &dispatch, objects, walk, findings);
        }
        match &entry.body {
            EntryBody::RunSubmitted(submitted) => self.namespace.clone_from(&submitted.namespace),
            EntryBody::ItemOutputs { item, part, outputs, .. } => {
                let parts = self.parts.entry(item.clone()).or_default();
                if *part == 0 {
                    parts.clear();
                }
                parts.extend(outputs.values().copied());
            }
            EntryBody::ItemReconciled { item, status: FinalStatus::Done, evidence, .. } => {
                let recorded = self.parts.remove(item).unwrap_or_default();
                let counts = evidence.outputs_total.is_some_and(|total| total.count > 0);
                let outputs = evidence.outputs.values().copied();
                let products = self.products.entry(item.clone()).or_default();
                products.extend(evidence.patch.into_iter().chain(outputs));
                products.extend(recorded.into_iter().filter(|_| counts));
            }
            EntryBody::ItemReconciled { item, .. } | EntryBody::ItemRetried { item, .. } => {
                self.parts.remove(item);
            }
            EntryBody::ItemFired { item, attempt, dispatch, manifest } => {
                let fired = Fired { run: &entry.run, seq: entry.seq, item, attempt: *attempt, dispatch };
                match manifest {
                    Some(digest) => return self.manifest(&fired, digest, objects, walk, findings),
                    None => self.without_manifest += 1,
                }
            }
            _ => {}
        }
        None
    }

    fn manifest(
        &mut self,
        fired: &Fired<'_>,
        digest: &Digest,
        objects: &Objects<'_>,
        walk: &mut Walk,
        findings: &mut Findings,
    ) -> Option<DispatchManifest> {
        let bytes = match objects.get(digest) {
            Lookup::Bytes(bytes) => bytes,
            // Reported by the objects check: as damaged, or as missing.
            Lookup::Damaged | Lookup::Missing => {
                self.unread += 1;
                walk.manifests_missing = true;
                return None;
            }
        };
        let place = || format!("object {digest} (manifest of entry seq {})", fired.seq);
        let manifest: DispatchManifest = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.fail(CheckName::Manifest, place(), format!("is not a dispatch manifest: {error}"));
                walk.manifests_missing = true;
                return None;
            }
        };
        self.with_manifest += 1;
        walk.references.add_manifest(&manifest, fired.seq);
        if manifest.v != MANIFEST_VERSION {
            findings.unverifiable.push(format!("{} has format version {}", place(), manifest.v));
        }
        let derived = DispatchId::derive(&self.namespace, fired.run, fired.item, fired.attempt);
        let mismatch = [
            ("run", manifest.run == *fired.run),
            ("item", manifest.item == *fired.item),
            ("attempt", manifest.attempt == fired.attempt),
            ("dispatch", manifest.dispatch == *fired.dispatch && derived == *fired.dispatch),
        ];
        for (member, _) in mismatch.iter().filter(|(_, same)| !same) {
            findings.fail(CheckName::Manifest, place(), format!("its {member} is not that of the attempt"));
        }
        for (key, input) in &manifest.inputs {
            self.edges += 1;
            let sealed =
                self.products.get(&input.from).is_some_and(|products| products.contains(&input.digest));
            if !sealed {
                let detail = format!(
                    "input {key:?} ({}) is not a product of item {} that was done before",
                    input.digest, input.from
                );
                findings.fail(CheckName::Handoff, place(), detail);
            }
        }
        Some(manifest)
    }

    fn finish(&self, walk: &Walk, findings: &mut Findings) {
        let Self { with_manifest, without_manifest, unread, edges, .. } = self;
        let manifest = match (with_manifest, without_manifest, unread) {
            (0, 0, 0) => Check::not_applicable("no attempts"),
            (0, n, 0) => Check::not_applicable(format!("{n} attempts, none has a manifest")),
            (n, 0, 0) => Check::pass(format!("{n} attempts, each with its manifest")),
            (n, without, 0) => {
                Check::pass(format!("{n} attempts with their manifest; {without} were fired without one"))
            }
            (_, _, unread) => Check::not_applicable(format!("{unread} manifests are missing or damaged")),
        };
        findings.set(CheckName::Manifest, manifest);
        let handoff = match (edges, walk.manifests_missing) {
            (_, true) => Check::not_applicable("not every manifest could be read"),
            (0, false) => Check::not_applicable("no item was handed a product of another"),
            (n, false) => Check::pass(format!("{n} inputs are sealed products of items done before")),
        };
        findings.set(CheckName::Handoff, handoff);
    }
}
