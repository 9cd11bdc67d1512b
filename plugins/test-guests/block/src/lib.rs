//! A block that does what its params say, good and bad things.
//!
//! Params: `{"steps": [["read", "workspace/a.txt"], …], "verdict": true}`. What each step answered becomes one entry of
//! the evidence `steps`, written after every step, so that it is there whatever comes next.

#![allow(unsafe_code, reason = "the generated glue between component and core module")]

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/pangolin-base@1.0.0", "../../../wit/pangolin-block@1.0.0"],
        world: "pangolin:block/block-full",
        generate_all,
    });
}

use bindings::{
    exports::pangolin::block::run::Guest,
    pangolin::{
        base::{
            log,
            types::{BytesRange, Fault, Refusal},
        },
        block::{
            exec::Command,
            fetch::Request,
            stage::{Input, Output},
        },
    },
};
use serde_json::{Map, Value, json};

struct Scripted;

impl Guest for Scripted {
    fn run(source: &Input, out: &Output) -> Result<(), Fault> {
        std::panic::set_hook(Box::new(|info| log::panicked(&info.to_string())));
        let params: Value = serde_json::from_str(&source.params_json()).expect("params are JSON");
        let mut answers = Vec::new();
        for step in params["steps"].as_array().into_iter().flatten() {
            answers.push(act(step, source, out)?);
            out.evidence("steps", &json!(answers).to_string());
        }
        if let Some(passed) = params["verdict"].as_bool() {
            out.verdict(passed, params["summary"].as_str().unwrap_or("as told"));
        }
        Ok(())
    }
}

fn refused(refusal: Refusal) -> Value {
    json!({"refused": {"capability": refusal.capability, "subject": refusal.subject, "reason": refusal.reason}})
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let map: Map<String, Value> = value.as_object().cloned().unwrap_or_default();
    map.into_iter().map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned())).collect()
}

fn act(step: &Value, source: &Input, out: &Output) -> Result<Value, Fault> {
    let word = |index: usize| step[index].as_str().unwrap_or_default();
    Ok(match word(0) {
        "list" => match source.list_files(word(1), 0, 10_000) {
            Ok(page) => page.into_iter().map(|entry| Value::from(entry.path)).collect(),
            Err(refusal) => refused(refusal),
        },
        "digests" => match source.list_files(word(1), 0, 10_000) {
            Ok(page) => page.into_iter().map(|entry| json!([entry.path, entry.size, entry.digest])).collect(),
            Err(refusal) => refused(refusal),
        },
        "read" => {
            let range = BytesRange {
                offset: step[2].as_u64().unwrap_or(0),
                length: u32::try_from(step[3].as_u64().unwrap_or(1 << 16)).unwrap_or(u32::MAX),
            };
            match source.read(word(1), range) {
                Ok(bytes) => text(&bytes),
                Err(refusal) => refused(refusal),
            }
        }
        // Copies a file into an artifact, in small pieces.
        "copy" => {
            let bytes = match source.read(word(1), BytesRange { offset: 0, length: 1 << 16 }) {
                Ok(bytes) => bytes,
                Err(refusal) => return Ok(refused(refusal)),
            };
            let written = out.artifact(word(2)).and_then(|writer| {
                bytes.chunks(4).try_for_each(|piece| writer.write(piece))?;
                writer.commit()
            });
            written.map_or_else(refused, Value::from)
        }
        // Says what is in a file wherever a block can say something.
        "tell" => {
            let told = match source.read(word(1), BytesRange { offset: 0, length: 1 << 16 }) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(refusal) => return Ok(refused(refusal)),
            };
            out.evidence(&told, &json!([format!("in {told}")]).to_string());
            log::emit(log::Level::Info, &told);
            out.verdict(true, &told);
            match out.artifact(&format!("reports/{told}.txt")) {
                Ok(_) => told.into(),
                Err(refusal) => refused(refusal),
            }
        }
        "position" => source.position().into(),
        "earlier" => source
            .earlier_json(word(1))
            .map_or(Value::Null, |json| serde_json::from_str(&json).expect("a record is JSON")),
        "attr" => source.attr(word(1)).into(),
        "artifact" => match out.artifact(word(1)) {
            Ok(writer) => {
                for chunk in word(2).as_bytes().chunks(4) {
                    if let Err(refusal) = writer.write(chunk) {
                        return Ok(refused(refusal));
                    }
                }
                match word(3) {
                    "open" => {
                        // Stays open while the block goes on; nobody may see it.
                        std::mem::forget(writer);
                        "open".into()
                    }
                    _ => writer.commit().map_or_else(refused, Value::from),
                }
            }
            Err(refusal) => refused(refusal),
        },
        "artifact-flood" => {
            let size = usize::try_from(step[1].as_u64().unwrap_or(0)).unwrap_or(0);
            let block = vec![7_u8; 1 << 20];
            match out.artifact("reports/flood") {
                Ok(writer) => {
                    let mut written = 0;
                    while written < size {
                        if let Err(refusal) = writer.write(&block) {
                            let after = writer.commit().map_or_else(refused, Value::from);
                            return Ok(
                                json!({"written": written, "then": refused(refusal), "commit": after}),
                            );
                        }
                        written += block.len();
                    }
                    writer.commit().map_or_else(refused, Value::from)
                }
                Err(refusal) => refused(refusal),
            }
        }
        "exec" => {
            let command = Command::new(word(1));
            for arg in step[2].as_array().into_iter().flatten() {
                command.arg(arg.as_str().unwrap_or_default());
            }
            for (key, value) in pairs(&step[3]) {
                command.env(&key, &value);
            }
            for (key, secret) in pairs(&step[4]) {
                command.env_secret(&key, &secret);
            }
            match command.run(u32::try_from(step[5].as_u64().unwrap_or(30_000)).unwrap_or(u32::MAX)) {
                Ok(outcome) => json!({
                    "exit": outcome.exit_code,
                    "timedOut": outcome.timed_out,
                    "stdout": text(&outcome.stdout),
                    "stderr": text(&outcome.stderr),
                    "truncated": outcome.truncated,
                }),
                Err(refusal) => refused(refusal),
            }
        }
        "fetch" => {
            let request = Request::new(word(1), word(2));
            for (name, value) in pairs(&step[3]) {
                request.header(&name, &value);
            }
            for (name, secret) in pairs(&step[4]) {
                request.header_secret(&name, &secret);
            }
            request.body(word(5).as_bytes());
            match request.send(20_000) {
                Ok(response) => {
                    let mut body = Vec::new();
                    loop {
                        match response.read(16) {
                            Ok(piece) if piece.is_empty() => break,
                            Ok(piece) => body.extend(piece),
                            Err(refusal) => return Ok(refused(refusal)),
                        }
                    }
                    json!({"status": response.status(), "body": text(&body), "echo": response.header("X-Echo")})
                }
                Err(refusal) => refused(refusal),
            }
        }
        "evidence" => {
            out.evidence(word(1), word(2));
            Value::Null
        }
        "evidence-flood" => {
            let large = Value::from("x".repeat(100 << 10)).to_string();
            for number in 0..1_000 {
                out.evidence(&format!("flood-{number}"), &large);
            }
            Value::Null
        }
        "log" => {
            for number in 0..step[1].as_u64().unwrap_or(0) {
                log::emit(log::Level::Info, &format!("{} {number}", word(2)));
            }
            Value::Null
        }
        "verdict" => {
            out.verdict(step[1].as_bool().unwrap_or(false), word(2));
            Value::Null
        }
        "spin" => loop {
            std::hint::black_box(0);
        },
        "memory" => {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            loop {
                kept.push(std::hint::black_box(vec![1; 1 << 20]));
            }
        }
        "panic" => panic!("{}", word(1)),
        "trap" => std::process::abort(),
        "exit" => std::process::exit(7),
        "fault" => {
            return Err(Fault {
                code: word(1).to_owned(),
                message: word(2).to_owned(),
                retryable: false,
                detail: None,
            });
        }
        other => json!({"unknown": other}),
    })
}

bindings::export!(Scripted with_types_in bindings);
