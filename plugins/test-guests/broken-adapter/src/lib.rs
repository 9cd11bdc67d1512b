//! An adapter that counts lines, and breaks the rule of the conformance suite that its parameters name:
//! `{"break": "chunks"}`. Without, it keeps all of them.

use pangolin_adapter_sdk::{Adapter, Channel, ExitInfo, Fault, LaunchPlan, Report, TaskView, refused};
use serde_json::Value;

struct Broken {
    what: String,
    line: Vec<u8>,
    kept: Vec<Vec<u8>>,
    lines: u32,
}

fn params(task: &TaskView) -> Value {
    task.attr("params").and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

fn broken(params: &Value) -> String {
    params["break"].as_str().unwrap_or_default().to_owned()
}

impl Adapter for Broken {
    fn prepare(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault> {
        let params = params(task);
        let what = broken(&params);
        match plan.program("agent") {
            Ok(()) => {}
            Err(_) if what == "refusals" => panic!("a refusal that nobody thought of"),
            Err(refusal) => return Err(refused(refusal)),
        }
        match &*what {
            "secrets" => plan.arg(&format!("--secrets={}", task.secret_names().join(","))),
            "path-escapes" => {
                let input: Value = serde_json::from_str(&task.input_json()).unwrap_or_default();
                if let Some(path) = input["path"].as_str() {
                    plan.file(path, b"").expect("a path that nobody looked at");
                }
            }
            "no-traps" => assert!(!params["n"].is_boolean(), "parameters that nobody checked"),
            _ => {}
        }
        plan.stdin(task.prompt().as_bytes());
        Ok(())
    }

    fn new(task: &TaskView) -> Self {
        Self { what: broken(&params(task)), line: Vec::new(), kept: Vec::new(), lines: 0 }
    }

    fn feed(&mut self, source: Channel, data: &[u8], report: &Report) -> Result<(), Fault> {
        if source == Channel::Err {
            return Ok(());
        }
        if self.what == "limits" {
            self.kept.push(data.repeat(64));
        }
        for byte in data {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.end(&line);
            } else if self.what != "limits" || self.line.len() < 1 << 16 {
                self.line.push(*byte);
            }
        }
        if self.what == "chunks" {
            // What is left is no whole line.
            let line = std::mem::take(&mut self.line);
            self.end(&line);
        }
        report.usage("turns", f64::from(self.lines));
        Ok(())
    }

    fn finish(&mut self, _: ExitInfo, report: &Report) -> Result<(), Fault> {
        let line = std::mem::take(&mut self.line);
        self.end(&line);
        report.usage("turns", f64::from(self.lines));
        report.usage_quality("exact");
        report.outcome("completed", "");
        Ok(())
    }
}

impl Broken {
    fn end(&mut self, line: &[u8]) {
        if self.what == "damage" {
            let _ = std::str::from_utf8(line).expect("a line that nobody checked");
        }
        let text = String::from_utf8_lossy(line);
        let known = !text.contains("x-unknown-event");
        if !line.is_empty() && (known || self.what == "unknowns") {
            self.lines += 1;
        }
    }
}

pangolin_adapter_sdk::export_adapter!(Broken);
