//! Bundles that somebody changed, cut short or took from a run that goes on.

use std::collections::BTreeSet;

use pangolin_e2e::world::World;
use serde_json::{Value, json};

use crate::support::{self, hold, release};

/// Two items, a failed attempt and a handed-on patch: every kind of region is there.
fn finished() -> (World, Vec<u8>) {
    let world = support::world();
    world.agent("edit", "echo new > new.txt; mkdir -p outputs; echo out > outputs/out.txt");
    world.agent("broken", "exit 3");
    let _daemon = world.serve();
    world.submit("full-1", &[("a", "edit", &[]), ("b", "edit", &["a"]), ("c", "broken", &[])]);
    let _ = world.finish("full-1");
    let bundle = world.intact_bundle("full-1");
    (world, bundle)
}

fn verify(world: &World, bytes: &[u8], more: &[&str]) -> (Option<i32>, Value) {
    world.write("changed.json", bytes);
    let mut arguments = vec!["verify", "changed.json", "--json"];
    arguments.extend(more);
    let output = world.run(&arguments);
    (output.code, output.json())
}

/// A byte inside every value of the JSON document, named by its pointer; array elements and map entries are counted
/// as one region each, so the middle of each is hit and so is its key.
fn regions(text: &str) -> Vec<(String, usize)> {
    let document: Value = serde_json::from_str(text).expect("bundle");
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = 0;
    walk(&document, "", &mut at, &mut found);
    found.retain(|(_, position)| seen.insert(*position));
    found
}

/// Canonical JSON has no white space, so every part can be found by writing it again. Members stay in order.
fn walk(value: &Value, pointer: &str, at: &mut usize, found: &mut Vec<(String, usize)>) {
    match value {
        Value::Object(members) => {
            *at += 1;
            for (name, member) in members {
                let key = serde_json::to_string(name).expect("key");
                found.push((format!("{pointer}/{name} (name)"), *at + key.len() / 2));
                *at += key.len() + 1;
                walk(member, &format!("{pointer}/{name}"), at, found);
                *at += 1;
            }
            *at += usize::from(members.is_empty());
        }
        Value::Array(elements) => {
            *at += 1;
            for (index, element) in elements.iter().enumerate() {
                walk(element, &format!("{pointer}/{index}"), at, found);
                *at += 1;
            }
            *at += usize::from(elements.is_empty());
        }
        scalar => {
            let length = serde_json::to_string(scalar).expect("scalar").len();
            found.push((pointer.to_owned(), *at + length / 2));
            *at += length;
        }
    }
}

#[test]
fn one_changed_byte_in_any_region_is_found_and_named() {
    let (world, good) = finished();
    let text = String::from_utf8(good.clone()).expect("text");
    let regions = regions(&text);
    // The walk is right: the places it names hold what it says.
    let schema = regions.iter().find(|(name, _)| name == "/schemaVersion").expect("schemaVersion").1;
    assert!(matches!(text.as_bytes()[schema], b'1' | b'2'));
    for part in [
        "/anchor/",
        "/checkpoint",
        "/digest",
        "/entries/0/",
        "/key",
        "/log/admit/",
        "/log/seal/",
        "/objects/",
        "/run",
    ] {
        assert!(regions.iter().any(|(name, _)| name.starts_with(part)), "{part} in {regions:#?}");
    }
    // Names and values of every member; of the many entries and objects, a bounded selection.
    let step = (regions.len() / 250).max(1);
    let chosen = regions.iter().enumerate().filter(|(index, (name, _))| {
        index % step == 0 || !(name.starts_with("/entries/") || name.starts_with("/objects/"))
    });
    for (_, (name, position)) in chosen {
        let mut bad = good.clone();
        bad[*position] ^= 1;
        let (code, report) = verify(&world, &bad, &[]);
        assert_eq!(code, Some(1), "{name}, byte {position}: {report:#}");
        assert!(
            report["failure"]["place"].as_str().is_some_and(|place| !place.is_empty()),
            "{name}: {report:#}"
        );
    }
}

#[test]
fn a_changed_entry_and_a_changed_object_are_named() {
    let (world, good) = finished();
    let text = String::from_utf8(good.clone()).expect("text");
    let document: Value = serde_json::from_str(&text).expect("bundle");
    let at = text.find("\"kind\":\"item.fired\"").or_else(|| text.find("item.fired")).expect("an entry");
    let fired = document["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .position(|entry| entry.to_string().contains("item.fired"));
    // Another digest, well-formed: only the chain can tell.
    let mark = "\"manifest\":\"sha256:";
    let digit = at + text[at..].find(mark).expect("a manifest") + mark.len();
    let mut bad = good.clone();
    bad[digit] = if bad[digit] == b'0' { b'1' } else { b'0' };
    let (code, report) = verify(&world, &bad, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    let place = report["failure"]["place"].as_str().expect("place");
    let number = fired.expect("fired").to_string();
    assert!(place.contains(&number) || place.contains("byte"), "{place} names entry {number}");

    let (digest, encoded) =
        document["objects"].as_object().expect("objects").iter().next().expect("an object");
    let encoded = encoded.as_str().expect("base64");
    let start = text.find(encoded).expect("object");
    let mut bad = good.clone();
    // Another letter of the alphabet, so that it still is base64.
    bad[start] = if bad[start] == b'A' { b'B' } else { b'A' };
    let (code, report) = verify(&world, &bad, &[]);
    assert_eq!(code, Some(1));
    assert!(report.to_string().contains(digest), "{report:#}");
}

#[test]
fn cut_short_or_lengthened_is_not_intact() {
    let (world, good) = finished();
    let cuts = [0, 1, good.len() / 4, good.len() / 2, good.len() - 2, good.len() - 1];
    for cut in cuts {
        let (code, report) = verify(&world, &good[..cut], &[]);
        assert_eq!(code, Some(1), "{cut} bytes: {report:#}");
        assert!(
            report["failure"]["place"].as_str().is_some_and(|place| place.contains("byte")),
            "{report:#}"
        );
    }
    for more in [&b"\n"[..], b" ", b"{}", b"\0"] {
        let (code, report) = verify(&world, &[&good[..], more].concat(), &[]);
        assert_eq!(code, Some(1), "{report:#}");
    }
}

#[test]
fn another_key_does_not_verify_and_the_right_one_does() {
    let (world, good) = finished();
    let own = std::fs::read_to_string(world.path().join(".pangolin/keys/deployment.vkey")).expect("vkey");
    let (code, report) = verify(&world, &good, &["--key", own.trim()]);
    assert_eq!(code, Some(0), "{report:#}");
    // Same name, another key.
    let stranger = support::world();
    let other =
        std::fs::read_to_string(stranger.path().join(".pangolin/keys/deployment.vkey")).expect("vkey");
    assert_ne!(own, other);
    let (code, report) = verify(&world, &good, &["--key", other.trim()]);
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["failure"]["check"], "signature", "{report:#}");
}

#[test]
fn a_run_that_has_not_ended_is_incomplete() {
    let world = support::world();
    world.agent("slow", &hold(&world, "go"));
    let _daemon = world.serve();
    let plan = world.plan("open-1", &[("a", "slow", &[])], &json!({ "executor": "open" }));
    world.run(&["orch", "submit", &plan]).ok();
    world.watch("open-1").until_item("a", "running");
    let audit = world.run(&["orch", "audit", "open-1", "--out", "open.json"]).code(4);
    assert!(audit.text().contains("INCOMPLETE"), "{}", audit.text());
    let report = world.run(&["verify", "open.json", "--json"]).code(4).json();
    assert_eq!(report["intact"], false, "{report:#}");
    release(&world, "go");
    let _ = world.finish("open-1");
    let _ = world.intact_bundle("open-1");
}
