//! Components and guests that mean harm. Each ends in its own named failure; while it runs and afterwards the same
//! host serves a good plugin.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pangolin_core::pattern::{Decisions, RunView};
use pangolin_plugin_host::{
    AdapterReport, Channel, ExitInfo, Failure, Limits, LogLevel, PatternComponent, PluginError, PluginHost,
    Room,
};
use support::pattern;

fn view(params: &str) -> Arc<RunView> {
    let mut view = RunView::default();
    view.params_json = params.into();
    Arc::new(view)
}

/// A host on which a good plugin works all the time.
struct Yard {
    host: PluginHost,
    good: PatternComponent,
    over: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    neighbour: tokio::task::JoinHandle<Result<(), PluginError>>,
}

impl Yard {
    fn open() -> Self {
        let host = support::shared_host();
        let good = host.load_pattern(&support::good()).unwrap();
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let neighbour = tokio::spawn({
            let (good, over, calls) = (good.clone(), over.clone(), calls.clone());
            async move {
                while !over.load(Ordering::Relaxed) {
                    good.step(&view("{}")).await?;
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        });
        Self { host, good, over, calls, neighbour }
    }

    /// The neighbour was not disturbed, and the next call works.
    async fn close(self) {
        let before = self.calls.load(Ordering::Relaxed);
        // It still works while nobody attacks, too; then it may stop.
        while self.calls.load(Ordering::Relaxed) == before {
            assert!(!self.neighbour.is_finished(), "the neighbour ended");
            tokio::task::yield_now().await;
        }
        self.over.store(true, Ordering::Relaxed);
        self.neighbour.await.unwrap().unwrap();
        let outcome = self.good.step(&view("{}")).await.unwrap();
        assert_eq!(outcome.decisions, Decisions::default());
    }
}

/// Small limits, so that the attacks end soon.
fn limits() -> Limits {
    Limits { fuel_base: 1 << 40, fuel_max: 1 << 40, wall: Duration::from_secs(20), ..Limits::pure() }
}

/// What a step of the hostile guest ends in.
async fn step(what: &str, limits: Limits) -> PluginError {
    let yard = Yard::open();
    let guest = yard.host.load_pattern_with(&support::guest("pangolin-test-hostile"), limits).unwrap();
    let error = guest.step(&view(what)).await.expect_err(what);
    yard.close().await;
    error
}

/// What a step of a component ends in.
async fn step_of(component: &[u8], limits: Limits) -> PluginError {
    let yard = Yard::open();
    let guest = yard.host.load_pattern_with(component, limits).unwrap();
    let error = guest.step(&view("")).await.expect_err("must fail");
    yard.close().await;
    error
}

/// What loading a component ends in.
async fn load(component: &[u8]) -> PluginError {
    let yard = Yard::open();
    let host = yard.host.clone();
    let bytes = component.to_vec();
    let error = tokio::task::spawn_blocking(move || host.load_pattern(&bytes).err()).await.unwrap();
    yard.close().await;
    error.expect("must not load")
}

#[track_caller]
fn not_compiled(error: &PluginError, word: &str) {
    assert_eq!(error.code(), "not-compiled", "{error}");
    assert!(error.to_string().contains(word), "{word:?} is missing in {error}");
}

const MEMORY: &str = r#"(memory (export "memory") 1)"#;

const TIGHT: &str = "(loop $again (br $again))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_end() {
    let few = Limits { fuel_base: 1_000_000, ..Limits::pure() };
    let error = step("spin", few.clone()).await;
    assert_eq!(error.failure, Failure::CpuBudget { used: 1_000_000, budget: 1_000_000, items: 0 });
    let bill = error.call.unwrap().bill;
    assert_eq!((bill.fuel, bill.fuel_limit), (1_000_000, 1_000_000));

    let short = Limits { wall: Duration::from_millis(150), ..limits() };
    match step("spin", short).await.failure {
        Failure::Deadline { ran_ms, limit_ms: 150 } => assert!((150..10_000).contains(&ran_ms), "{ran_ms}"),
        other => panic!("{other:?}"),
    }
    // Before the first call already.
    let error = step_of(&pattern(&format!("{MEMORY} (func $f {TIGHT}) (start $f)"), ""), few).await;
    assert_eq!(error.code(), "cpu-budget", "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_told_from_a_panic() {
    let small = Limits { memory_bytes: 16 << 20, ..limits() };
    match step("memory", small).await.failure {
        Failure::MemoryLimit { what: Room::MemoryBytes, wanted, limit } => {
            assert_eq!(limit, 16 << 20);
            assert!(wanted > limit, "{wanted}");
        }
        other => panic!("{other:?}"),
    }
    // Refused before the first instruction.
    let error = step_of(&pattern(r#"(memory (export "memory") 1025)"#, ""), Limits::pure()).await;
    let expected = Failure::MemoryLimit { what: Room::MemoryBytes, wanted: 1025 << 16, limit: 64 << 20 };
    assert_eq!(error.failure, expected);
    assert!(error.to_string().contains("wanted 67174400 bytes of memory, the limit is 67108864"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_bounded() {
    let grow = "(drop (loop $again (result i32)
        (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))
        (unreachable)))";
    let bomb = pattern(r#"(memory (export "memory") 1) (table $t 0 funcref)"#, grow);
    let error = step_of(&bomb, Limits::pure()).await;
    let expected = |wanted| Failure::MemoryLimit { what: Room::TableEntries, wanted, limit: 20_000 };
    assert_eq!(error.failure, expected(21_000));
    let large = pattern(r#"(memory (export "memory") 1) (table 20001 funcref)"#, "");
    assert_eq!(step_of(&large, Limits::pure()).await.failure, expected(20_001));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_and_memories_are_counted() {
    let good = support::good();
    for (module, copies, room, limit) in [
        ("(module)", 70, Room::Instances, 64),
        (r#"(module (memory 1))"#, 9, Room::Memories, 8),
        ("(module (table 1 funcref) (table 1 funcref))", 40, Room::Tables, 64),
    ] {
        let error = step_of(&with_instances(&good, module, copies), Limits::pure()).await;
        assert_eq!(error.failure, Failure::MemoryLimit { what: room, wanted: limit + 1, limit }, "{module}");
    }
}

/// `component` with further instances of a core module behind it.
fn with_instances(component: &[u8], module: &str, copies: u32) -> Vec<u8> {
    use wasm_encoder::{Encode as _, InstanceSection, ModuleArg, RawSection};
    let modules = wasmparser::Parser::new(0)
        .parse_all(component)
        .scan(0, |depth, payload| {
            // Payloads of nested modules come in between; only the outermost level counts.
            let payload = payload.unwrap();
            let outermost = *depth == 0;
            match &payload {
                wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. } => {
                    *depth += 1;
                }
                wasmparser::Payload::End(_) if !outermost => *depth -= 1,
                _ => {}
            }
            Some(u32::from(outermost && matches!(payload, wasmparser::Payload::ModuleSection { .. })))
        })
        .sum();
    let mut bytes = component.to_vec();
    let raw = wat::parse_str(module).unwrap();
    bytes.push(1);
    RawSection { id: 1, data: &raw }.encode(&mut bytes);
    let mut instances = InstanceSection::new();
    for _ in 0..copies {
        instances.instantiate(modules, Vec::<(&str, ModuleArg)>::new());
    }
    bytes.push(2);
    let mut section = Vec::new();
    instances.encode(&mut section);
    bytes.extend(section);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stacks_are_bounded() {
    let expected = Failure::Stack { limit_bytes: 512 << 10 };
    assert_eq!(step("recurse", limits()).await.failure, expected);
    let bomb = pattern(r#"(memory (export "memory") 1) (func $f (call $f))"#, "(call $f)");
    assert_eq!(step_of(&bomb, limits()).await.failure, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_bounded() {
    let output = |error: PluginError| match error.failure {
        Failure::OutputLimit { what, size, cap } => (what, size, cap),
        other => panic!("{other:?}"),
    };
    // In bytes, in pieces, in one piece.
    let (what, size, cap) = output(step("explain 100000", limits()).await);
    assert!(what.contains("decisions in bytes") && size > cap && cap == 4 << 20, "{what} {size} {cap}");
    let (what, size, cap) =
        output(step("explain 1", Limits { hostcall_bytes_total: 1 << 40, ..limits() }).await);
    assert!(what.contains("pieces") && size == 10_001 && cap == 10_000, "{what} {size} {cap}");
    let (what, size, cap) = output(step("explain 9000000", limits()).await);
    assert!(what.contains("one host function") && size > cap && cap == 8 << 20, "{what} {size} {cap}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_host_calls_end() {
    // Without data the instructions around the calls are what counts.
    let few = Limits { fuel_base: 5_000_000, wall: Duration::from_secs(60), ..Limits::pure() };
    let error = step("calls", few).await;
    assert_eq!(error.code(), "cpu-budget", "{error}");
    let calls = error.call.unwrap().bill.host_calls;
    assert!(calls > 10_000, "{calls}");
    // With data it is the data.
    let error = step("give 1000000", limits()).await;
    match error.failure {
        Failure::OutputLimit { what, size, cap } => {
            assert!(what.contains("all host functions"), "{what}");
            assert!(size > cap && cap == 64 << 20, "{size} {cap}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_are_bounded() {
    let expected = Failure::OutputLimit { what: "the number of handles".into(), size: 4_097, cap: 4_096 };
    assert_eq!(step("specs", limits()).await.failure, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_log_lines_is_cut_and_harms_nobody() {
    let yard = Yard::open();
    let guest = yard.host.load_pattern_with(&support::guest("pangolin-test-hostile"), limits()).unwrap();
    let outcome = guest.step(&view("log")).await.unwrap();
    assert_eq!(outcome.log.len(), 1_000);
    assert_eq!((outcome.log[0].level, outcome.log[0].text.as_str()), (LogLevel::Debug, "line 0"));
    assert_eq!(outcome.bill.log_dropped, 99_000);
    assert!(outcome.bill.log_bytes < outcome.bill.log_limit_bytes);
    // Bytes count as well as lines.
    let little = Limits { log_bytes: 10, ..limits() };
    let guest = yard.host.load_pattern_with(&support::guest("pangolin-test-hostile"), little).unwrap();
    let outcome = guest.step(&view("words 12345 12345 1")).await.unwrap();
    let kept: Vec<&str> = outcome.log.iter().map(|line| line.text.as_str()).collect();
    assert_eq!((kept, outcome.bill.log_dropped), (vec!["12345", "12345"], 1));
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_instructions_on_the_largest_memory_do_not_stall() {
    let short = Limits { wall: Duration::from_millis(300), ..limits() };
    match step("bulk", short).await.failure {
        // Each is bounded by the memory there is, so the deadline is met soon after it has passed, on a busy machine too.
        Failure::Deadline { ran_ms, limit_ms: 300 } => assert!(ran_ms < 30_000, "{ran_ms}"),
        other => panic!("{other:?}"),
    }
    // Their cost in fuel grows with their length.
    assert_eq!(step("bulk", Limits { fuel_base: 500_000_000, ..Limits::pure() }).await.code(), "cpu-budget");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endings_of_the_guest_s_own_making() {
    match step("panic", limits()).await.failure {
        Failure::GuestPanic { message } => assert!(message.contains("words of the panic"), "{message}"),
        other => panic!("{other:?}"),
    }
    match step("drop", limits()).await.failure {
        Failure::GuestPanic { message } => assert!(message.contains("dropped"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(step("exit", limits()).await.failure, Failure::GuestExit { status: 1 });
    assert_eq!(step("abort", limits()).await.code(), "guest-abort");
    // What it said before is there.
    let error = step("log-then-panic", limits()).await;
    assert_eq!(error.code(), "guest-panic");
    assert_eq!(error.call.unwrap().log[0].text, "last words");
    // Before the first call.
    let error =
        step_of(&pattern(&format!("{MEMORY} (func $f (unreachable)) (start $f)"), ""), limits()).await;
    assert_eq!(error.code(), "guest-abort", "{error}");
    assert!(error.to_string().contains("unreachable"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_pointers_and_bad_text() {
    let memory = r#"(memory (export "memory") 1) (data (i32.const 8) "\ff\fe\fd")"#;
    let emit = |pointer: &str, length: &str| {
        let body = format!("(call $emit (i32.const 1) (i32.const {pointer}) (i32.const {length}))");
        pattern(memory, &body)
    };
    let error = step_of(&emit("8", "3"), limits()).await;
    assert_eq!(error.code(), "guest-abort", "{error}");
    assert!(error.to_string().to_lowercase().contains("utf-8"), "{error}");
    for (pointer, length) in [("0xfffffff0", "4096"), ("65530", "100"), ("0", "0x7fffffff")] {
        let error = step_of(&emit(pointer, length), limits()).await;
        assert!(matches!(error.code(), "guest-abort" | "output-limit"), "{error}");
    }
    // A level that does not exist.
    let level = pattern(memory, "(call $emit (i32.const 77) (i32.const 0) (i32.const 0))");
    assert_eq!(step_of(&level, limits()).await.code(), "guest-abort");
    // A result pointer that points nowhere, and borrowed handles that are kept.
    let nowhere = pattern(memory, "(return (i32.const -4))");
    assert_eq!(step_of(&nowhere, limits()).await.code(), "guest-abort");
    let error = step_of(&pattern(memory, ""), limits()).await;
    assert_eq!(error.code(), "guest-abort");
    assert!(error.to_string().contains("borrow"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_that_are_off_are_not_compiled() {
    for (fields, word) in [
        (r#"(memory (export "memory") 1 1 shared)"#, "threads"),
        (r#"(memory (export "memory") i64 1)"#, "memory64"),
        (r#"(memory (export "memory") 1) (memory 1)"#, "multi"),
        (r#"(memory (export "memory") 1) (type (struct (field i32)))"#, "gc"),
        (r#"(memory (export "memory") 1) (tag $e)"#, "exceptions"),
        (r#"(memory (export "memory") 1) (func (param (ref func)))"#, "function references"),
    ] {
        let error = load(&pattern(fields, "")).await;
        assert_eq!(error.code(), "not-compiled", "{fields}: {error}");
        assert!(error.to_string().contains(word), "{word:?} is missing in {error}");
    }
    let asynchronous = wat::parse_str(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func (export "f") async (canon lift (core func $i "f") async)))"#,
    )
    .unwrap();
    not_compiled(&load(&asynchronous).await, "async");
    let streams = wat::parse_str("(component (type (stream u8)))").unwrap();
    not_compiled(&load(&streams).await, "async");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_components_are_not_compiled() {
    let good = support::good();
    let module = wat::parse_str("(module)").unwrap();
    for (bytes, what) in [
        (b"".to_vec(), "nothing"),
        (b"nonsense".to_vec(), "no magic"),
        (
            good[..8].iter().chain(b"\xff\xff\xff\xff\xff").copied().collect(),
            "a section with an endless length",
        ),
        (module, "a module"),
        (good[..good.len() / 2].to_vec(), "half of it"),
        (good[..good.len() - 1].to_vec(), "all but a byte"),
    ] {
        let error = load(&bytes).await;
        assert_eq!(error.code(), "not-compiled", "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bytes_never_harm_the_host() {
    let good = support::good();
    let yard = Yard::open();
    let mut refused = 0;
    for step in 0..24 {
        let at = 8 + step * (good.len() - 8) / 24;
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        // Some flips hit text or a constant: then it loads, and whatever it does ends in the vocabulary.
        match yard.host.load_pattern(&bad) {
            Ok(pattern) => {
                if let Err(error) = pattern.step(&view("{}")).await {
                    assert_ne!(error.code(), "host-error", "byte {at}: {error}");
                }
            }
            Err(error) => {
                assert!(
                    matches!(error.code(), "not-compiled" | "contract-mismatch" | "refused"),
                    "byte {at}: {error}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 5, "{refused}");
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_structure_is_not_compiled() {
    use wasm_encoder::{
        Component, ComponentImportSection, ComponentTypeRef, ComponentTypeSection, ComponentValType,
        FunctionSection, Module, ModuleSection, NestedComponentSection, PrimitiveValType, TypeSection,
    };
    // A million types, a million functions.
    let mut types = TypeSection::new();
    for _ in 0..1_000_001 {
        types.ty().function([], []);
    }
    let mut module = Module::new();
    module.section(&types);
    let mut component = Component::new();
    component.section(&ModuleSection(&module));
    not_compiled(&load(&component.finish()).await, "exceeds limit");

    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    for _ in 0..1_000_001 {
        functions.function(0);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions);
    let mut component = Component::new();
    component.section(&ModuleSection(&module));
    not_compiled(&load(&component.finish()).await, "exceeds limit");

    // Components in components: the engine unfolds them without a stack, so they are merely useless.
    let mut nested = Component::new();
    for _ in 0..5_000 {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&nested));
        nested = outer;
    }
    assert_eq!(load(&nested.finish()).await.code(), "contract-mismatch");

    // A name of 200 kB.
    let mut types = ComponentTypeSection::new();
    types.instance(&wasm_encoder::InstanceType::new());
    let mut imports = ComponentImportSection::new();
    imports.import(format!("a{}", "b".repeat(200_000)).as_str(), ComponentTypeRef::Instance(0));
    let mut component = Component::new();
    component.section(&types).section(&imports);
    not_compiled(&load(&component.finish()).await, "out of bounds");

    // A type of two types of two types: small on disk, endless when written out.
    let mut types = ComponentTypeSection::new();
    types.defined_type().primitive(PrimitiveValType::U8);
    for previous in 0..64 {
        let inner = ComponentValType::Type(previous);
        types.defined_type().tuple([inner, inner]);
    }
    let mut component = Component::new();
    component.section(&types);
    not_compiled(&load(&component.finish()).await, "type size");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_world() {
    // Many functions and an honest size, but nothing that we know.
    let functions = "(func)".repeat(2_000);
    let many = wat::parse_str(format!("(component (core module {functions}))")).unwrap();
    assert_eq!(load(&many).await.code(), "contract-mismatch");
    let error = load(&support::kept("runtime-adapter/1.0.0-rust-command.wasm")).await;
    assert_eq!(error.code(), "refused", "{error}");
    assert!(error.to_string().contains("pangolin:runtime-adapter/session"), "{error}");
    let error = load(&support::guest("pangolin-test-outside")).await;
    match error.failure {
        Failure::Refused { subject, .. } => {
            for name in ["wasi:clocks/wall-clock", "wasi:filesystem/types", "wasi:filesystem/preopens"] {
                assert!(subject.contains(name), "{name} is missing in {subject}");
            }
            assert!(!subject.contains("wasi:cli") && !subject.contains("wasi:io"), "{subject}");
        }
        other => panic!("{other:?}"),
    }
    // Every interface of WASI but the fourteen, and names that resemble ours.
    for name in [
        "wasi:random/random@0.2.0",
        "wasi:random/insecure@0.2.0",
        "wasi:clocks/monotonic-clock@0.2.0",
        "wasi:sockets/tcp@0.2.0",
        "wasi:sockets/udp@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:filesystem/types@0.2.0",
        "wasi:config/store@0.2.0-draft",
        "pangolin:block/exec@1.0.0",
        "pangolin:pattern/graph-extra@1.0.0",
        "pangolin:base/secrets@1.0.0",
        "acme:pattern/graph@1.0.0",
    ] {
        let text = format!(r#"(component (import "{name}" (instance)))"#);
        let error = load(&wat::parse_str(text).unwrap()).await;
        match error.failure {
            Failure::Refused { capability, subject, .. } => {
                assert_eq!((capability.as_str(), subject.as_str()), ("import", name));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    // A bare function is none of the interfaces either.
    let bare = wat::parse_str(r#"(component (import "exec" (func)))"#).unwrap();
    assert_eq!(load(&bare).await.code(), "refused");
    // Ours, but from a major version that does not exist.
    let future = wat::parse_str(
        r#"(component (import "pangolin:pattern/graph@7.0.0" (instance (export "f" (func)))))"#,
    )
    .unwrap();
    assert_eq!(load(&future).await.code(), "contract-mismatch");
}

async fn read(what: &str, limits: Limits) -> AdapterReport {
    let yard = Yard::open();
    let adapter =
        yard.host.load_adapter_with(&support::guest("pangolin-test-hostile-adapter"), limits).unwrap();
    let mut task = support::task("hostile", &[]);
    task.prompt = what.into();
    let chunks: [(Channel, &[u8]); 2] = [(Channel::Out, b"one"), (Channel::Err, b"two")];
    let report = adapter.read_chunks(&task, chunks, ExitInfo::default()).await;
    yard.close().await;
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_that_fail_while_reading_leave_no_numbers() {
    let fine = read("be good", Limits::effect()).await;
    assert!(fine.fault.is_none(), "{fine:?}");
    assert_eq!(fine.counters["input"], 5);
    let short = || Limits { wall: Duration::from_millis(100), ..Limits::effect() };
    for (what, code) in [
        ("trap-in-constructor", "guest-panic"),
        ("trap-in-feed", "guest-panic"),
        ("trap-in-destructor", "guest-panic"),
        ("spin-in-feed", "deadline"),
        ("not-a-number", "contract-mismatch"),
        ("negative", "contract-mismatch"),
    ] {
        let limits = if code == "deadline" { short() } else { Limits::effect() };
        let report = read(what, limits).await;
        assert_eq!(report.fault.as_ref().unwrap().code(), code, "{what}: {report:?}");
        assert!(report.counters.is_empty() && report.cost_microusd.is_none(), "{what}: {report:?}");
        assert_eq!(report.quality, pangolin_core::entry::UsageQuality::Missing, "{what}");
    }
    // Too many events are cut, which is said.
    let flooded = read("events", Limits::effect()).await;
    assert!(flooded.fault.is_none() && flooded.events_truncated, "{:?}", flooded.fault);
    assert!(flooded.events.len() <= Limits::effect().output_pieces);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_that_plan_nonsense() {
    let yard = Yard::open();
    let load = |limits| {
        yard.host.load_adapter_with(&support::guest("pangolin-test-hostile-adapter"), limits).unwrap()
    };
    let adapter = load(Limits::effect());
    let hasty = load(Limits { wall: Duration::from_millis(500), ..Limits::effect() });
    for (what, code) in [
        ("spin", "deadline"),
        ("no-program", "contract-mismatch"),
        ("args", "output-limit"),
        ("long-arg", "output-limit"),
        ("nul", "refused"),
        ("stdin", "refused"),
    ] {
        let mut task = support::task("hostile", &[]);
        task.prompt = what.into();
        let judge = if code == "deadline" { &hasty } else { &adapter };
        let error = judge.prepare(&task).await.expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        assert!(error.call.is_some(), "{what}");
    }
    let mut task = support::task("hostile", &[]);
    task.prompt = "log".into();
    let (plan, record) = adapter.prepare_recorded(&task).await.unwrap();
    assert_eq!((plan.program.as_str(), record.log[0].text.as_str()), ("true", "prepares"));
    assert!(record.bill.host_calls >= 3 && record.bill.to_guest_bytes >= 3, "{:?}", record.bill);
    yard.close().await;
}
