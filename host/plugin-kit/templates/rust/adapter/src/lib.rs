//! Adapter {{id}}: drives an agent command that takes its task on standard input and prints JSON lines.
//!
//! An adapter starts nothing. `prepare` describes the process, the worker starts it, `feed` and `finish` read what it
//! printed.

use pangolin_adapter_sdk::{
    Adapter, Channel, ExitInfo, Fault, LaunchPlan, Line, Lines, Report, TaskView, TextTail, describe_exit, fault,
    refused, was_killed,
};
use serde_json::Value;

// TODO({{name}}): the program and the arguments of your agent.
const PROGRAM: &str = "fake-agent";
const ARGS: [&str; 2] = ["--output", "jsonl"];

/// Longest line that is looked at, in bytes.
const LINE_BYTES: usize = 1 << 20;

/// Bytes of standard error in a message.
const TAIL_BYTES: usize = 1_000;

struct Mine {
    lines: Lines,
    errors: TextTail,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    usage: bool,
    error: Option<String>,
}

/// The subagent's `params`: program and arguments can be replaced there.
fn params(task: &TaskView) -> Result<(String, Vec<String>), Fault> {
    let bad = |problem: String| fault("bad-params", problem);
    let json = task.attr("params").unwrap_or_default();
    let json = if json.is_empty() { "{}" } else { &json };
    let value: Value = serde_json::from_str(json).map_err(|error| bad(format!("/params: not JSON ({error})")))?;
    let program = match value.get("program") {
        None => PROGRAM.to_owned(),
        Some(Value::String(program)) => program.clone(),
        Some(_) => return Err(bad("/params/program: must be a string".into())),
    };
    let args = match value.get("args") {
        None => Some(ARGS.map(str::to_owned).to_vec()),
        Some(Value::Array(args)) => args.iter().map(|arg| arg.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    let args = args.ok_or_else(|| bad("/params/args: must be a list of strings".into()))?;
    Ok((program, args))
}

// TODO({{name}}): the lines that your agent prints. A line that you do not know is no error.
fn understand(line: &str, report: &Report, seen: &mut Seen) {
    if !line.starts_with('{') {
        return;
    }
    let Ok(event) = serde_json::from_str::<Value>(line) else { return };
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    match text("type") {
        Some("session") => {
            if let Some(id) = text("id") {
                report.session_id(id);
            }
        }
        Some("usage") => {
            for key in ["input", "output", "turns", "cost_usd"] {
                // What the host takes as a counter.
                let largest = if key == "cost_usd" { 1e9 } else { 9e15 };
                let amount = event.get(key).and_then(Value::as_f64);
                if let Some(amount) = amount.filter(|amount| (0.0..=largest).contains(amount)) {
                    report.usage(key, amount);
                }
            }
            if let Some(model) = text("model") {
                report.model_used(model);
            }
            seen.usage = true;
        }
        Some("text") => {
            if let Some(chunk) = text("text") {
                report.text(chunk);
            }
        }
        Some("error") => seen.error = Some(text("message").unwrap_or("no message").to_owned()),
        _ => {}
    }
}

impl Adapter for Mine {
    fn prepare(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault> {
        let (program, args) = params(task)?;
        plan.program(&program).map_err(refused)?;
        for arg in &args {
            plan.arg(arg);
        }
        if let Some(model) = task.model() {
            plan.arg("--model");
            plan.arg(&model);
        }
        plan.stdin(task.prompt().as_bytes());
        Ok(())
    }

    fn new(_: &TaskView) -> Self {
        Self { lines: Lines::new(LINE_BYTES), errors: TextTail::new(TAIL_BYTES), seen: Seen::default() }
    }

    fn feed(&mut self, source: Channel, data: &[u8], report: &Report) -> Result<(), Fault> {
        let Self { lines, errors, seen } = self;
        match source {
            Channel::Out => lines.feed(data, |line| read_line(&line, report, seen)),
            Channel::Err => errors.feed(data),
        }
        Ok(())
    }

    fn finish(&mut self, exit: ExitInfo, report: &Report) -> Result<(), Fault> {
        let Self { lines, errors, seen } = self;
        lines.finish(|line| read_line(&line, report, seen));
        if seen.usage {
            report.usage_quality("exact");
        }
        if was_killed(&exit) {
            report.outcome("killed", &describe_exit(&exit));
        } else if let Some(error) = &seen.error {
            report.outcome("agent-failed", error);
        } else if exit.code == Some(0) {
            report.outcome("completed", "");
        } else {
            report.outcome("agent-failed", &format!("{}: {}", describe_exit(&exit), errors.text()));
        }
        Ok(())
    }
}

fn read_line(line: &Line<'_>, report: &Report, seen: &mut Seen) {
    if let Line::Text(text) = line {
        understand(text, report, seen);
    }
}

pangolin_adapter_sdk::export_adapter!(Mine);
