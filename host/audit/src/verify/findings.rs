//! Collects what the checks find and derives the verdict.

use crate::report::{Check, Checks, Failure, Status, Verdict};

/// A check, in the order in which the first failure is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CheckName {
    Chain,
    Root,
    Signature,
    Anchor,
    Log,
    Manifest,
    Handoff,
    State,
    Steps,
    Decisions,
    Growth,
    Objects,
    Time,
    /// Last: the digest over everything fails with every other check and says least about the place.
    Format,
}

const NAMES: [(CheckName, &str); 14] = [
    (CheckName::Chain, "chain"),
    (CheckName::Root, "root"),
    (CheckName::Signature, "signature"),
    (CheckName::Anchor, "anchor"),
    (CheckName::Log, "log"),
    (CheckName::Manifest, "manifest"),
    (CheckName::Handoff, "handoff"),
    (CheckName::State, "state"),
    (CheckName::Steps, "steps"),
    (CheckName::Decisions, "decisions"),
    (CheckName::Growth, "growth"),
    (CheckName::Objects, "objects"),
    (CheckName::Time, "time"),
    (CheckName::Format, "format"),
];

#[derive(Debug, Default)]
struct Slot {
    check: Option<Check>,
    failure: Option<Failure>,
    further: u64,
}

/// Results so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    slots: [Slot; NAMES.len()],
    /// What this program cannot judge.
    pub(super) unverifiable: Vec<String>,
    /// What is missing.
    pub(super) incomplete: Vec<String>,
}

/// Most reasons listed in a report.
const REASONS_MAX: usize = 20;

impl Findings {
    /// Records a failure; the first one of each check is kept, further ones are counted.
    pub(super) fn fail(&mut self, check: CheckName, place: impl Into<String>, detail: impl Into<String>) {
        let slot = &mut self.slots[check as usize];
        if slot.failure.is_some() {
            slot.further += 1;
            return;
        }
        let name = NAMES[check as usize].1;
        slot.failure = Some(Failure { check: name.to_owned(), place: place.into(), detail: detail.into() });
    }

    /// Sets the outcome for the case that the check has no failure. The first outcome stays.
    pub(super) fn set(&mut self, check: CheckName, outcome: Check) {
        self.slots[check as usize].check.get_or_insert(outcome);
    }

    /// Sets the outcome for the case that the check has no failure, over an earlier one.
    pub(super) fn replace(&mut self, check: CheckName, outcome: Check) {
        self.slots[check as usize].check = Some(outcome);
    }

    /// Sets a pass for the case that the check has no failure.
    pub(super) fn pass(&mut self, check: CheckName, detail: impl Into<String>) {
        self.set(check, Check::pass(detail));
    }

    /// The verdict and its reasons.
    pub(super) fn verdict(&self) -> (Verdict, Vec<String>, Vec<String>) {
        let verdict = if self.slots.iter().any(|slot| slot.failure.is_some()) {
            Verdict::Failed
        } else if !self.unverifiable.is_empty() {
            Verdict::Unverifiable
        } else if !self.incomplete.is_empty() {
            Verdict::Incomplete
        } else {
            Verdict::Intact
        };
        (verdict, shortened(&self.unverifiable), shortened(&self.incomplete))
    }

    /// First failure and all checks. Checks without an outcome say `otherwise`.
    pub(super) fn finish(self, otherwise: &str) -> (Option<Failure>, Checks) {
        let mut first = None;
        let mut outcomes = self.slots.map(|slot| match slot.failure {
            Some(failure) => {
                let more = match slot.further {
                    0 => String::new(),
                    further => format!(" (and {further} more)"),
                };
                let detail = format!("{}: {}{more}", failure.place, failure.detail);
                first.get_or_insert(failure);
                Check { ok: Status::Fail, detail }
            }
            None => slot.check.unwrap_or_else(|| Check::not_applicable(otherwise)),
        });
        let mut take =
            |name: CheckName| std::mem::replace(&mut outcomes[name as usize], Check::not_applicable(""));
        let checks = Checks {
            format: take(CheckName::Format),
            chain: take(CheckName::Chain),
            root: take(CheckName::Root),
            signature: take(CheckName::Signature),
            anchor: take(CheckName::Anchor),
            log: take(CheckName::Log),
            manifest: take(CheckName::Manifest),
            handoff: take(CheckName::Handoff),
            state: take(CheckName::State),
            steps: take(CheckName::Steps),
            decisions: take(CheckName::Decisions),
            growth: take(CheckName::Growth),
            objects: take(CheckName::Objects),
            time: take(CheckName::Time),
        };
        (first, checks)
    }
}

fn shortened(reasons: &[String]) -> Vec<String> {
    let mut list: Vec<String> = reasons.iter().take(REASONS_MAX).cloned().collect();
    if reasons.len() > REASONS_MAX {
        list.push(format!("and {} more", reasons.len() - REASONS_MAX));
    }
    list
}
