//! Goes over the entries of a run once more and rebuilds its state and, at each recorded step, what the pattern saw.
//!
//! The verifier compares the digests of these views with the recorded ones; replay and an upgrade in the middle of a
//! run also ask a component again. Nothing here knows how a component is executed.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use pangolin_core::{
    entry::{Entry, EntryBody, RunSubmitted},
    ids::Digest,
    pattern::{DecisionRecord, RunView, Tracker},
    plan::{Plan, PlanItem},
    state::{IllegalEntry, RunState},
    validate::{Finding, PlanContext, Severity, parse_items, parse_plan},
};
use thiserror::Error;

use crate::{
    canon::CanonError,
    decision::{ViewDigest, seed},
};

/// Where plans, parameters and added items come from.
pub trait Documents {
    /// The bytes with this digest, or why they are not there as the end of a sentence, e.g. `is not in the bundle`.
    ///
    /// # Errors
    /// Why they are not there.
    fn document(&self, digest: &Digest) -> Result<Cow<'_, [u8]>, String>;
}

impl<D: Documents + ?Sized> Documents for &D {
    fn document(&self, digest: &Digest) -> Result<Cow<'_, [u8]>, String> {
        (**self).document(digest)
    }
}

impl Documents for std::collections::BTreeMap<Digest, Vec<u8>> {
    fn document(&self, digest: &Digest) -> Result<Cow<'_, [u8]>, String> {
        self.get(digest).map(|bytes| Cow::Borrowed(bytes.as_slice())).ok_or_else(|| "is not there".to_owned())
    }
}

/// What [`Rebuild`] and whoever compares decisions needs to read for this entry.
#[must_use]
pub fn documents_of(body: &EntryBody) -> Vec<Digest> {
    match body {
        EntryBody::RunSubmitted(submitted) => {
            let RunSubmitted { plan, graph, pattern_params, .. } = &**submitted;
            std::iter::once(*plan).chain(*graph).chain(*pattern_params).collect()
        }
        EntryBody::RunExtended { document, .. } => vec![*document],
        EntryBody::PatternDecided(record) => vec![record.decisions],
        _ => Vec::new(),
    }
}

/// Why a run cannot be rebuilt any further.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RebuildError {
    /// A document is missing.
    #[error("{what} {digest} {why}")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// Why it is not there.
        why: String,
    },
    /// A document is not what it should be.
    #[error("{what} {digest} {problem}")]
    Malformed {
        /// What it is.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        problem: String,
    },
    /// The first entry is another one.
    #[error("the first entry is not run.submitted")]
    NotSubmitted,
    /// An entry cannot follow.
    #[error(transparent)]
    Illegal(Box<IllegalEntry>),
    /// What the pattern saw has no canonical form.
    #[error("the view of step {step} has no digest")]
    View {
        /// The step.
        step: u64,
        /// Why.
        #[source]
        source: CanonError,
    },
    /// A record names a point of the run at which no step can begin.
    #[error("step {step} says that it has seen {seen} entries, but no view can be rebuilt for that")]
    NoView {
        /// The step.
        step: u64,
        /// Entries.
        seen: u64,
    },
}

impl From<IllegalEntry> for RebuildError {
    fn from(illegal: IllegalEntry) -> Self {
        Self::Illegal(Box::new(illegal))
    }
}

/// What a pattern saw at one recorded step.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The view, rebuilt from the entries.
    pub view: Arc<RunView>,
    /// Its digest, to be compared with the recorded one.
    pub digest: Digest,
}

/// A step whose view is to be cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    step: u64,
    seen: u64,
    now: i64,
}

/// State and views of a run, entry by entry.
#[derive(Debug)]
pub struct Rebuild<D> {
    documents: D,
    cuts: VecDeque<Cut>,
    state: Option<RunState>,
    tracker: Option<Tracker>,
    digests: ViewDigest,
    current: Option<(u64, Seen)>,
}

impl<D: Documents> Rebuild<D> {
    /// `records` are the `pattern.decided` of the run in order: a view is cut before its record comes.
    pub fn new<'a>(documents: D, records: impl IntoIterator<Item = &'a DecisionRecord>) -> Self {
        let cut = |record: &DecisionRecord| Cut { step: record.step, seen: record.seen, now: record.now };
        Self {
            documents,
            cuts: records.into_iter().map(cut).collect(),
            state: None,
            tracker: None,
            digests: ViewDigest::new(),
            current: None,
        }
    }

    /// The run after the last entry; `None` before the first.
    #[must_use]
    pub const fn state(&self) -> Option<&RunState> {
        self.state.as_ref()
    }

    /// Takes the next entry. Answers what the pattern saw when it is a `pattern.decided`; drop that before the next
    /// entry, or the whole view is copied.
    ///
    /// # Errors
    /// [`RebuildError`]; do not go on after one.
    pub fn entry(&mut self, entry: &Entry) -> Result<Option<Seen>, RebuildError> {
        let Some(state) = &mut self.state else {
            let EntryBody::RunSubmitted(submitted) = &entry.body else {
                return Err(RebuildError::NotSubmitted);
            };
            return self.start(submitted, entry).map(|()| None);
        };
        if let (Some(tracker), Some(cut)) = (&mut self.tracker, self.cuts.front().copied())
            && cut.seen == entry.seq
        {
            self.cuts.pop_front();
            self.current = None;
            let view = tracker.cut(state, cut.now);
            let digest = self
                .digests
                .advance(&view)
                .map_err(|source| RebuildError::View { step: cut.step, source })?;
            self.current = Some((cut.step, Seen { view, digest }));
        }
        let added = match &entry.body {
            EntryBody::RunExtended { document, .. } => Some(added_items(document, state, &self.documents)?),
            _ => None,
        };
        state.apply(entry, added)?;
        if let Some(tracker) = &mut self.tracker {
            tracker.note(state, entry);
        }
        let EntryBody::PatternDecided(record) = &entry.body else { return Ok(None) };
        match self.current.take() {
            Some((step, seen)) if step == record.step => Ok(Some(seen)),
            _ => Err(RebuildError::NoView { step: record.step, seen: record.seen }),
        }
    }

    fn start(&mut self, submitted: &RunSubmitted, entry: &Entry) -> Result<(), RebuildError> {
        let planned = match self.cuts.front().copied() {
            Some(cut) if cut.step == 0 && cut.seen == 0 => {
                self.cuts.pop_front();
                let plan = plan(&submitted.plan, "plan", submitted, &self.documents)?;
                let params = params(submitted, &self.documents)?;
                let seed = seed(&submitted.namespace, &entry.run);
                let view = Tracker::planning(&plan, params, seed, cut.now);
                let digest =
                    self.digests.advance(&view).map_err(|source| RebuildError::View { step: 0, source })?;
                self.current = Some((0, Seen { view: Arc::clone(&view), digest }));
                Some(view)
            }
            _ => None,
        };
        let graph = match &submitted.graph {
            Some(graph) => plan(graph, "amended plan", submitted, &self.documents)?,
            None => plan(&submitted.plan, "plan", submitted, &self.documents)?,
        };
        let state = RunState::start(graph, entry)?;
        self.tracker = planned.map(|view| Tracker::start(view, &state));
        self.state = Some(state);
        Ok(())
    }
}

/// The deployment's limits and configured names are not the business of whoever looks at the record.
#[must_use]
pub fn context() -> PlanContext {
    PlanContext { items_max: usize::MAX, ..PlanContext::default() }
}

fn read<'d>(
    digest: &Digest,
    what: &'static str,
    documents: &'d impl Documents,
) -> Result<Cow<'d, [u8]>, RebuildError> {
    documents.document(digest).map_err(|why| RebuildError::Missing { what, digest: *digest, why })
}

fn plan(
    digest: &Digest,
    what: &'static str,
    submitted: &RunSubmitted,
    documents: &impl Documents,
) -> Result<Plan, RebuildError> {
    let bytes = read(digest, what, documents)?;
    match parse_plan(&bytes, &context()) {
        // The submitter may choose another queue than the plan's; the entry says which one it was.
        Ok(parsed) => Ok(Plan { queue: submitted.queue.clone(), ..parsed.plan }),
        Err(found) => Err(RebuildError::Malformed {
            what,
            digest: *digest,
            problem: format!("is not a plan: {}", first_error(&found)),
        }),
    }
}

fn params(submitted: &RunSubmitted, documents: &impl Documents) -> Result<String, RebuildError> {
    const WHAT: &str = "parameters of the pattern";
    let Some(digest) = &submitted.pattern_params else { return Ok("{}".to_owned()) };
    let bytes = read(digest, WHAT, documents)?;
    String::from_utf8(bytes.into_owned()).map_err(|_| RebuildError::Malformed {
        what: WHAT,
        digest: *digest,
        problem: "are not text".to_owned(),
    })
}

fn added_items(
    document: &Digest,
    run: &RunState,
    documents: &impl Documents,
) -> Result<Vec<PlanItem>, RebuildError> {
    const WHAT: &str = "list of added items";
    let bytes = read(document, WHAT, documents)?;
    match parse_items(&bytes, run, &context()) {
        Ok(parsed) => Ok(parsed.items),
        Err(found) => Err(RebuildError::Malformed {
            what: WHAT,
            digest: *document,
            problem: format!("is not a list of items: {}", first_error(&found)),
        }),
    }
}

fn first_error(findings: &[Finding]) -> String {
    let error = findings.iter().find(|finding| finding.severity == Severity::Error);
    error
        .map_or_else(|| "no reason given".to_owned(), |error| format!("{}: {}", error.pointer, error.message))
}
