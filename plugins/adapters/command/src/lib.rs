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

use pangolin_adapter_sdk::{
    Adapter, Channel, ExitInfo, Fault, LaunchPlan, Line, Lines, Report, TaskView, TextTail, describe_exit,
    refused, was_killed,
};

use crate::{params::Params, template::Values};

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
        let params = Params::parse(task.attr("params").as_deref())?;
        let values = Values::of(task)?;
        let mut argv = Vec::with_capacity(params.argv.len());
        for (index, text) in params.argv.iter().enumerate() {
            let filled = values.fill(text, &format!("/params/argv/{index}"))?;
            if params::is_script(&params.argv, index) && filled.as_ref() != text.as_str() {
                return Err(pangolin_adapter_sdk::fault(
                    "placeholder-in-script",
                    format!(
                        "/params/argv/{index}: a placeholder in a shell script would run its value as code; pass it \
                         as an argument and use \"$1\" in the script"
                    ),
                ));
            }
            argv.push(filled.into_owned());
        }
        plan.program(&argv[0]).map_err(refused)?;
        for argument in &argv[1..] {
            plan.arg(argument);
        }
        for (name, value) in &params.env {
            plan.env(name, value).map_err(refused)?;
        }
        for (name, secret) in &params.env_secrets {
            plan.env_secret(name, secret).map_err(refused)?;
        }
        if let Some(text) = &params.stdin {
            plan.stdin(values.fill(text, "/params/stdin")?.as_bytes());
        }
        Ok(())
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

fn usage_line(line: &Line<'_>, report: &Report) {
    if let Line::Text(text) = line {
        usage::read(text, report);
    }
}

pangolin_adapter_sdk::export_adapter!(Command);
