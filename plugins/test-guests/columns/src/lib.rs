//! Compares what the host says of many items at once with what it says of each; passes texts that are none, or uses the
//! memory of C, when its parameters say so.

#![cfg(target_family = "wasm")]

use pangolin_pattern_sdk::{
    Decisions, Fault, GuestDecide, GuestPlanner, Pattern, Run, Texts, WitDecisions, WitFault, WitRunView,
    bindings::pangolin::pattern::graph::{ItemSpec, TextsParam},
    fault, run_step,
};

/// Says what differs, and how much there is.
struct Compare;

impl Pattern for Compare {
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let briefs: Vec<_> = run.items().collect();
        let mut outputs = 0;
        for first in [0, 1, run.len() / 2, run.len(), run.len() + 1] {
            let details = run.details_from(first);
            let (executors, inputs) = (run.executors_from(first), run.inputs_json_from("note", first));
            let facts = run.item_attrs_from("has-patch", first);
            let rest = briefs.get(first as usize..).unwrap_or_default();
            let lengths = [details.len(), executors.len(), inputs.len(), facts.len()];
            if lengths.iter().any(|length| *length != rest.len()) {
                return Err(fault("differs", format!("columns from {first}: {lengths:?}")));
            }
            for (place, (brief, detail)) in rest.iter().zip(details.iter()).enumerate() {
                let item = run.expect(brief.index)?;
                let is_same = detail.index() == brief.index
                    && detail.id() == brief.id
                    && detail.id() == item.id()
                    && detail.phase() == brief.phase
                    && detail.attempts() == brief.attempts
                    && detail.state() == item.state()
                    && detail.depends_on() == item.depends_on()
                    && detail.verify_passed() == item.verify_passed()
                    && detail.output_keys().eq(item.output_keys().iter())
                    && detail.failure_reason() == item.attr("failure-reason").as_deref()
                    && detail.failure_message() == item.attr("failure-message").as_deref()
                    && executors.get(place) == Some(item.executor().as_str())
                    && inputs.first(place) == item.input_json("note").as_deref()
                    && facts.first(place) == item.attr("has-patch").as_deref();
                if !is_same {
                    return Err(fault("differs", format!("{} from {first}", brief.id)));
                }
                outputs += detail.outputs();
            }
        }
        let mut ids: Texts = briefs.iter().rev().map(|brief| &brief.id).collect();
        ids.push("nobody");
        ids.push("");
        let one_by_one: Vec<Option<u32>> = ids.iter().map(|id| run.find(id)).collect();
        if run.find_all(&ids) != one_by_one || !run.find_all(&Texts::default()).is_empty() {
            return Err(fault("differs", "find-all"));
        }
        out.explain("seen", &format!("{} items, {outputs} outputs", briefs.len()));
        Ok(())
    }
}

/// Texts as they must not be, and as they may.
fn pass(what: &str, view: &WitRunView) {
    let find = |bytes: &[u8], ends: &[u32]| {
        view.find_all(TextsParam { bytes, ends });
    };
    match what {
        "not-utf8" => find(b"a\xff", &[2]),
        "behind" => find(b"ab", &[1, 3]),
        "back" => find(b"abc", &[2, 1, 3]),
        "inside" => find("ä".as_bytes(), &[1, 2]),
        "left-over" => find(b"ab", &[1]),
        "without-ends" => find(b"ab", &[]),
        "unequal" => {
            let (keys, none) =
                (TextsParam { bytes: b"ab", ends: &[1, 2] }, TextsParam { bytes: b"", ends: &[0] });
            ItemSpec::new("sum", "dispatch").need_outputs("result", keys, none);
        }
        _ => {}
    }
}

#[expect(unsafe_code, reason = "C")]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut u8;
    fn calloc(count: usize, size: usize) -> *mut u8;
    fn realloc(block: *mut u8, size: usize) -> *mut u8;
    fn posix_memalign(out: *mut *mut u8, align: usize, size: usize) -> i32;
    fn free(block: *mut u8);
}

/// Blocks of C keep what is written to them while others come and go, and are aligned and empty as C promises.
#[expect(unsafe_code, reason = "C")]
fn memory() {
    let mut kept: Vec<(*mut u8, usize, u8)> = Vec::new();
    let is = |block: *mut u8, size: usize, byte: u8| {
        // SAFETY: a block of that size.
        unsafe { std::slice::from_raw_parts(block, size) }.iter().all(|it| *it == byte)
    };
    for round in 0..2_000_usize {
        let (size, byte) = (round * 37 % 3_000, (round % 251) as u8);
        // SAFETY: every block is used within its size and freed once.
        unsafe {
            let mut block = std::ptr::null_mut();
            match round % 4 {
                0 => block = malloc(size),
                1 => {
                    block = calloc(size, 1);
                    assert!(is(block, size, 0), "round {round}: not empty");
                }
                2 => {
                    let align = 4 << (round % 11);
                    assert_eq!(posix_memalign(&mut block, align, size), 0, "round {round}");
                    assert_eq!(block.addr() % align, 0, "round {round}");
                }
                _ => {
                    if let Some((old, before, old_byte)) = kept.pop() {
                        block = realloc(old, size);
                        assert!(is(block, before.min(size), old_byte), "round {round}: lost");
                    }
                }
            }
            if block.is_null() {
                block = malloc(size);
            }
            block.write_bytes(byte, size);
            kept.push((block, size, byte));
            if kept.len() > 50 {
                let (block, size, byte) = kept.swap_remove(round * 7 % 50);
                assert!(is(block, size, byte), "round {round}: overwritten");
                free(block);
            }
        }
    }
    kept.iter().for_each(|(block, size, byte)| assert!(is(*block, *size, *byte), "overwritten"));
    // SAFETY: no block.
    unsafe { free(std::ptr::null_mut()) };
}

struct Exported;

impl GuestDecide for Exported {
    fn step(view: &WitRunView, out: &WitDecisions) -> Result<(), WitFault> {
        let what = view.params_json();
        match what.as_str() {
            "" => return run_step::<Compare>(view, out),
            "memory" => memory(),
            _ => pass(&what, view),
        }
        out.explain("passed", &what);
        Ok(())
    }
}

impl GuestPlanner for Exported {
    fn plan(_: &WitRunView, _: &WitDecisions) -> Result<(), WitFault> {
        Ok(())
    }
}

pangolin_pattern_sdk::bindings::export!(Exported with_types_in pangolin_pattern_sdk::bindings);

pangolin_pattern_sdk::call_memory!();
