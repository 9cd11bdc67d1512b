//! What a run looks like. Pure: view, time and size in, lines out.

use std::collections::BTreeMap;

use pangolin_core::pattern::FailurePolicy;
use pangolin_runtime::views::{AttemptView, FailedStep, ItemView, RunView};

use super::style::{Status, Style};
use crate::{
    format,
    printer::{Role, one_line},
    table::{self, Line, pad},
};

/// Widest id column; longer ids are cut in narrow views.
const ID_WIDTH_MAX: usize = 40;

/// Header, one line per item that fits in `height` lines, and a line about the rest.
pub(crate) fn summary(view: &RunView, now: i64, width: usize, height: usize, style: Style) -> Vec<Line> {
    let mut lines = header(view, now);
    lines.truncate(height.max(2));
    let room = height.saturating_sub(lines.len());
    if view.items.len() <= room {
        let layout = Layout::of(&view.items.iter().collect::<Vec<_>>(), now, width);
        lines.extend(view.items.iter().map(|item| layout.line(item, now, style)));
        return lines;
    }
    // Too many: what needs attention first, plan order within.
    let mut items: Vec<&ItemView> = view.items.iter().collect();
    items.sort_by_key(|item| Status::of(&item.status));
    let shown = room.saturating_sub(1);
    let (top, rest) = items.split_at(shown.min(items.len()));
    let layout = Layout::of(top, now, width);
    lines.extend(top.iter().map(|item| layout.line(item, now, style)));
    if room > 0 {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for item in rest {
            *counts.entry(item.status.as_str()).or_default() += 1;
        }
        let more = format::count(rest.len() as u64, "more item");
        lines.push(vec![(Role::Dim, format!("and {more}: {}", counts_in_order(&counts)))]);
    }
    lines
}

/// Header and every item with its attempts.
pub(crate) fn detailed(view: &RunView, now: i64, width: usize, style: Style) -> Vec<Line> {
    let mut lines = header(view, now);
    let layout = Layout::of(&view.items.iter().collect::<Vec<_>>(), now, width);
    for item in &view.items {
        lines.push(layout.line(item, now, style));
        let telling =
            item.attempts.len() > 1 || item.attempts.iter().any(|attempt| attempt.failure.is_some());
        if telling {
            lines.extend(item.attempts.iter().map(|attempt| attempt_line(attempt, now)));
        }
    }
    lines
}

/// Lines as text with newlines.
pub(crate) fn text(lines: &[Line], width: usize, style: Style) -> String {
    lines.iter().map(|line| table::render(line, width, style.colour, style.ascii) + "\n").collect()
}

/// `3 done, 1 running`.
pub(crate) fn counts_text(view: &RunView) -> String {
    let counts: BTreeMap<&str, u64> =
        view.counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    counts_in_order(&counts)
}

/// Cost, with a mark when it may be more.
pub(crate) fn cost_text(view: &RunView) -> String {
    let at_least = if view.cost_complete { "" } else { "at least " };
    format!("{at_least}{}", format::cost(view.cost_microusd))
}

fn counts_in_order(counts: &BTreeMap<&str, u64>) -> String {
    let mut words: Vec<(&str, u64)> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(w, c)| (*w, *c)).collect();
    words.sort_by_key(|(word, _)| Status::of(word));
    words
        .iter()
        .map(|(word, count)| format!("{} {}", format::grouped(*count), one_line(word)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn header(view: &RunView, now: i64) -> Vec<Line> {
    let summary = &view.summary;
    let role = match Status::of(&summary.state) {
        Status::Done => Role::Good,
        Status::Failed => Role::Error,
        Status::Cancelled => Role::Warn,
        _ => Role::Busy,
    };
    let elapsed = summary.finished_at.unwrap_or(now).saturating_sub(summary.submitted_at);
    let mut first = vec![
        (Role::Bold, summary.run.to_string()),
        (Role::Plain, "  ".to_owned()),
        (role, one_line(&summary.state)),
        (Role::Plain, format!("  {}", format::duration(elapsed))),
    ];
    if view.cost_microusd > 0 {
        first.push((Role::Plain, format!("  {}", cost_text(view))));
    }
    first.push((Role::Dim, format!("  queue {}  by {}", summary.queue, one_line(&summary.actor))));
    let total = format::count(summary.items, "item");
    let mut lines = vec![first, vec![(Role::Dim, format!("{total}: {}", counts_text(view)))]];
    lines.extend(view.pattern_failure.as_ref().map(pattern_line));
    lines
}

/// What the pattern failed of, and what that means for the run.
fn pattern_line(failed: &FailedStep) -> Line {
    let (role, meaning) = match failed.failure.policy {
        FailurePolicy::Closed => (Role::Error, "nothing is added any more and the run fails"),
        FailurePolicy::Open => (Role::Warn, "the run goes on without it"),
        FailurePolicy::Builtin => (Role::Warn, "the built-in pattern of the queue takes over"),
    };
    let name = failed.pattern.as_deref().map(|id| format!(" {}", one_line(id))).unwrap_or_default();
    let (code, message) = (one_line(&failed.failure.code), one_line(&failed.failure.message));
    // The plugin host starts its sentences with the code.
    let why = if message.starts_with(&code) { message } else { format!("{code}: {message}") };
    // The meaning first: a narrow terminal cuts the end.
    vec![(role, format!("pattern{name} failed at step {}, {meaning}: {why}", failed.step))]
}

/// Widths of the columns that fit; the reason gets what is left.
struct Layout {
    id: usize,
    status: usize,
    attempts: bool,
    elapsed: usize,
    cost: usize,
}

impl Layout {
    fn of(items: &[&ItemView], now: i64, width: usize) -> Self {
        let widest = |text: &dyn Fn(&ItemView) -> String| {
            items.iter().map(|item| table::width(&text(item))).max().unwrap_or(0)
        };
        let id_max = if width == usize::MAX { usize::MAX } else { ID_WIDTH_MAX.min((width / 3).max(8)) };
        let layout = Self {
            id: widest(&|item| item.id.to_string()).min(id_max),
            status: widest(&|item| item.status.clone()),
            attempts: items.iter().any(|item| item.attempts.len() > 1),
            elapsed: widest(&|item| elapsed(item, now)),
            cost: widest(&|item| cost(item)),
        };
        // Give up the least telling columns first, so that some of the reason stays visible.
        let fits = |layout: &Self| layout.fixed_width() + 12 <= width;
        let mut layout = layout;
        if !fits(&layout) {
            layout.cost = 0;
        }
        if !fits(&layout) {
            layout.attempts = false;
        }
        if !fits(&layout) {
            layout.elapsed = 0;
        }
        layout
    }

    fn fixed_width(&self) -> usize {
        let column = |width: usize| if width == 0 { 0 } else { width + 2 };
        (2 + column(self.id))
            .saturating_add(column(self.status))
            .saturating_add(column(self.elapsed))
            .saturating_add(column(self.cost))
            .saturating_add(if self.attempts { 6 } else { 0 })
    }

    fn line(&self, item: &ItemView, now: i64, style: Style) -> Line {
        let (glyph, role) = style.glyph(&Status::of(&item.status));
        let superseded = item.superseded_by.is_some();
        // What another item stands in for is no news any more.
        let (role, plain) = if superseded { (Role::Dim, Role::Dim) } else { (role, Role::Plain) };
        let mut line: Line = vec![
            (role, format!("{glyph} ")),
            (plain, format!("{}  ", pad(&table::cut(item.id.as_str(), self.id, style.ascii), self.id))),
            (role, format!("{}  ", pad(&one_line(&item.status), self.status))),
        ];
        if self.attempts {
            let attempts =
                if item.attempts.is_empty() { String::new() } else { format!("try {}", item.attempts.len()) };
            line.push((
                if item.attempts.len() > 1 { Role::Warn } else { Role::Dim },
                format!("{}  ", pad(&attempts, 5)),
            ));
        }
        if self.elapsed > 0 {
            line.push((Role::Plain, format!("{}  ", pad(&elapsed(item, now), self.elapsed))));
        }
        if self.cost > 0 {
            line.push((Role::Plain, format!("{}  ", pad(&cost(item), self.cost))));
        }
        let role = if matches!(Status::of(&item.status), Status::Failed) { plain } else { Role::Dim };
        line.push((role, why(item)));
        line
    }
}

/// The reason, with the blockers when it does not name them.
fn why(item: &ItemView) -> String {
    let mut text = one_line(&item.why);
    if text == item.status {
        text.clear();
    }
    if let Some(first) = item.blocked_by.first()
        && !text.contains(first.as_str())
    {
        let shown: Vec<&str> = item.blocked_by.iter().take(3).map(|id| id.as_str()).collect();
        let more = item.blocked_by.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text = format!("{text} (blocked by {}{more})", shown.join(", ")).trim_start().to_owned();
    }
    if item.verify.as_ref().is_some_and(|verify| !verify.passed) {
        text.push_str(if text.is_empty() { "self-verify is red" } else { "; self-verify is red" });
    }
    text
}

/// Since the running attempt was fired, or from the first firing to the last end.
fn elapsed(item: &ItemView, now: i64) -> String {
    let (Some(first), Some(last)) = (item.attempts.first(), item.attempts.last()) else {
        return String::new();
    };
    let span = match last.ended_at {
        Some(end) => end.saturating_sub(first.fired_at),
        None => now.saturating_sub(last.fired_at),
    };
    format::duration(span)
}

fn cost(item: &ItemView) -> String {
    let known: Vec<u64> = item
        .attempts
        .iter()
        .filter_map(|attempt| attempt.usage.as_ref().and_then(|usage| usage.cost_microusd))
        .collect();
    if known.is_empty() { String::new() } else { format::cost(known.iter().sum()) }
}

fn attempt_line(attempt: &AttemptView, now: i64) -> Line {
    let span = attempt.ended_at.unwrap_or(now).saturating_sub(attempt.fired_at);
    let mut line: Line = vec![
        (Role::Dim, format!("    attempt {}  ", attempt.attempt)),
        (Role::Plain, one_line(&attempt.status)),
        (Role::Dim, format!("  {}", format::duration(span))),
    ];
    if let Some(failure) = &attempt.failure {
        let word = |value: serde_json::Result<serde_json::Value>| {
            value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let reason = word(serde_json::to_value(failure.reason));
        let class = word(serde_json::to_value(failure.class));
        line.push((Role::Plain, format!("  {reason} ({class}): {}", one_line(&failure.message))));
    }
    if let Some(at) = attempt.retry_at.filter(|at| *at > now) {
        line.push((Role::Dim, format!("  next not before {}", format::time(at))));
    }
    line
}

#[cfg(test)]
mod tests;
