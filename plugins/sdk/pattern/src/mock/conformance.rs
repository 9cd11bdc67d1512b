//! What every pattern must keep, whatever it decides.

use serde_json::json;

use super::{Call, MockRun, Outcome, Serving};
use crate::Pattern;

/// Most calls of the host in one call over 10,000 items: more is a step that does not fit its budget of fuel and time.
const CALLS_MAX: u64 = 200_000;

/// Pieces of one step, as the host limits them.
const PIECES_MAX: usize = 10_000;

/// Bytes of one step, as the host limits them.
const BYTES_MAX: usize = 4 << 20;

/// Random courses of each plan.
const COURSES: u64 = 24;

/// Steps of a course that are looked at: a pattern that grows for ever shows it before.
const STEPS_MAX: usize = 300;

/// What the suite saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conformance {
    /// Calls of the pattern that were checked.
    pub calls: u64,
    /// Items it added in them.
    pub spawned: u64,
    /// Most calls of the host in a single call over 10,000 items.
    pub most_host_calls: u64,
}

/// Checks a pattern on courses of these plans, and of some that every pattern must survive. Each answer is asked for
/// again: unchanged, under another seed, in pages of 1 and 7, on the run that holds what was added, with states and facts
/// nobody knows, and with every call that can be refused refused once. A large run shows what a step costs.
///
/// # Panics
/// When a rule is broken; the message names it.
#[track_caller]
pub fn check<P: Pattern>(plans: &[MockRun]) -> Conformance {
    let mut seen = Conformance::default();
    let any = [
        MockRun::of_items([]),
        MockRun::of_items([json!({"id": "a"}), json!({"id": "b", "depends_on": ["a"]}), json!({"id": "c"})]),
        MockRun::of_plan(&json!({"openEnded": true, "items": [{"id": "a"}]})),
    ];
    for plan in any.iter().chain(plans) {
        for seed in 0..COURSES {
            course::<P>(plan.clone(), seed, &mut seen);
        }
    }
    large::<P>(plans, &mut seen);
    seen
}

/// A hash of an id and a seed, so that a course does not depend on the order of its items.
fn dice(id: &str, seed: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^ (hash >> 29)
}

fn outcome(id: &str, seed: u64) -> Outcome {
    let dice = dice(id, seed);
    let outcome = match dice % 16 {
        0..=4 => Outcome::done(),
        5..=8 => Outcome::green(),
        9..=12 => Outcome::red(),
        13 => Outcome::failed("of a random course"),
        14 => Outcome::denied("of a random course"),
        _ => Outcome::cancelled(),
    };
    let outputs: &[&str] = match (dice >> 8) % 3 {
        0 => &[],
        1 => &["findings", "result"],
        _ => &["a.csv", "b/c.csv", "result"],
    };
    let outcome = outcome.outputs(outputs.iter().copied());
    if (dice >> 16).is_multiple_of(8) { outcome.no_patch() } else { outcome }
}

type Ask = fn(&MockRun, Serving) -> Call;

#[track_caller]
fn course<P: Pattern>(mut run: MockRun, seed: u64, seen: &mut Conformance) {
    variations(&run, MockRun::ask_plan::<P>, seen);
    let Ok(planned) = run.ask_plan::<P>(Serving::default()).result else { return };
    if !planned.findings.is_empty() {
        return;
    }
    run.take(&planned);
    for step in 0..STEPS_MAX {
        let ready: Vec<String> = run.ready().into_iter().map(str::to_owned).collect();
        let Some(first) = ready.get(dice("which", seed + step as u64) as usize % ready.len().max(1)) else {
            return;
        };
        run.end_item(first, &outcome(first, seed));
        if run.is_closed() {
            continue;
        }
        variations(&run, MockRun::ask_step::<P>, seen);
        let before = run.clone();
        let Ok(record) = run.try_step::<P>().result else { return };
        seen.spawned += record.spawned.len() as u64;
        // The same ends again, now that their consequences are there.
        let mut again = run.clone();
        again.changed.extend(&before.changed);
        if let Ok(repeated) = again.ask_step::<P>(Serving::default()).result {
            for id in repeated.spawned_ids() {
                assert!(!run.index.contains_key(id), "idempotence: {id} is added although the run has it");
            }
        }
    }
    panic!("the pattern did not come to an end in {STEPS_MAX} steps");
}

#[track_caller]
fn variations(run: &MockRun, ask: Ask, seen: &mut Conformance) {
    let plain = ask(run, Serving::default());
    seen.calls += 1;
    let same = |what: &str, serving: Serving| {
        let other = ask(run, serving);
        assert_eq!(plain.result, other.result, "{what} changes the decisions");
    };
    same("asking again", Serving::default());
    same("another seed", Serving { seed: Some(0xdead_beef), ..Serving::default() });
    for page in [1, 7, 1024] {
        same(&format!("serving pages of {page}"), Serving { page, ..Serving::default() });
    }
    // Neither may panic; deciding otherwise is allowed.
    let strange = ask(run, Serving { strange: true, ..Serving::default() });
    if let Err(fault) = strange.result {
        assert!(plain.result.is_err(), "unknown states and facts must be tolerated: {fault}");
    }
    for refuse in 1..=plain.refusable.min(200) {
        let refused = ask(run, Serving { refuse, ..Serving::default() });
        assert!(refused.refusable >= refuse, "the calls of a step must not vary");
    }
    if let Ok(record) = &plain.result {
        let (pieces, bytes) = record.size();
        assert!(
            pieces <= PIECES_MAX && bytes <= BYTES_MAX,
            "{pieces} pieces, {bytes} bytes are too much for a step"
        );
    }
}

/// A run of 10,000 items, the plan's own first.
#[track_caller]
fn large<P: Pattern>(plans: &[MockRun], seen: &mut Conformance) {
    let filler = (0..10_000).map(|number| json!({"id": format!("filler-{number}"), "depends_on": []}));
    let bare = MockRun::of_items(filler.clone());
    let mut runs = vec![bare];
    for plan in plans {
        let own = plan.items.iter().map(|item| serde_json::Value::Object(item.spec.clone()));
        let first = plan.items.first().map_or_else(Vec::new, |item| vec![item.id.clone()]);
        // Not roots, so that a pattern that chains roots has something to look at and nothing to add.
        let behind = filler.clone().map(|mut item| {
            item["depends_on"] = json!(first);
            item
        });
        runs.push(MockRun::of_items(own.chain(behind)));
    }
    for mut run in runs {
        let planned = run.ask_plan::<P>(Serving::default());
        assert!(planned.host_calls <= CALLS_MAX, "planning 10,000 items takes {} calls", planned.host_calls);
        let Ok(record) = planned.result else { continue };
        if !record.findings.is_empty() {
            continue;
        }
        run.take(&record);
        for number in 0..40 {
            let Some(id) = run.ready().first().map(|id| (*id).to_owned()) else { break };
            run.end_item(&id, &outcome(&id, number));
            let call = run.try_step::<P>();
            assert!(call.host_calls <= CALLS_MAX, "a step over 10,000 items takes {} calls", call.host_calls);
            seen.most_host_calls = seen.most_host_calls.max(call.host_calls);
        }
    }
}
