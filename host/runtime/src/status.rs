//! Views of runs from their fold.

use std::collections::BTreeMap;

use pangolin_core::{
    entry::UsageQuality,
    ids::{ItemId, RunId},
    scheduler::Scheduler,
    state::{Attempt, AttemptResult, Blocker, ItemState, ItemView as CoreItem, RunState},
};
use pangolin_orchestrator::ledger::Summary;

use crate::views::{AttemptView, FailedStep, ItemView, RunSummary, RunView, VIEW_SCHEMA_VERSION};

/// One line about a run.
pub(crate) fn summary(run: RunId, summary: &Summary) -> RunSummary {
    let state = match summary.outcome {
        None => "active",
        Some(pangolin_core::entry::RunOutcome::Done) => "done",
        Some(pangolin_core::entry::RunOutcome::Failed) => "failed",
        Some(pangolin_core::entry::RunOutcome::Cancelled) => "cancelled",
    };
    RunSummary {
        run,
        queue: summary.queue.clone(),
        state: state.to_owned(),
        actor: summary.actor.clone(),
        submitted_at: summary.submitted_at,
        finished_at: summary.finished_at,
        items: summary.items,
    }
}

/// A run in full. `others` knows the queues and the locks of other runs; without it only this run's own reasons
/// are shown.
pub(crate) fn view(
    state: &RunState,
    mut line: RunSummary,
    entries: u64,
    others: Option<&Scheduler>,
) -> RunView {
    let mut counts = BTreeMap::new();
    let mut cost = 0u64;
    let mut complete = true;
    let mut items = Vec::with_capacity(state.item_count());
    line.items = state.item_count() as u64;
    for item in state.items() {
        *counts.entry(item.state.name().to_owned()).or_default() += 1;
        for end in item.attempts.iter().filter_map(|attempt| attempt.end.as_ref()) {
            if let Some(usage) = &end.evidence.usage {
                cost += usage.cost_microusd.unwrap_or(0);
                complete &= usage.quality == UsageQuality::Exact;
            }
        }
        let blockers =
            others.map_or_else(|| state.blockers(item.id()), |all| all.blockers(state.id(), item.id()));
        items.push(item_view(state, item, &blockers));
    }
    RunView {
        schema_version: VIEW_SCHEMA_VERSION,
        summary: line,
        counts,
        cost_microusd: cost,
        cost_complete: complete,
        entries,
        pattern_failure: pattern_failure(state),
        items,
    }
}

fn pattern_failure(state: &RunState) -> Option<FailedStep> {
    let (step, failure) = state.growth()?.failed_step()?;
    Some(FailedStep { pattern: state.submitted().pattern_id.clone(), step, failure: failure.clone() })
}

fn item_view(state: &RunState, item: CoreItem<'_>, blockers: &[Blocker]) -> ItemView {
    let last = |pick: fn(&Attempt) -> bool| item.attempts.iter().rev().find(|attempt| pick(attempt));
    let patched = last(|attempt| attempt.end.as_ref().is_some_and(|end| end.evidence.patch.is_some()));
    let extension = state.extension_of(item.id());
    let verified = last(|attempt| attempt.end.as_ref().is_some_and(|end| end.evidence.verify.is_some()));
    let blocked_by = blockers.iter().filter_map(|blocker| match blocker {
        Blocker::Dependency { item, .. } => Some(item.clone()),
        _ => None,
    });
    ItemView {
        id: item.id().clone(),
        status: item.state.name().to_owned(),
        why: whole_reason(state, item, blockers),
        blocked_by: blocked_by.collect(),
        depends_on: item.plan.depends_on.clone(),
        resource_locks: item.plan.resource_locks.clone(),
        attempts: item.attempts.iter().map(|attempt| attempt_view(state, item, attempt)).collect(),
        result_ref: patched.and_then(|attempt| attempt.end.as_ref()?.evidence.patch),
        verify: verified.and_then(|attempt| attempt.end.as_ref()?.evidence.verify.clone()),
        added_by: extension.map(|extension| extension.actor.clone()),
        added_because: because(state, item),
        superseded_by: state.successor(item.id()).cloned(),
        tolerated: state.tolerated_because(item.id()).map(str::to_owned),
    }
}

/// Why a pattern added the item. An entry whose items have different reasons has `<item>: <reason>` for each that has
/// one; a reason may have further lines.
fn because(state: &RunState, item: CoreItem<'_>) -> Option<String> {
    let extension = state.extension_of(item.id())?;
    let of = |line: &'_ str| {
        let (id, _) = line.split_once(": ")?;
        let id = ItemId::new(id).ok()?;
        state.extension_of(&id).is_some_and(|other| std::ptr::eq(other, extension)).then_some(id)
    };
    own_reason(&extension.explanation, item.id(), of)
}

/// `of` tells whose reason starts in a line.
fn own_reason(text: &str, item: &ItemId, of: impl Fn(&str) -> Option<ItemId>) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    if text.lines().next().and_then(&of).is_none() {
        // One reason for all of them.
        return Some(text.to_owned());
    }
    let mut lines = text.lines().skip_while(|line| of(line).as_ref() != Some(item));
    let mut own = lines.next()?.strip_prefix(item.as_str())?.strip_prefix(": ")?.to_owned();
    for line in lines.take_while(|line| of(line).is_none()) {
        own.push('\n');
        own.push_str(line);
    }
    Some(own)
}

/// Where it stands, what took its place, and how it came into the run.
fn whole_reason(state: &RunState, item: CoreItem<'_>, blockers: &[Blocker]) -> String {
    let mut text = match item.state {
        ItemState::Skipped { cause } if state.item(cause).is_some_and(|cause| !cause.state.is_dead()) => {
            format!("skipped because {cause} is red")
        }
        _ => why(item, blockers),
    };
    if let Some(successor) = state.successor(item.id()) {
        text.push_str(&format!("; superseded by {successor}"));
    } else if let Some(because) = state.tolerated_because(item.id()) {
        text.push_str(&format!("; tolerated, the run may succeed without it: {because}"));
    }
    if let Some(extension) = state.extension_of(item.id()) {
        let pattern = extension.plugin.and(state.submitted().pattern_id.as_ref());
        let who = match pattern {
            Some(id) => format!("pattern {id}"),
            None => extension.actor.clone(),
        };
        text.push_str(&format!("; added by {who}"));
        if let Some(because) = because(state, item) {
            text.push_str(&format!(" because {because}"));
        }
    }
    text
}

fn attempt_view(state: &RunState, item: CoreItem<'_>, attempt: &Attempt) -> AttemptView {
    let evidence = attempt.end.as_ref().map(|end| (*end.evidence).clone()).unwrap_or_default();
    let status = attempt.end.as_ref().map_or("running", |end| match end.result {
        AttemptResult::Done => "done",
        AttemptResult::Retried | AttemptResult::Failed => "failed",
        AttemptResult::Cancelled => "cancelled",
        AttemptResult::NeedsInput => "needs-input",
    });
    let retry_at = match item.state {
        ItemState::RetryWait { attempt: failed, not_before } if *failed == attempt.number => {
            Some(*not_before)
        }
        _ => None,
    };
    AttemptView {
        attempt: attempt.number,
        dispatch: pangolin_core::ids::DispatchId::derive(
            &state.submitted().namespace,
            state.id(),
            item.id(),
            attempt.number,
        ),
        status: status.to_owned(),
        fired_at: attempt.fired_at,
        ended_at: attempt.end.as_ref().map(|end| end.at),
        failure: attempt.end.as_ref().and_then(|end| end.failure.clone()),
        retry_at,
        manifest_ref: attempt.manifest,
        patch: evidence.patch,
        outputs: evidence.outputs,
        block_artifacts: evidence.block_artifacts,
        usage: evidence.usage,
        isolation: evidence.isolation,
        events: evidence.events,
        transcript: evidence.transcript,
        result: evidence.result,
    }
}

fn why(item: CoreItem<'_>, blockers: &[Blocker]) -> String {
    match item.state {
        ItemState::Pending | ItemState::Ready | ItemState::RetryWait { .. } | ItemState::NeedsInput => {
            let mut reasons: Vec<String> = blockers.iter().map(blocker).collect();
            if let (ItemState::RetryWait { .. }, Some(failure)) = (item.state, item.failure()) {
                reasons.push(format!("last attempt: {}", failure.message));
            }
            if reasons.is_empty() { "about to start".to_owned() } else { reasons.join("; ") }
        }
        ItemState::Running { attempt, cancelling, .. } => {
            let verb = if *cancelling { "being stopped" } else { "running" };
            format!("{verb}, attempt {attempt}")
        }
        ItemState::Done => match item.attempts.len() {
            0 | 1 => "delivered".to_owned(),
            many => format!("delivered by attempt {many}"),
        },
        ItemState::Failed => {
            let reason =
                item.failure().map_or_else(|| "no reason recorded".to_owned(), |f| f.message.clone());
            match item.attempts.len() {
                0 | 1 => reason,
                many => format!("{many} attempts failed, the last one: {reason}"),
            }
        }
        ItemState::Skipped { cause } => format!("skipped because {cause} did not deliver"),
        ItemState::Cancelled => "stopped on request".to_owned(),
        ItemState::Denied { failure } => failure.message.clone(),
    }
}

fn blocker(blocker: &Blocker) -> String {
    match blocker {
        Blocker::Dependency { item, state } => format!("waits for {item} ({state})"),
        Blocker::Lock { key, run, item } => format!("lock {key} is held by {run}/{item}"),
        Blocker::LockReserved { key } => format!("lock {key} is reserved for an item that waits longer"),
        Blocker::QueueFull { concurrency } => format!("all {concurrency} slots of the queue are taken"),
        Blocker::QueuePaused => "the queue is paused".to_owned(),
        Blocker::QueueUnknown => "its queue is not configured any more".to_owned(),
        Blocker::RetryAt { not_before } => {
            let at = time_of_day(*not_before);
            format!("next attempt at {at}")
        }
        Blocker::Answer => "the agent asked a question".to_owned(),
    }
}

/// UTC time of day of a millisecond time stamp.
fn time_of_day(at_ms: i64) -> String {
    let seconds = at_ms.div_euclid(1000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_shown_its_own_reason_only() {
        let id = |text: &str| ItemId::new(text).unwrap();
        let of = |line: &str| {
            let (first, _) = line.split_once(": ")?;
            ["a", "b", "c"].contains(&first).then(|| id(first))
        };
        let own = |text: &str, item: &str| own_reason(text, &id(item), of);
        let each = "a: first\nmore\nb: second";
        assert_eq!(own(each, "a").as_deref(), Some("first\nmore"));
        assert_eq!(own(each, "b").as_deref(), Some("second"));
        assert_eq!(own(each, "c"), None, "c was added without a reason");
        assert_eq!(own("for all: of them", "c").as_deref(), Some("for all: of them"));
        assert_eq!(own("", "a"), None);
    }
}
