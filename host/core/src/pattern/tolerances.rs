//! Items that ended without success and do not fail the run: the engine's rules for what a step says of them.

use std::collections::BTreeSet;

use super::{Decisions, Tolerated, Unfit, additions::shortened};
use crate::{ids::ItemId, state::RunState};

/// Most items in one `item.tolerated`: 300 ids of 128 bytes and the reason stay far below the limit of an entry.
const ITEMS_MAX: usize = 300;

/// The content of one `item.tolerated`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tolerance {
    /// The items; all have ended without success.
    pub items: Vec<ItemId>,
    /// Why, in the pattern's words.
    pub explanation: String,
}

/// Checks which items a step tolerates and cuts them into entries. What is tolerated already is left out. `run` is the
/// run before anything of the step is applied.
///
/// # Errors
/// [`Unfit`]; nothing of the step may be taken then.
pub fn tolerances(decisions: &Decisions, run: &RunState) -> Result<Vec<Tolerance>, Unfit> {
    let superseded: BTreeSet<&ItemId> =
        decisions.spawned.iter().filter_map(|spec| spec.supersedes.as_ref()).collect();
    let mut seen = BTreeSet::new();
    let mut made = Vec::new();
    for Tolerated { items, why } in &decisions.tolerated {
        let mut fresh = Vec::new();
        for item in items {
            if run.is_tolerated(item) || !seen.insert(item) {
                continue;
            }
            run.check_tolerated(item)
                .map_err(|violation| Unfit::Tolerates { item: item.clone(), violation })?;
            if superseded.contains(item) {
                return Err(Unfit::Both(item.clone()));
            }
            fresh.push(item.clone());
        }
        let explanation = shortened(why.clone());
        made.extend(
            fresh
                .chunks(ITEMS_MAX)
                .map(|items| Tolerance { items: items.to_vec(), explanation: explanation.clone() }),
        );
    }
    Ok(made)
}
