//! `pangolin-count-calls engine|stack name=number …`: what a run asks of AWS, as lines of JSON. `cargo xtask bench calls` has the
//! loads of the documentation.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::{collections::BTreeMap, error::Error, process::ExitCode};

use pangolin_aws_e2e::count::{self, Shape};
use serde_json::Value;

const USAGE: &str = "usage: pangolin-count-calls engine [items=100] [layered=0|1] [concurrency=20] [ends=1] [engines=1] [cold=0]\n\
                     \x20      pangolin-count-calls stack [runs=1] [items=20] [layered=0|1] [concurrency=20]";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(lines) => {
            for line in lines {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("pangolin-count-calls: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<Vec<Value>, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let known: &[(&str, usize)] = match what.as_str() {
        "engine" => {
            &[("items", 100), ("layered", 0), ("concurrency", 20), ("ends", 1), ("engines", 1), ("cold", 0)]
        }
        "stack" => &[("runs", 1), ("items", 20), ("layered", 0), ("concurrency", 20)],
        _ => return Err(USAGE.into()),
    };
    let mut given: BTreeMap<&str, usize> = known.iter().copied().collect();
    for arg in args {
        let (name, value) = arg.split_once('=').ok_or(USAGE)?;
        let place = known.iter().find(|(known, _)| *known == name).ok_or(USAGE)?;
        given.insert(place.0, value.parse().map_err(|_| USAGE)?);
    }
    let value = |name: &str| given.get(name).copied().unwrap_or_default();
    let shape = if value("layered") == 0 { Shape::Flat } else { Shape::Layered };
    if what == "engine" {
        return count::engine(count::Load {
            items: value("items"),
            shape,
            concurrency: value("concurrency"),
            ends: value("ends"),
            engines: value("engines"),
            cold: value("cold"),
        })
        .await;
    }
    let exe = std::env::current_exe()?;
    let programs = exe.parent().ok_or("this program has no directory")?;
    count::stack(programs, value("runs"), value("items"), shape, value("concurrency")).await
}
