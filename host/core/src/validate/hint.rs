//! Names that were probably meant.

/// Most comparisons for one document: hostile plans with many unknown names get fewer hints, not more time.
const COMPARISONS_MAX: u32 = 200_000;

/// Comparisons made so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    used: u32,
}

impl Budget {
    /// The known name closest to `name`, when it is close enough to be a slip.
    pub(super) fn closest<'a>(
        &mut self,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Option<&'a str> {
        let limit = (name.len() / 3).clamp(1, 3);
        let mut best: Option<(usize, &str)> = None;
        for candidate in known {
            if self.used >= COMPARISONS_MAX {
                break;
            }
            self.used += 1;
            if candidate.eq_ignore_ascii_case(name) && candidate != name {
                return Some(candidate);
            }
            let limit = best.map_or(limit, |(distance, _)| distance.saturating_sub(1));
            if candidate != name
                && let Some(distance) = distance(name.as_bytes(), candidate.as_bytes(), limit)
            {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }
}

/// Edit distance (insert, delete, replace, swap of neighbours) when it is at most `limit`.
fn distance(left: &[u8], right: &[u8], limit: usize) -> Option<usize> {
    if left.len().abs_diff(right.len()) > limit || left.len().max(right.len()) > 256 {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut current = Vec::with_capacity(right.len() + 1);
        current.push(row + 1);
        for (column, to) in right.iter().enumerate() {
            let mut cost =
                (last[column] + usize::from(from != to)).min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *from == right[column - 1] && left[row - 1] == *to {
                cost = cost.min(before_last[column - 1] + 1);
            }
            current.push(cost);
        }
        if current.iter().all(|cost| *cost > limit) {
            return None;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().filter(|distance| *distance <= limit)
}
