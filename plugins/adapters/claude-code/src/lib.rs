//! Drives Claude Code headless and reads its event stream. Observed with version 2.1.329; the recorded transcripts
//! are in `tests/fixtures/claude/`.
//!
//! `params` (JSON object, attribute `params`), all optional:
//!
//! | Field | Meaning |
//! | --- | --- |
//! | `program` | program to start, default `claude` |
//! | `maxTurns` | turn limit (attribute `max-turns` wins) |
//! | `maxBudgetUsd` | money limit in US dollars (attribute `budget-usd` wins) |
//! | `baseUrl` | `ANTHROPIC_BASE_URL`, e.g. a proxy that holds the key |
//! | `bare` | `true`: small prompt, no settings, hooks, plugins or memory |
//! | `allowedTools` | list of tools that need no permission in `strict` mode |
//! | `maxRetries` | provider retries before it gives up (Claude Code's own default is 10, over 100 s) |
//!
//! Further attributes: `permission` (`bypass`, the default, or `strict`), `session-id` (UUID), `private-home`
//! (default: Claude Code's own place below `HOME`, which the worker makes private to the dispatch), `root`, `key-secret`.
//!
//! What counts: `is_error` and `terminal_reason` of the last `result` event. Its `subtype` is `success` even when the
//! provider failed, and the exit code is 0 even when every tool was refused. Without a `result` event (killed) the
//! usage is the sum over the messages seen and is called partial.

mod event;
mod launch;
mod session;

use pangolin_adapter_sdk::{
    Adapter, Channel, ExitInfo, Fault, LaunchPlan, Line, Lines, Report, TaskView, TextTail,
};

use crate::session::Session;

/// Longest event that is understood. A tool result may hold a whole file.
const LINE_BYTES: usize = 6 << 20;

/// How much of standard error goes into the message.
const TAIL_BYTES: usize = 1_000;

struct ClaudeCode {
    lines: Lines,
    errors: TextTail,
    session: Session,
}

impl Adapter for ClaudeCode {
    fn prepare(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault> {
        launch::plan(task, plan)
    }

    fn new(_: &TaskView) -> Self {
        Self { lines: Lines::new(LINE_BYTES), errors: TextTail::new(TAIL_BYTES), session: Session::default() }
    }

    fn feed(&mut self, source: Channel, data: &[u8], report: &Report) -> Result<(), Fault> {
        let session = &mut self.session;
        match source {
            Channel::Out => self.lines.feed(data, |line| take(session, &line, report)),
            Channel::Err => self.errors.feed(data),
        }
        Ok(())
    }

    fn finish(&mut self, exit: ExitInfo, report: &Report) -> Result<(), Fault> {
        let session = &mut self.session;
        self.lines.finish(|line| take(session, &line, report));
        self.session.finish(&exit, &self.errors.text(), report);
        Ok(())
    }
}

fn take(session: &mut Session, line: &Line<'_>, report: &Report) {
    match line {
        Line::Text(text) if text.trim().is_empty() => {}
        Line::Text(text) => session.line(text, report),
        Line::TooLong => session.not_understood(),
    }
}

pangolin_adapter_sdk::export_adapter!(ClaudeCode);
