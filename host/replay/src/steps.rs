//! The recorded steps of a run on another component: may it take over in the middle of the run?

use pangolin_audit::rebuild::{Documents, Rebuild, RebuildError};
use pangolin_core::entry::{Entry, EntryBody};
use thiserror::Error;

use crate::{
    ask::Ask,
    compare::Differs,
    judge::{Judged, ask_again, judge, recorded},
    report::Difference,
};

/// Whether a component gives the recorded answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Every recorded step.
    Agreement {
        /// How many there are.
        steps: u64,
    },
    /// This is the first one that does not.
    Difference(Box<Difference>),
    /// This step cannot be compared: a failure that is a machine's, then or now.
    Undecided {
        /// The step.
        step: u64,
        /// Why.
        reason: String,
    },
}

/// Why the steps of a run cannot be executed again.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The entries cannot be rebuilt.
    #[error("entry seq {seq} cannot be rebuilt")]
    Rebuild {
        /// Position.
        seq: u64,
        /// Why.
        #[source]
        source: RebuildError,
    },
    /// What was recorded cannot be read, or the entries do not give what the pattern is said to have seen.
    #[error("entry seq {seq} (step {step}): {problem}")]
    Record {
        /// Position.
        seq: u64,
        /// Step.
        step: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Executes every recorded step of a run on `component` and compares. `entries` is the run from its first entry on;
/// `documents` holds what [`pangolin_audit::rebuild::documents_of`] says of each of them. Needs a tokio runtime with
/// time enabled.
///
/// # Errors
/// [`ReplayError`] when the record contradicts itself: that says nothing about the component.
pub async fn replay_steps<A: Ask + Sync>(
    entries: &[Entry],
    documents: impl Documents,
    component: &A,
) -> Result<Comparison, ReplayError> {
    let records = entries.iter().filter_map(|entry| match &entry.body {
        EntryBody::PatternDecided(record) => Some(&**record),
        _ => None,
    });
    let mut run = Rebuild::new(&documents, records);
    let mut steps = 0;
    for entry in entries {
        let seq = entry.seq;
        let seen = run.entry(entry).map_err(|source| ReplayError::Rebuild { seq, source })?;
        let (EntryBody::PatternDecided(record), Some(seen), Some(state)) = (&entry.body, seen, run.state())
        else {
            continue;
        };
        let step = record.step;
        let problem = |problem: String| ReplayError::Record { seq, step, problem };
        if seen.digest != record.view {
            return Err(problem(format!("its view is {}, rebuilt is {}", record.view, seen.digest)));
        }
        let before = recorded(record, &documents).map_err(problem)?;
        let answer = ask_again(component, record, &seen.view).await;
        let differs = |what: Differs| {
            let component = component.component();
            Ok(Comparison::Difference(Box::new(Difference { step, seq, component, what })))
        };
        match judge(record, &before, answer.as_ref(), state, &component.limits_over(seen.view.items().len()))
        {
            Judged::Agrees => steps += 1,
            Judged::Differs(what) => return differs(what),
            Judged::Unrepeatable(reason) | Judged::NotExecuted(reason) => {
                return Ok(Comparison::Undecided { step, reason });
            }
        }
    }
    Ok(Comparison::Agreement { steps })
}
