//! What every block must keep: the same verdict of the same tree, no trap whatever the tree holds, nothing half-written.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::{BlockGrant, BlockLimits, ExecGrant, NetGrant, PluginEvidence, SecretGrant};
use pangolin_plugin_authority::Manifest;
use pangolin_plugin_host::{
    ArtifactId, BLOCK_CONTRACT, BlockCall, BlockComponent, BlockWorld, ExecOutcome, ExecRequest,
    FetchRequest, FetchResponse, FileEntry, MemoryWorld, Probe, Profile, WorldError, engine_name,
};
use serde_json::{Value, json};

use crate::{
    bill::{Cost, keep},
    check::{Options, first, is_limit},
    dice::Dice,
    fixture::{BlockExpect, BlockFixture, Fixture, FixtureError, FixtureFile},
    mutate::{members, mutations},
    report::Report,
};

/// Host calls of one run that are refused in turn, at most.
const REFUSALS_MAX: u64 = 200;

/// Places at which one run is killed, at most.
const KILLS_MAX: u64 = 200;

/// Parameters with something wrong, per recorded case.
const MUTATIONS: usize = 80;

/// Trees made at random.
const RANDOM: u64 = 24;

/// A large file of the large workspace, in bytes.
const LARGE_FILE: usize = 4 << 20;

/// Everything a manifest asks for; without one, all files and artifacts.
pub(crate) fn asked(manifest: Option<&Manifest>) -> BlockGrant {
    let Some(manifest) = manifest else {
        return BlockGrant {
            read: vec!["**".to_owned()],
            write: vec!["**".to_owned()],
            ..BlockGrant::default()
        };
    };
    let (needs, default) = (&manifest.needs, BlockLimits::default());
    let net = needs.net().iter().map(|need| &need.rule).flat_map(|rule| {
        rule.schemes().iter().flat_map(|scheme| {
            rule.ports().iter().map(|port| NetGrant {
                host: rule.host().to_owned(),
                methods: rule.methods().iter().cloned().collect(),
                scheme: scheme.clone(),
                port: Some(*port),
            })
        })
    });
    let secret = needs.secret().iter().map(|need| &need.rule).map(|rule| SecretGrant {
        name: rule.name().to_owned(),
        place: rule.place().to_string(),
        to: Some(rule.to().to_owned()),
    });
    let exec = needs.exec().iter().map(|need| &need.rule);
    let smaller = |wish: Option<u64>, given: u64| wish.map_or(given, |wish| wish.min(given));
    BlockGrant {
        exec: exec
            .map(|rule| ExecGrant { program: rule.program().to_owned(), args: rule.args().to_vec() })
            .collect(),
        net: net.collect(),
        secrets: secret.collect(),
        read: needs.read().map(ToString::to_string).collect(),
        write: needs.write().map(ToString::to_string).collect(),
        limits: BlockLimits {
            wall_ms: smaller(manifest.limits.wall_ms, default.wall_ms),
            memory_bytes: smaller(manifest.limits.memory_bytes, default.memory_bytes),
            ..default
        },
    }
}

/// A world and how the block is called in it.
#[derive(Clone)]
struct Case {
    name: String,
    world: MemoryWorld,
    call: BlockCall,
}

impl Case {
    fn of(name: &str, fixture: &BlockFixture, granted: &BlockGrant) -> Self {
        let mut world = MemoryWorld::with_files(fixture.world_files());
        world.earlier = fixture.earlier.iter().map(|(id, record)| (id.clone(), record.to_string())).collect();
        world.secrets.clone_from(&fixture.secrets);
        for (line, answer) in &fixture.programs {
            let outcome = ExecOutcome {
                exit_code: (!answer.timed_out).then_some(answer.exit_code),
                timed_out: answer.timed_out,
                stdout: answer.stdout.clone().into_bytes(),
                stderr: answer.stderr.clone().into_bytes(),
                ..ExecOutcome::default()
            };
            world.programs.insert(line.clone(), VecDeque::from([outcome]));
        }
        for (line, answer) in &fixture.hosts {
            let headers =
                answer.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
            let body = answer.body.clone().into_bytes();
            let response = FetchResponse { status: answer.status, headers, body };
            world.hosts.insert(line.clone(), VecDeque::from([Ok(response)]));
        }
        let params = if fixture.params.is_null() { json!({}) } else { fixture.params.clone() };
        let call = BlockCall {
            id: name.to_owned(),
            contract: BLOCK_CONTRACT.to_owned(),
            engine: engine_name(Profile::Effect),
            grant: fixture.grant.clone().unwrap_or_else(|| granted.clone()),
            fingerprint: Digest::of(b"conformance"),
            params,
            position: 0,
            lens: fixture.lens.clone(),
            attrs: fixture.attrs.clone(),
            timeout: Duration::from_secs(60),
        };
        Self { name: name.to_owned(), world, call }
    }

    fn with_params(&self, params: Value) -> Self {
        let mut copy = self.clone();
        copy.call.params = params;
        copy
    }

    fn with_files(&self, files: BTreeMap<String, Vec<u8>>) -> Self {
        let mut copy = self.clone();
        copy.world.files = files;
        copy
    }
}

fn cases(fixtures: &[FixtureFile], granted: &BlockGrant) -> Vec<Case> {
    let own = fixtures.iter().filter_map(|file| match &file.fixture {
        Fixture::Block(fixture) => Some(Case::of(&file.name, fixture, granted)),
        _ => None,
    });
    let mut cases: Vec<Case> = own.collect();
    let files = json!({
        "workspace/README.md": "hello\n", "workspace/src/a.rs": "fn main() {}\n// \u{e4}\n", "base/src/a.rs": "fn main() {}\n",
        "workspace/empty": "", "workspace/no-end": "x", "outputs/report.json": "{\"a\": [1, 2]}",
        "base/gone.txt": "was here\n", "workspace/100%25.txt": "percent\n",
    });
    let any = serde_json::from_value::<BlockFixture>(json!({ "files": files }));
    if let Ok(fixture) = any {
        let params = cases.first().map(|case| case.call.params.clone());
        let mut case = Case::of("any", &fixture, granted);
        case.call.params = params.unwrap_or_else(|| json!({}));
        cases.push(case);
    }
    cases
}

/// What must be the same when nothing changed.
fn answer(evidence: &PluginEvidence) -> Value {
    json!({
        "verdict": evidence.verdict, "evidence": evidence.evidence, "artifacts": evidence.artifacts,
        "denials": evidence.denials, "secrets": evidence.secrets_used, "log": evidence.log,
        "failure": evidence.failure, "calls": evidence.bill.host_calls,
    })
}

/// A failure that is no answer; a fault is one.
fn trap(evidence: &PluginEvidence) -> Option<String> {
    evidence.failure.as_ref().filter(|failure| failure.code != "fault").map(|failure| failure.message.clone())
}

struct Suite<'a> {
    block: &'a BlockComponent,
    cases: Vec<Case>,
}

pub(crate) async fn check(
    block: &BlockComponent,
    granted: &BlockGrant,
    fixtures: &[FixtureFile],
    options: &Options,
    report: &mut Report,
) {
    let suite = Suite { block, cases: cases(fixtures, granted) };
    suite.twice(report).await;
    suite.pages(report).await;
    suite.unknowns(report).await;
    suite.refusals(report).await;
    suite.limits(options, report).await;
    suite.missing(report).await;
    suite.empty(report).await;
    suite.paths(report).await;
    suite.kill(report).await;
    suite.traps(report).await;
    for file in fixtures {
        if let Fixture::Block(fixture) = &file.fixture {
            let (evidence, world) = seen(block, granted, fixture, &file.name).await;
            let problems = differences(&fixture.expect, &found(&evidence, &world), &evidence);
            let limits = fixture.grant.as_ref().map_or(&granted.limits, |grant| &grant.limits);
            let what = || {
                evidence.verdict.as_ref().map_or_else(|| "as expected".to_owned(), |it| it.summary.clone())
            };
            let bill = Some(Cost::of_block(&evidence.bill, limits));
            report.add(&format!("fixture:{}", file.name), first(&problems, what), bill);
        }
    }
}

/// Runs a case.
pub(crate) async fn seen(
    block: &BlockComponent,
    granted: &BlockGrant,
    fixture: &BlockFixture,
    name: &str,
) -> (PluginEvidence, MemoryWorld) {
    let case = Case::of(name, fixture, granted);
    block.run(case.world, &case.call).await
}

/// What a block answered, in the form of an expectation.
pub(crate) fn found(evidence: &PluginEvidence, world: &MemoryWorld) -> BlockExpect {
    BlockExpect {
        passed: evidence.verdict.as_ref().map(|verdict| verdict.passed),
        summary: evidence.verdict.as_ref().map(|verdict| verdict.summary.clone()),
        failure: evidence.failure.as_ref().map(|failure| failure.code.clone()),
        evidence: Some(evidence.evidence.clone()),
        artifacts: Some(world.artifacts.keys().cloned().collect()),
    }
}

pub(crate) fn differences(
    wanted: &BlockExpect,
    found: &BlockExpect,
    evidence: &PluginEvidence,
) -> Vec<String> {
    let mut problems = Vec::new();
    if wanted.failure.is_none()
        && let Some(failure) = &evidence.failure
    {
        problems.push(failure.message.clone());
    }
    let mut found = json!(found);
    // Evidence that the case does not name is not compared.
    if let (Some(wanted), Some(Value::Object(found))) = (&wanted.evidence, found.get_mut("evidence")) {
        found.retain(|key, _| wanted.contains_key(key));
    }
    for (key, wanted) in &members(&json!(wanted)) {
        let found = found.get(key).unwrap_or(&Value::Null);
        if wanted != found {
            problems.push(format!("{key}: expected {wanted}, found {found}"));
        }
    }
    problems
}

/// Writes what was found as what is expected.
pub(crate) fn write_expectations(file: &FixtureFile, found: &BlockExpect) -> Result<(), FixtureError> {
    file.write(|document| {
        document.insert("expect".to_owned(), json!(found));
    })
}

impl Suite<'_> {
    async fn run(&self, case: &Case) -> (PluginEvidence, MemoryWorld) {
        self.block.run(case.world.clone(), &case.call).await
    }

    /// Cases whose plain run ends in an answer: what the other checks compare with.
    async fn sound(&self) -> Vec<(&Case, PluginEvidence)> {
        let mut sound = Vec::new();
        for case in &self.cases {
            let (evidence, _) = self.run(case).await;
            if trap(&evidence).is_none() {
                sound.push((case, evidence));
            }
        }
        sound
    }

    async fn twice(&self, report: &mut Report) {
        let (mut problems, mut most) = (Vec::new(), None);
        for (case, plain) in self.sound().await {
            keep(&mut most, Cost::of_block(&plain.bill, &case.call.grant.limits));
            let (again, _) = self.run(case).await;
            if answer(&again) != answer(&plain) {
                problems.push(format!("running {} again changes the answer", case.name));
            }
        }
        let seen = || format!("{} trees, equal verdict, evidence and artifacts", self.cases.len());
        report.add("twice-run", first(&problems, seen), most);
    }

    async fn pages(&self, report: &mut Report) {
        let mut problems = Vec::new();
        for (case, plain) in self.sound().await {
            for page in [1, 7] {
                let probe = Probe { page_items: Some(page), ..Probe::default() };
                let (other, _) = self.block.with_probe(probe).run(case.world.clone(), &case.call).await;
                if (&other.verdict, &other.evidence, &other.failure)
                    != (&plain.verdict, &plain.evidence, &plain.failure)
                {
                    problems.push(format!(
                        "listing {} in pages of {page} changes the answer; read on until a page is empty",
                        case.name
                    ));
                }
            }
        }
        let seen = || format!("{} trees, equal with lists served in pages of 1 and 7", self.cases.len());
        report.add("page-size", first(&problems, seen), None);
    }

    async fn unknowns(&self, report: &mut Report) {
        let mut problems = Vec::new();
        for (case, plain) in self.sound().await {
            let mut facts = case.clone();
            facts.call.attrs.insert("x-unknown".to_owned(), "of a later version".to_owned());
            facts.call.lens = "x-unknown".to_owned();
            let (other, _) = self.run(&facts).await;
            if other.failure.is_some() && plain.failure.is_none() {
                let why = other.failure.map(|failure| failure.message).unwrap_or_default();
                problems.push(format!("an unknown lens and fact, {}: {why}", case.name));
            }
            let mut params = members(&case.call.params);
            params.insert("xUnknown".to_owned(), json!([1]));
            let (other, _) = self.run(&case.with_params(Value::Object(params))).await;
            problems.extend(trap(&other).map(|trap| format!("an unknown parameter, {}: {trap}", case.name)));
            let mut files = case.world.files.clone();
            let later = json!({ "schemaVersion": 1, "later": true, "changes": [
                { "path": "x", "kind": "x-unknown", "later": 1 },
                { "path": "y", "kind": "added", "after": { "mode": "160000", "size": 0, "digest": "x" }, "binary": false },
            ] });
            files.insert("changes.json".to_owned(), later.to_string().into_bytes());
            let (other, _) = self.run(&case.with_files(files)).await;
            problems.extend(
                trap(&other).map(|trap| format!("changes of a later version, {}: {trap}", case.name)),
            );
        }
        let seen =
            || format!("{} trees with facts, parameters and changes of a later version", self.cases.len());
        report.add("unknowns", first(&problems, seen), None);
    }

    async fn refusals(&self, report: &mut Report) {
        let (mut count, mut problems) = (0_u64, Vec::new());
        for (case, plain) in self.sound().await {
            let calls = plain.bill.host_calls;
            let step = usize::try_from(calls.div_ceil(REFUSALS_MAX)).unwrap_or(1).max(1);
            for number in (1..=calls).step_by(step) {
                count += 1;
                let probe = Probe { refuse_call: Some(number), ..Probe::default() };
                let (other, _) = self.block.with_probe(probe).run(case.world.clone(), &case.call).await;
                problems.extend(trap(&other).map(|trap| {
                    format!(
                        "with host call {number} of {} refused: {trap}; a refusal is an answer, go on without or return \
                         a fault",
                        case.name
                    )
                }));
            }
        }
        report.add(
            "refusals",
            first(&problems, || format!("{count} host calls refused, never a trap")),
            None,
        );
    }

    async fn limits(&self, options: &Options, report: &mut Report) {
        let (mut most, mut problems) = (None, Vec::new());
        let Some(case) = self.cases.first() else { return };
        let mut files: BTreeMap<String, Vec<u8>> = (0..options.large_items)
            .map(|number| {
                (format!("workspace/many/{:03}/{number:05}.txt", number / 100), b"one line\n".to_vec())
            })
            .collect();
        files.insert("workspace/long-line.txt".to_owned(), vec![b'x'; LARGE_FILE]);
        files.insert(
            "workspace/many-lines.txt".to_owned(),
            b"one more line of this file\n".repeat(LARGE_FILE / 27),
        );
        files.insert("workspace/binary.bin".to_owned(), (0..=255_u8).cycle().take(LARGE_FILE).collect());
        let changes = files.iter().map(|(path, bytes)| {
            let path = path.strip_prefix("workspace/").unwrap_or(path);
            let after = json!({ "mode": "100644", "size": bytes.len(), "digest": Digest::of(bytes) });
            json!({ "path": path, "kind": "added", "after": after, "binary": bytes.contains(&0) })
        });
        let changes = json!({ "schemaVersion": 1, "changes": changes.collect::<Vec<_>>() });
        files.insert("changes.json".to_owned(), changes.to_string().into_bytes());
        let mut large = case.with_files(files);
        large.call.timeout = Duration::from_secs(600);
        let (evidence, _) = self.run(&large).await;
        keep(&mut most, Cost::of_block(&evidence.bill, &large.call.grant.limits));
        problems.extend(limit(&evidence));
        for case in &self.cases {
            problems
                .extend(limit(&self.run(case).await.0).map(|problem| format!("{}: {problem}", case.name)));
        }
        let seen = || format!("{} files and three of 4 MiB, within every limit", options.large_items);
        report.add("limits", first(&problems, seen), most);
    }

    /// Every file in turn is not what it was: `change` answers the new content, `None` for no file.
    async fn without(&self, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> (u64, Vec<String>) {
        let (mut count, mut problems) = (0, Vec::new());
        for (case, _) in self.sound().await {
            for path in case.world.files.keys().take(100) {
                let mut files = case.world.files.clone();
                match files.get(path).and_then(|bytes| change(bytes)) {
                    Some(bytes) => drop(files.insert(path.clone(), bytes)),
                    None => drop(files.remove(path)),
                }
                count += 1;
                let (other, _) = self.run(&case.with_files(files)).await;
                problems.extend(trap(&other).map(|trap| format!("{path} of {}: {trap}", case.name)));
            }
        }
        (count, problems)
    }

    async fn missing(&self, report: &mut Report) {
        let (count, mut problems) = self.without(|_| None).await;
        for (case, _) in self.sound().await {
            let (other, _) = self.run(&case.with_files(BTreeMap::new())).await;
            problems.extend(trap(&other).map(|trap| format!("no file at all, {}: {trap}", case.name)));
        }
        let seen = || format!("{count} trees that lack a file, never a trap");
        report.add("missing-file", first(&problems, seen), None);
    }

    async fn empty(&self, report: &mut Report) {
        let (count, problems) = self.without(|_| Some(Vec::new())).await;
        report.add(
            "zero-bytes",
            first(&problems, || format!("{count} trees with an empty file, never a trap")),
            None,
        );
    }

    async fn paths(&self, report: &mut Report) {
        let (mut count, mut problems) = (0, Vec::new());
        for (case, _) in self.sound().await {
            let bad = [
                "../../etc/passwd",
                "/etc/passwd",
                "a/../../b",
                "a\\..\\b",
                "a//b",
                ".",
                "x\u{202e}y",
                "%2e%2e/x",
            ];
            let changes = bad.map(|path| {
                let after = json!({ "mode": "100644", "size": 3, "digest": Digest::of(b"abc") });
                json!({ "path": path, "kind": "added", "after": after, "binary": false })
            });
            let mut trees = vec![case.with_params(case.call.params.clone())];
            let mut files = case.world.files.clone();
            let changes = json!({ "schemaVersion": 1, "changes": changes });
            files.insert("changes.json".to_owned(), changes.to_string().into_bytes());
            trees.push(case.with_files(files));
            for key in members(&case.call.params).keys() {
                for path in bad {
                    for value in [json!(path), json!([path])] {
                        let mut params = members(&case.call.params);
                        params.insert(key.clone(), value);
                        trees.push(case.with_params(Value::Object(params)));
                    }
                }
            }
            for tree in trees {
                count += 1;
                let (other, world) = self.run(&tree).await;
                problems
                    .extend(trap(&other).map(|trap| format!("paths that lead out, {}: {trap}", case.name)));
                let outside = world
                    .artifacts
                    .keys()
                    .find(|path| path.split('/').any(|part| matches!(part, "" | "." | "..")));
                problems.extend(outside.map(|path| format!("{}: it wrote {path:?}", case.name)));
            }
        }
        let seen = || format!("{count} runs with paths that lead out of the tree; refused, never a trap");
        report.add("path-escapes", first(&problems, seen), None);
    }

    async fn kill(&self, report: &mut Report) {
        let (mut count, mut problems) = (0_u64, Vec::new());
        for (case, _) in self.sound().await {
            let whole = Killed { world: case.world.clone(), left: u64::MAX, calls: 0 };
            let (_, whole) = self.block.run(whole, &case.call).await;
            let step = usize::try_from(whole.calls.div_ceil(KILLS_MAX)).unwrap_or(1).max(1);
            for left in (0..whole.calls).step_by(step) {
                count += 1;
                let world = Killed { world: case.world.clone(), left, calls: 0 };
                let (evidence, after) = self.block.run(world, &case.call).await;
                if evidence.verdict.is_some() {
                    problems.push(format!("killed after call {left} of {}, it has a verdict", case.name));
                }
                let half =
                    after.world.artifacts.iter().find(|(path, bytes)| {
                        whole.world.artifacts.get(*path).is_none_or(|full| full != *bytes)
                    });
                if let Some((path, bytes)) = half {
                    problems.push(format!(
                        "killed after call {left} of {}, {path} stays with {} bytes that a whole run does not leave; \
                         commit an artifact once, when it is complete",
                        case.name,
                        bytes.len()
                    ));
                }
            }
        }
        let seen = || format!("killed at {count} places, no artifact that is not whole");
        report.add("kill", first(&problems, seen), None);
    }

    async fn traps(&self, report: &mut Report) {
        let (mut count, mut problems) = (0_u64, Vec::new());
        for case in &self.cases {
            let texts = [Value::Null, json!([]), json!("x"), json!(7)];
            let wrong = mutations(&case.call.params, MUTATIONS).into_iter().chain(texts);
            let runs = wrong.map(|params| case.with_params(params));
            let random = (0..RANDOM).map(|seed| case.with_files(noise(&case.world.files, seed)));
            for run in std::iter::once(case.clone()).chain(runs).chain(random) {
                count += 1;
                let (evidence, _) = self.run(&run).await;
                if let Some(failure) = &evidence.failure
                    && !is_limit(&failure.code)
                    && let Some(trap) = trap(&evidence)
                {
                    problems.push(format!("params {} in {}: {trap}", run.call.params, case.name));
                }
            }
        }
        let seen = || format!("{count} runs with something wrong in parameters or files, never a trap");
        report.add("no-traps", first(&problems, seen), None);
    }
}

fn limit(evidence: &PluginEvidence) -> Option<String> {
    evidence.failure.as_ref().filter(|failure| is_limit(&failure.code)).map(|failure| failure.message.clone())
}

/// The files, some of them damaged.
fn noise(files: &BTreeMap<String, Vec<u8>>, seed: u64) -> BTreeMap<String, Vec<u8>> {
    let mut dice = Dice::new(seed);
    let damaged = files.iter().map(|(path, bytes)| {
        let mut bytes = bytes.clone();
        match dice.below(4) {
            // Nothing at all is another check's business.
            0 => bytes.truncate(dice.below(bytes.len()) + 1),
            1 => {
                for _ in 0..=dice.below(8) {
                    let at = dice.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = u8::try_from(dice.below(256)).unwrap_or(0);
                    }
                }
            }
            2 => bytes = (0..=dice.below(200)).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect(),
            _ => {}
        }
        (path.clone(), bytes)
    });
    damaged.collect()
}

/// A world that ends after so many calls, as when the worker is killed there.
struct Killed {
    world: MemoryWorld,
    left: u64,
    calls: u64,
}

impl Killed {
    fn call(&mut self) -> Result<&mut MemoryWorld, WorldError> {
        self.calls += 1;
        if self.calls > self.left {
            return Err(WorldError::Broken("killed by the conformance suite".to_owned()));
        }
        Ok(&mut self.world)
    }
}

impl BlockWorld for Killed {
    fn files(&mut self) -> Result<Arc<Vec<FileEntry>>, WorldError> {
        self.call()?.files()
    }

    fn read(&mut self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, WorldError> {
        self.call()?.read(path, offset, length)
    }

    fn earlier(&mut self, block: &str) -> Option<String> {
        self.world.earlier(block)
    }

    fn begin_artifact(&mut self, path: &str) -> Result<ArtifactId, WorldError> {
        self.call()?.begin_artifact(path)
    }

    fn write_artifact(&mut self, id: ArtifactId, data: &[u8]) -> Result<(), WorldError> {
        self.call()?.write_artifact(id, data)
    }

    fn commit_artifact(&mut self, id: ArtifactId) -> Result<(Digest, u64), WorldError> {
        self.call()?.commit_artifact(id)
    }

    fn drop_artifact(&mut self, id: ArtifactId) {
        self.world.drop_artifact(id);
    }

    fn run(&mut self, command: &ExecRequest) -> Result<ExecOutcome, WorldError> {
        self.call()?.run(command)
    }

    fn fetch(&mut self, request: &FetchRequest) -> Result<FetchResponse, WorldError> {
        self.call()?.fetch(request)
    }

    fn stopped(&self) -> bool {
        false
    }
}
