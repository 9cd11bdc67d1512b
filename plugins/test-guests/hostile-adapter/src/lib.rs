//! An adapter that does what the prompt says, mostly bad things.

use pangolin_adapter_sdk::{Adapter, Channel, ExitInfo, Fault, LaunchPlan, Report, TaskView, log};

struct Hostile(String);

impl Adapter for Hostile {
    fn prepare(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault> {
        match task.prompt().as_str() {
            "spin" => spin(),
            "no-program" => return Ok(()),
            "args" => loop {
                plan.arg("x");
            },
            "long-arg" => plan.arg(&"x".repeat(200_000)),
            "nul" => plan.arg("a\0b"),
            "stdin" => {
                plan.stdin(&[0xff, 0xfe]);
            }
            "log" => log::emit(log::Level::Info, "prepares"),
            _ => {}
        }
        let _ = plan.program("true");
        Ok(())
    }

    fn new(task: &TaskView) -> Self {
        let what = task.prompt();
        if what == "trap-in-constructor" {
            panic!("constructed");
        }
        Self(what)
    }

    fn feed(&mut self, _: Channel, _: &[u8], report: &Report) -> Result<(), Fault> {
        match self.0.as_str() {
            "trap-in-feed" => panic!("fed"),
            "spin-in-feed" => spin(),
            "not-a-number" => report.usage("input", f64::NAN),
            "negative" => report.usage("input", -1.0),
            "events" => {
                for n in 0..100_000 {
                    report.event("flood", &n.to_string());
                }
            }
            _ => report.usage("input", 5.0),
        }
        Ok(())
    }

    fn finish(&mut self, _: ExitInfo, report: &Report) -> Result<(), Fault> {
        report.usage_quality("exact");
        report.outcome("completed", "");
        Ok(())
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if self.0 == "trap-in-destructor" {
            panic!("dropped");
        }
    }
}

fn spin() {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

pangolin_adapter_sdk::export_adapter!(Hostile);
