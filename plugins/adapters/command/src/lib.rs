//! Runs any command as the agent.
//!
//! `params` (JSON object, attribute `params`):
//!
//! | Field | Meaning |
//! | --- | --- |
//! | `argv` | program and arguments, at least one; started as they are, no shell in between |
//! | `stdin` | text for standard input; none when absent |
//! | `env` | further plain variables |
//! | `envSecrets` | variable name to secret name |
//!
//! In `argv` and `stdin`, `{{prompt}}`, `{{system_prompt}}`, `{{model}}`, `{{workspace}}` and `{{input.<field>}}`
//! (dots go deeper) are replaced. A replaced text stays inside its argument. Other text in braces is left alone.
//! A placeholder in the script of `sh -c` is refused, because there its value would be run as code; pass it as an
//! argument of the script: `["sh", "-c", "fix \"$1\"", "sh", "{{input.file}}"]`.
//!
//! The transcript is not interpreted, with one exception: a line of standard output that is a JSON object with
//! `"pangolin": "usage"` reports usage. Its numbers (`input`, `cached_read`, `cache_write`, `output`, `reasoning`,
//! `turns`, `cost_usd`) replace earlier ones, `model` and `session` are texts, and `quality` is `exact`, `partial` or
//! `estimated` (the default: it is the command's own claim).

mod params;
mod template;
mod usage;

use std::borrow::Cow;

use pangolin_adapter_sdk::{
    Adapter, Channel, ExitInfo, Fault, LaunchPlan, Line, Lines, Problems, Refusal, Report, TaskView,
    TextTail, describe_exit, pointer_part, was_killed,
};

use crate::{
    params::Params,
    template::{Values, has_placeholder},
};

/// A usage line is short; longer lines are none.
const LINE_BYTES: usize = 64 << 10;

/// How much of standard error goes into the message.
const TAIL_BYTES: usize = 1_000;

struct Command {
    lines: Lines,
    errors: TextTail,
}

impl Adapter for Command {
    fn prepare(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault> {
        let mut problems = Problems::default();
        let params = Params::read(task.attr("params").as_deref(), &mut problems);
        let only_scripts = problems.is_empty();
        params.check_scripts(&mut problems);
        let code = match (problems.is_empty(), only_scripts) {
            (true, _) => "missing-input",
            (false, true) => "placeholder-in-script",
            (false, false) => "bad-params",
        };
        let values = Values::of(task)?;
        let argv: Vec<_> = (0..)
            .zip(&params.argv)
            .map(|(index, text)| values.fill(text, &format!("/params/argv/{index}"), &mut problems))
            .collect();
        let stdin = params.stdin.as_deref().map(|text| values.fill(text, "/params/stdin", &mut problems));
        problems.finish(code)?;
        describe(&params, &argv, stdin.as_deref(), plan)
    }

    fn new(_: &TaskView) -> Self {
        Self { lines: Lines::new(LINE_BYTES), errors: TextTail::new(TAIL_BYTES) }
    }

    fn feed(&mut self, source: Channel, data: &[u8], report: &Report) -> Result<(), Fault> {
        match source {
            Channel::Out => self.lines.feed(data, |line| usage_line(&line, report)),
            Channel::Err => self.errors.feed(data),
        }
        Ok(())
    }

    fn finish(&mut self, exit: ExitInfo, report: &Report) -> Result<(), Fault> {
        self.lines.finish(|line| usage_line(&line, report));
        let how = describe_exit(&exit);
        if was_killed(&exit) {
            report.outcome("killed", &how);
        } else if exit.code == Some(0) {
            report.outcome("completed", "");
        } else {
            let errors = self.errors.text();
            let message = if errors.is_empty() { how } else { format!("{how}: {errors}") };
            report.outcome("agent-failed", &message);
        }
        Ok(())
    }
}

/// Everything that the host refuses, at once.
fn describe(
    params: &Params,
    argv: &[Cow<'_, str>],
    stdin: Option<&str>,
    plan: &LaunchPlan,
) -> Result<(), Fault> {
    let mut problems = Problems::default();
    let mut note = |pointer: String, answer: Result<(), Refusal>| {
        if let Err(Refusal { capability, subject, reason }) = answer {
            problems.add(pointer, format!("{capability} {subject:?}: {reason}"));
        }
    };
    let mut arguments = argv.iter();
    if let (Some(program), Some(text)) = (arguments.next(), params.argv.first()) {
        // What was put in is not the parameters' fault.
        let pointer = if has_placeholder(text) { String::new() } else { "/params/argv/0".to_owned() };
        note(pointer, plan.program(program));
    }
    for argument in arguments {
        plan.arg(argument);
    }
    for (name, value) in &params.env {
        note(format!("/params/env/{}", pointer_part(name)), plan.env(name, value));
    }
    for (name, secret) in &params.env_secrets {
        // Which secrets there are is a matter of the item.
        note(String::new(), plan.env_secret(name, secret));
    }
    if let Some(text) = stdin {
        plan.stdin(text.as_bytes());
    }
    problems.finish("refused")
}

fn usage_line(line: &Line<'_>, report: &Report) {
    if let Line::Text(text) = line {
        usage::read(text, report);
    }
}

pangolin_adapter_sdk::export_adapter!(Command);
