//! Whether the entries are a legal history: folds them with the scheduler's own rules.

use pangolin_core::{
    entry::{Entry, EntryBody, RunSubmitted},
    ids::Digest,
    plan::{Plan, PlanItem},
    state::RunState,
    validate::{Finding, PlanContext, Severity, parse_items, parse_plan},
};

use super::{
    findings::{CheckName, Findings},
    objects::{Lookup, Objects},
};
use crate::report::Check;

/// The fold so far.
#[derive(Default)]
pub(super) struct History {
    state: Option<RunState>,
    /// Why the fold stopped without a failure.
    gave_up: Option<String>,
    failed: bool,
}

/// Why an object could not be used.
enum Obstacle {
    /// It is missing or damaged; the objects check says so.
    Unavailable(String),
    /// It is not what it should be.
    Malformed(String),
}

impl History {
    /// Stops folding: what follows cannot be judged.
    pub(super) fn give_up(&mut self, reason: &str) {
        self.gave_up.get_or_insert_with(|| reason.to_owned());
    }

    /// Folds the next entry.
    pub(super) fn entry(&mut self, entry: &Entry, objects: &Objects<'_>, findings: &mut Findings) {
        if self.gave_up.is_some() || self.failed {
            return;
        }
        let step = match (&mut self.state, &entry.body) {
            (None, EntryBody::RunSubmitted(submitted)) => match plan(submitted, objects) {
                Ok(plan) => RunState::start(plan, entry).map(|state| self.state = Some(state)),
                Err(obstacle) => return self.obstacle(obstacle, &submitted.plan, findings),
            },
            (None, _) => {
                self.failed = true;
                let place = format!("entry seq {}", entry.seq);
                return findings.fail(CheckName::State, place, "the first entry is not run.submitted");
            }
            (Some(state), EntryBody::RunExtended { document, .. }) => {
                match added_items(document, state, objects) {
                    Ok(items) => state.apply(entry, Some(items)),
                    Err(obstacle) => return self.obstacle(obstacle, document, findings),
                }
            }
            (Some(state), _) => state.apply(entry, None),
        };
        if let Err(illegal) = step {
            self.failed = true;
            findings.fail(CheckName::State, format!("entry seq {}", entry.seq), illegal.to_string());
        }
    }

    fn obstacle(&mut self, obstacle: Obstacle, digest: &Digest, findings: &mut Findings) {
        match obstacle {
            Obstacle::Unavailable(reason) => self.give_up(&reason),
            Obstacle::Malformed(detail) => {
                self.failed = true;
                findings.fail(CheckName::State, format!("object {digest}"), detail);
            }
        }
    }

    /// Sets the check's outcome.
    pub(super) fn finish(self, findings: &mut Findings) {
        let check = match (self.gave_up, self.state) {
            (Some(reason), _) => Check::not_applicable(reason),
            (None, Some(state)) => Check::pass(format!(
                "every entry is a legal step, {} of {} items final",
                state.item_count() as u64 - state.open_items(),
                state.item_count()
            )),
            (None, None) => Check::not_applicable("no entries"),
        };
        findings.set(CheckName::State, check);
    }
}

fn bytes<'o>(
    digest: &Digest,
    what: &str,
    objects: &Objects<'o>,
) -> Result<std::borrow::Cow<'o, [u8]>, Obstacle> {
    match objects.get(digest) {
        Lookup::Bytes(bytes) => Ok(bytes),
        Lookup::Missing => Err(Obstacle::Unavailable(format!("{what} {digest} is not in the bundle"))),
        Lookup::Damaged => Err(Obstacle::Unavailable(format!("{what} {digest} is damaged"))),
    }
}

/// The deployment's limits and configured names are not the verifier's business.
fn context() -> PlanContext {
    PlanContext { items_max: usize::MAX, ..PlanContext::default() }
}

fn plan(submitted: &RunSubmitted, objects: &Objects<'_>) -> Result<Plan, Obstacle> {
    let bytes = bytes(&submitted.plan, "plan", objects)?;
    match parse_plan(&bytes, &context()) {
        // The submitter may choose another queue than the plan's; the entry says which one it was.
        Ok(parsed) => Ok(Plan { queue: submitted.queue.clone(), ..parsed.plan }),
        Err(found) => Err(Obstacle::Malformed(format!("is not a plan: {}", first_error(&found)))),
    }
}

fn added_items(document: &Digest, run: &RunState, objects: &Objects<'_>) -> Result<Vec<PlanItem>, Obstacle> {
    let bytes = bytes(document, "list of added items", objects)?;
    match parse_items(&bytes, run, &context()) {
        Ok(parsed) => Ok(parsed.items),
        Err(found) => Err(Obstacle::Malformed(format!("is not a list of items: {}", first_error(&found)))),
    }
}

fn first_error(findings: &[Finding]) -> String {
    let error = findings.iter().find(|finding| finding.severity == Severity::Error);
    error
        .map_or_else(|| "no reason given".to_owned(), |error| format!("{}: {}", error.pointer, error.message))
}
