//! A pattern that does what its params say, mostly bad things.

#![cfg(target_family = "wasm")]

use std::collections::HashMap;

use pangolin_pattern_sdk::raw::{Decisions, Fault, ItemSpec, Pattern, RunView, all_items, fault, log};

struct Hostile;

impl Pattern for Hostile {
    fn step(view: &RunView, out: &Decisions) -> Result<(), Fault> {
        let params = view.params_json();
        let (what, argument) = params.split_once(' ').unwrap_or((&params, ""));
        match what {
            "spin" => spin(),
            "memory" => {
                let mut kept: Vec<Vec<u8>> = Vec::new();
                loop {
                    kept.push(std::hint::black_box(vec![1; 1 << 20]));
                }
            }
            "recurse" => out.explain("depth", &recurse(0).to_string()),
            "panic" => panic!("words of the panic"),
            "exit" => std::process::exit(7),
            "abort" => std::process::abort(),
            "fault" => return Err(fault("no-idea", argument)),
            "bulk" => bulk(),
            // Calls the host forever.
            "calls" => {
                let mut found = 0_u64;
                loop {
                    found = std::hint::black_box(found + u64::from(view.find("nobody").is_some()));
                }
            }
            // Hands over the same text again and again; every single one is allowed.
            "give" => {
                let text = "x".repeat(argument.parse().unwrap_or(1));
                loop {
                    std::hint::black_box(view.find(&text));
                }
            }
            "explain" => {
                let text = "x".repeat(argument.parse().unwrap_or(1));
                loop {
                    out.explain("item", &text);
                }
            }
            "drop" => drop(Bomb),
            "words" => {
                for line in argument.split(' ') {
                    log::emit(log::Level::Warn, line);
                }
            }
            "log-then-panic" => {
                log::emit(log::Level::Info, "last words");
                panic!("after the last words");
            }
            "log" => {
                for line in 0..100_000 {
                    log::emit(log::Level::Debug, &format!("line {line}"));
                }
            }
            "specs" => {
                // Never spawned: only handles pile up.
                let kept: Vec<ItemSpec> =
                    (0..100_000).map(|n| ItemSpec::new(&format!("i{n}"), "x")).collect();
                out.explain("kept", &kept.len().to_string());
            }
            "spawn" => {
                for n in 0..argument.parse().unwrap_or(0_u32) {
                    let spec = ItemSpec::new(&format!("item-{n}"), "dispatch");
                    spec.set_input_json("n", &n.to_string());
                    spec.depend_on("first");
                    spec.need_output("from", "first", "a/b.txt");
                    spec.lock("l");
                    out.spawn(spec).map_err(|refusal| fault("refused", refusal.reason))?;
                    out.explain(&format!("item-{n}"), "asked to");
                }
                out.close();
            }
            "refusals" => {
                let bad_json = ItemSpec::new("a", "x");
                bad_json.set_input_json("k", "{");
                let specs = [ItemSpec::new("../up", "x"), ItemSpec::new("a", ""), bad_json];
                for spec in specs {
                    let refusal = out.spawn(spec).expect_err("must be refused");
                    out.explain(&refusal.subject, &refusal.reason);
                }
            }
            // Order of a hash map: depends on the seed that the host pins.
            "order" => {
                let map: HashMap<String, u32> = (0..50).map(|n| (format!("k{n}"), n)).collect();
                let order: Vec<&str> = map.keys().map(String::as_str).collect();
                out.explain("order", &order.join(","));
            }
            "count" => {
                let size = argument.parse().unwrap_or(1);
                let (mut items, mut attempts) = (0_u32, 0_u32);
                for brief in all_items(view, size) {
                    let item = view.item(brief.index).ok_or_else(|| fault("gone", brief.id.clone()))?;
                    if item.id() != brief.id || view.find(&brief.id) != Some(brief.index) {
                        return Err(fault("differs", brief.id));
                    }
                    items += 1;
                    attempts += brief.attempts;
                }
                let changed = view.changed(0, 1_000).len();
                out.explain("items", &format!("{items} {attempts} {changed}"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Fills the largest memory there is, in single instructions, forever.
fn bulk() {
    let mut all: Vec<u8> = Vec::new();
    let mut size = 1 << 16;
    while all.try_reserve_exact(size).is_ok() {
        all.resize(size, 1);
        size += size / 2;
    }
    let mut value = 0_u8;
    loop {
        value = value.wrapping_add(1);
        std::hint::black_box(&mut all).fill(value);
    }
}

fn spin() {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

fn recurse(depth: u64) -> u64 {
    // Small frames: with large ones the guest's own stack in linear memory overflows before the engine's.
    if std::hint::black_box(depth) == u64::MAX { 0 } else { recurse(depth + 1).wrapping_mul(31) + depth }
}

pangolin_pattern_sdk::export_raw_pattern!(Hostile);
