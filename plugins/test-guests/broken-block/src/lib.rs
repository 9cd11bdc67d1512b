//! A block that counts files, and breaks the rule of the conformance suite that its parameters name:
//! `{"break": "kill"}`. Without, it keeps all of them.

#![allow(unsafe_code, reason = "the generated glue between component and core module")]

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/pangolin-base@1.0.0", "../../../wit/pangolin-block@1.0.0"],
        world: "pangolin:block/block",
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
        block::stage::{Entry, Input, Output},
    },
};
use serde_json::Value;

struct Broken;

fn refused(refusal: Refusal) -> Fault {
    Fault { code: "refused".to_owned(), message: refusal.reason, retryable: false, detail: None }
}

fn list(source: &Input, all: bool) -> Result<Vec<Entry>, Refusal> {
    let mut files = Vec::new();
    loop {
        let offset = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let page = source.list_files("", offset, 1_000)?;
        if page.is_empty() {
            return Ok(files);
        }
        files.extend(page);
        if !all {
            return Ok(files);
        }
    }
}

fn write(out: &Output, text: &str) -> Result<(), Fault> {
    let artifact = out.artifact("summary.txt").map_err(refused)?;
    artifact.write(text.as_bytes()).map_err(refused)?;
    artifact.commit().map_err(refused).map(drop)
}

impl Guest for Broken {
    fn run(source: &Input, out: &Output) -> Result<(), Fault> {
        std::panic::set_hook(Box::new(|info| log::panicked(&info.to_string())));
        let params: Value = serde_json::from_str(&source.params_json()).unwrap_or_default();
        let what = params["break"].as_str().unwrap_or_default();
        let files = match list(source, what != "page-size") {
            Ok(files) => files,
            Err(_) if what == "refusals" => panic!("a refusal that nobody thought of"),
            Err(refusal) => return Err(refused(refusal)),
        };
        let read =
            |path: &str, length: u32| source.read(path, BytesRange { offset: 0, length }).map_err(refused);
        let readme = files.iter().find(|file| file.path == "workspace/README.md");
        let lens = source.attr("lens").unwrap_or_default();
        match what {
            "unknowns" => assert!(matches!(&*lens, "gate" | "verify"), "a lens of a later version"),
            "missing-file" => assert!(readme.is_some(), "a file that must be there"),
            "zero-bytes" => assert!(readme.is_none_or(|file| file.size > 0), "a file with something in it"),
            "no-traps" => assert!(!params["n"].is_boolean(), "parameters that nobody checked"),
            "path-escapes" if files.iter().any(|file| file.path == "changes.json") => {
                let changes = String::from_utf8_lossy(&read("changes.json", 1 << 20)?).into_owned();
                assert!(!changes.contains("../"), "a path that nobody looked at");
            }
            "limits" => {
                let mut kept = Vec::new();
                for file in &files {
                    for _ in 0..file.size >> 20 {
                        kept.push(std::hint::black_box(read(&file.path, 1 << 20)?.repeat(32)));
                    }
                }
            }
            "kill" => write(out, "not all of it")?,
            _ => {}
        }
        let summary = format!("{} files", files.len());
        write(out, &summary)?;
        out.verdict(true, &summary);
        Ok(())
    }
}

bindings::export!(Broken with_types_in bindings);
