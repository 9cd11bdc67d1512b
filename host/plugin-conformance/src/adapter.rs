//! What every adapter must keep: plans that are pure, transcripts that may arrive in any pieces.

use std::collections::BTreeMap;

use pangolin_envelope::envelope::LaunchPlan;
use pangolin_plugin_host::{
    AdapterComponent, AdapterReport, AdapterTask, CallRecord, Channel, ExitInfo, Failure, Limits,
    PluginError, Probe, attr,
};
use serde_json::{Value, json};

use crate::{
    bill::{Cost, keep},
    check::{first, is_limit, trap, trap_of},
    dice::Dice,
    fixture::{AdapterExpect, AdapterFixture, Fixture, FixtureError, FixtureFile, TaskFixture},
    mutate::mutations,
    report::Report,
};

/// Cuts of one transcript, at most; above, they are spread evenly.
const CUTS_MAX: usize = 400;

/// Longest line that an agent may print, for the checks.
const LONG_LINE: usize = 4 << 20;

/// Tasks and transcripts made at random.
const RANDOM: u64 = 40;

/// Tasks with something wrong, per recorded case.
const MUTATIONS: usize = 120;

/// A name that nothing but the list of secrets holds.
const CANARY: &str = "PANGOLIN_CANARY_SECRET_41C7";

/// A task and its transcript.
struct Case {
    name: String,
    task: AdapterTask,
    out: Vec<u8>,
    err: Vec<u8>,
    exit: ExitInfo,
}

pub(crate) fn task(fixture: &TaskFixture) -> AdapterTask {
    let mut attrs = fixture.attrs.clone();
    if let Some(params) = &fixture.params {
        attrs.insert(attr::PARAMS.to_owned(), params.to_string());
    }
    AdapterTask {
        adapter: "conformance".to_owned(),
        system_prompt: fixture.system_prompt.clone(),
        prompt: fixture.prompt.clone(),
        model: fixture.model.clone(),
        workspace: fixture.workspace.clone(),
        timeout_seconds: fixture.timeout_seconds,
        input_json: fixture.input_json.clone(),
        secret_names: fixture.secret_names.clone(),
        attrs,
        allowed_programs: None,
    }
}

fn cases(fixtures: &[FixtureFile]) -> Vec<Case> {
    let mut cases: Vec<Case> = fixtures
        .iter()
        .filter_map(|file| match &file.fixture {
            Fixture::Adapter(fixture) => Some(Case {
                name: file.name.clone(),
                task: task(&fixture.task),
                out: fixture.transcript.stdout_bytes.clone(),
                err: fixture.transcript.stderr_bytes.clone(),
                exit: fixture.transcript.exit(),
            }),
            _ => None,
        })
        .collect();
    // Works for any adapter, whether it understands the lines or not.
    let params = cases.first().and_then(|case| case.task.attrs.get(attr::PARAMS).cloned());
    let mut any = task(&TaskFixture::default());
    any.attrs.extend(params.map(|params| (attr::PARAMS.to_owned(), params)));
    let out = concat!(
        "{\"type\":\"x-unknown\",\"n\":1}\nplain w\u{f6}rds \u{1f99a}\r\n\n{\"broken\": \n",
        "{\"pangolin\":\"usage\",\"input\":3,\"output\":4,\"model\":\"m-1\"}\nno end of line"
    );
    let err = "warning: l\u{fc}cke\n";
    cases.push(Case {
        name: "any".to_owned(),
        task: any,
        out: out.as_bytes().to_vec(),
        err: err.as_bytes().to_vec(),
        exit: ExitInfo { code: Some(0), ..ExitInfo::default() },
    });
    cases
}

struct Suite<'a> {
    adapter: &'a AdapterComponent,
    limits: &'a Limits,
    cases: Vec<Case>,
}

/// Pieces of a transcript as they arrive.
type Chunks<'a> = Vec<(Channel, &'a [u8])>;

type Planned = Result<(LaunchPlan, CallRecord), PluginError>;

pub(crate) async fn check(
    adapter: &AdapterComponent,
    limits: &Limits,
    fixtures: &[FixtureFile],
    report: &mut Report,
) {
    let suite = Suite { adapter, limits, cases: cases(fixtures) };
    suite.twice(report).await;
    suite.unknowns(report).await;
    suite.refusals(report).await;
    suite.limits(report).await;
    suite.chunks(report).await;
    suite.damage(report).await;
    suite.secrets(report).await;
    suite.paths(report).await;
    suite.traps(report).await;
    for file in fixtures {
        if let Fixture::Adapter(fixture) = &file.fixture {
            let (found, bill) = seen(adapter, fixture).await;
            let problems = differences(&fixture.expect, &found);
            let what = || format!("outcome {}", found.outcome.as_deref().unwrap_or("none"));
            report.add(&format!("fixture:{}", file.name), first(&problems, what), bill);
        }
    }
}

/// What an adapter makes of a case, in the form of an expectation.
pub(crate) async fn seen(
    adapter: &AdapterComponent,
    fixture: &AdapterFixture,
) -> (AdapterExpect, Option<Cost>) {
    let task = task(&fixture.task);
    let mut found = AdapterExpect::default();
    match adapter.prepare(&task).await {
        Ok(plan) => {
            found.program = Some(plan.program);
            found.args = Some(plan.args);
            found.env_secrets = Some(plan.env_secrets);
        }
        Err(error) => {
            found.fault = Some(match &error.failure {
                Failure::Fault { code, .. } => code.clone(),
                other => other.code().to_owned(),
            });
            return (found, None);
        }
    }
    let transcript = &fixture.transcript;
    let chunks = [(Channel::Out, &*transcript.stdout_bytes), (Channel::Err, &*transcript.stderr_bytes)];
    let (read, record) = adapter.read_recorded(&task, chunks, transcript.exit()).await;
    if let Some(error) = &read.fault {
        found.outcome = Some(format!("reader failed: {}", error.failure));
    } else {
        found.outcome = Some(read.outcome.code.as_str().to_owned());
    }
    found.session_id = read.session_id;
    found.models = Some(read.models);
    found.counters = Some(read.counters);
    found.cost_microusd = read.cost_microusd;
    found.quality = serde_json::to_value(read.quality).ok().and_then(|word| word.as_str().map(str::to_owned));
    found.denials = Some(read.denials.into_iter().map(|denial| denial.subject).collect());
    (found, record.map(|record| Cost::from(&record.bill)))
}

/// What is wanted and not so.
pub(crate) fn differences(wanted: &AdapterExpect, found: &AdapterExpect) -> Vec<String> {
    let (wanted, found) = (json!(wanted), json!(found));
    let mut problems = Vec::new();
    // A prepare that fails unasked is a difference too.
    if wanted.get("fault").is_none() && found.get("fault").is_some() {
        problems.push(format!("prepare answers with {}", found["fault"]));
    }
    for (key, wanted) in wanted.as_object().into_iter().flatten() {
        let found = found.get(key).unwrap_or(&Value::Null);
        if wanted != found {
            problems.push(format!("{key}: expected {wanted}, found {found}"));
        }
    }
    problems
}

/// Writes what was found as what is expected.
pub(crate) fn write_expectations(file: &FixtureFile, found: &AdapterExpect) -> Result<(), FixtureError> {
    file.write(|document| {
        document.insert("expect".to_owned(), json!(found));
    })
}

/// What must not depend on how the transcript arrived.
fn understood(report: &AdapterReport) -> Value {
    json!({
        "session": report.session_id,
        "models": report.models,
        "counters": report.counters,
        "cost": report.cost_microusd,
        "quality": report.quality,
        "outcome": report.outcome.code.as_str(),
        "message": report.outcome.message,
        "denials": report.denials.iter().map(|denial| (&denial.subject, &denial.detail)).collect::<Vec<_>>(),
        "question": report.question,
        "claim": report.claim,
    })
}

impl Suite<'_> {
    async fn read(&self, case: &Case, chunks: Vec<(Channel, &[u8])>) -> (AdapterReport, Option<CallRecord>) {
        self.adapter.read_recorded(&case.task, chunks, case.exit).await
    }

    async fn whole(&self, case: &Case) -> (AdapterReport, Option<CallRecord>) {
        self.read(case, vec![(Channel::Out, &*case.out), (Channel::Err, &*case.err)]).await
    }

    async fn twice(&self, report: &mut Report) {
        let (mut problems, mut most) = (Vec::new(), None);
        for case in &self.cases {
            let plans: [Planned; 2] = [
                self.adapter.prepare_recorded(&case.task).await,
                self.adapter.prepare_recorded(&case.task).await,
            ];
            match &plans {
                [Ok((one, bill)), Ok((two, _))] => {
                    keep(&mut most, Cost::from(&bill.bill));
                    if one != two {
                        problems.push(format!("preparing {} twice gives two plans", case.name));
                    }
                }
                [Err(one), Err(two)] if one.failure == two.failure => {}
                _ => problems.push(format!("preparing {} twice gives two answers", case.name)),
            }
            let (one, two) = (self.whole(case).await.0, self.whole(case).await.0);
            if understood(&one) != understood(&two) {
                problems.push(format!("reading {} twice gives two reports", case.name));
            }
        }
        let seen = || format!("{} tasks and transcripts, equal plans and reports", self.cases.len());
        report.add("twice-run", first(&problems, seen), most);
    }

    async fn unknowns(&self, report: &mut Report) {
        let (mut count, mut problems) = (0, Vec::new());
        for case in &self.cases {
            count += 2;
            let mut strange = case.task.clone();
            strange.attrs.insert("x-unknown".to_owned(), "of a later version".to_owned());
            if let Err(error) = self.adapter.prepare(&strange).await
                && (trap(&error).is_some() || self.adapter.prepare(&case.task).await.is_ok())
            {
                problems.push(format!("an unknown fact about the task {}: {}", case.name, error.failure));
            }
            // Only where the transcript is made of JSON lines is an unknown one an event of a later version.
            let mut lines = Vec::new();
            for line in case.out.split_inclusive(|byte| *byte == b'\n') {
                lines.extend_from_slice(b"{\"type\":\"x-unknown-event\",\"x\":{\"deep\":[1,null]}}\n");
                lines.extend_from_slice(line);
            }
            let (plain, _) = self.whole(case).await;
            let (other, _) = self.read(case, vec![(Channel::Out, &lines), (Channel::Err, &case.err)]).await;
            if let Some(error) = other.fault {
                problems.push(format!("unknown events in {}: {}", case.name, error.failure));
            } else if (&plain.counters, plain.cost_microusd, plain.outcome.code)
                != (&other.counters, other.cost_microusd, other.outcome.code)
            {
                problems.push(format!("unknown events change usage or outcome of {}", case.name));
            }
        }
        let seen = || format!("{count} tasks and transcripts with facts and events of a later version");
        report.add("unknowns", first(&problems, seen), None);
    }

    async fn refusals(&self, report: &mut Report) {
        let (mut count, mut problems) = (0_u64, Vec::new());
        for case in &self.cases {
            let Ok((_, record)) = self.adapter.prepare_recorded(&case.task).await else { continue };
            for number in 1..=record.bill.host_calls.min(400) {
                let probe = Probe { refuse_call: Some(number), ..Probe::default() };
                let adapter = self.adapter.with_limits(Limits { probe, ..self.limits.clone() });
                count += 1;
                // A plan without program is what a refused program leads to: the host says so, nothing is started.
                if let Err(error) = adapter.prepare(&case.task).await
                    && let Some(trap) = trap(&error).filter(|_| error.code() != "contract-mismatch")
                {
                    problems.push(format!(
                        "with host call {number} of {} refused: {trap}; a refusal is an answer, return a fault",
                        case.name
                    ));
                }
            }
        }
        match count {
            0 => report.skip("refusals", "no task can be prepared; write a fixture with parameters that fit"),
            _ => report.add(
                "refusals",
                first(&problems, || format!("{count} host calls refused, never a trap")),
                None,
            ),
        }
    }

    async fn limits(&self, report: &mut Report) {
        let (mut most, mut problems) = (None, Vec::new());
        let long: Vec<u8> = [b"{\"type\":\"".as_slice(), &vec![b'x'; LONG_LINE], b"\"}\n"].concat();
        let binary: Vec<u8> = vec![0xff; LONG_LINE];
        // Two cases are enough: the lines are the same, and there are megabytes of them.
        for case in self.cases.iter().take(2) {
            let many = case.out.repeat((LONG_LINE / case.out.len().max(1)).clamp(1, 10_000));
            for (what, bytes) in
                [("a line of 4 MiB", &long), ("4 MiB that are no text", &binary), ("10,000 times", &many)]
            {
                let mut chunks: Vec<(Channel, &[u8])> =
                    bytes.chunks(64 << 10).map(|chunk| (Channel::Out, chunk)).collect();
                chunks.push((Channel::Out, &case.out));
                chunks.extend(binary.chunks(64 << 10).map(|chunk| (Channel::Err, chunk)));
                let (read, record) = self.read(case, chunks).await;
                if let Some(record) = record {
                    keep(&mut most, Cost::from(&record.bill));
                }
                if let Some(error) = read.fault.filter(|error| is_limit(error.code())) {
                    problems.push(format!("{what} in {}: {}", case.name, error.failure));
                }
            }
        }
        let seen = || "lines of 4 MiB and long transcripts, within every limit".to_owned();
        report.add("limits", first(&problems, seen), most);
    }

    async fn chunks(&self, report: &mut Report) {
        let (mut count, mut problems) = (0, Vec::new());
        for case in &self.cases {
            let (whole, _) = self.whole(case).await;
            if whole.fault.is_some() {
                continue;
            }
            let whole = understood(&whole);
            let mut tried: Vec<(String, Chunks<'_>)> = Vec::new();
            let step = case.out.len().div_ceil(CUTS_MAX).max(1);
            for cut in (0..=case.out.len()).step_by(step) {
                let (head, tail) = case.out.split_at(cut);
                let chunks = vec![(Channel::Out, head), (Channel::Out, tail), (Channel::Err, &*case.err)];
                tried.push((format!("a cut at byte {cut}"), chunks));
            }
            for size in [1, 2, 3, 7, 61, 4_096] {
                // Interleaved as two pipes may be.
                let mut chunks: Vec<(Channel, &[u8])> = Vec::new();
                let mut err = case.err.chunks(size);
                for chunk in case.out.chunks(size) {
                    chunks.push((Channel::Out, chunk));
                    chunks.extend(err.next().map(|chunk| (Channel::Err, chunk)));
                    chunks.push((Channel::Out, &[]));
                }
                chunks.extend(err.map(|chunk| (Channel::Err, chunk)));
                tried.push((format!("pieces of {size}, both channels in turn"), chunks));
            }
            for (what, chunks) in tried {
                count += 1;
                let (other, _) = self.read(case, chunks).await;
                if let Some(error) = other.fault {
                    problems.push(format!("{what} in {}: {}", case.name, error.failure));
                    continue;
                }
                let other = understood(&other);
                if other != whole {
                    let key = whole
                        .as_object()
                        .into_iter()
                        .flatten()
                        .find(|(key, value)| other.get(*key) != Some(value));
                    let key = key.map_or("?", |(key, _)| key);
                    problems.push(format!(
                        "{what} changes the {key} of {}: {}, then {}; keep what is not a whole line until the rest comes",
                        case.name, whole[key], other[key]
                    ));
                }
            }
        }
        report.add(
            "chunks",
            first(&problems, || format!("{count} ways to cut the transcripts, equal reports")),
            None,
        );
    }

    async fn damage(&self, report: &mut Report) {
        let (mut count, mut problems) = (0, Vec::new());
        for case in &self.cases {
            let mut broken: Vec<(String, Vec<u8>)> = Vec::new();
            let step = case.out.len().div_ceil(60).max(1);
            for at in (0..case.out.len()).step_by(step) {
                broken.push((format!("nothing after byte {at}"), case.out[..at].to_vec()));
                let mut bytes = case.out.clone();
                bytes[at] = 0xff;
                broken.push((format!("byte {at} is no UTF-8"), bytes));
                let mut bytes = case.out.clone();
                bytes[at] = b'{';
                broken.push((format!("byte {at} is a brace"), bytes));
            }
            for killed in [
                ExitInfo { signal: Some(9), ..ExitInfo::default() },
                ExitInfo { timed_out: true, ..case.exit },
            ] {
                count += 1;
                let chunks = [(Channel::Out, &*case.out)];
                let read = self.adapter.read_chunks(&case.task, chunks, killed).await;
                if let Some(trap) = read.fault.as_ref().and_then(trap) {
                    problems.push(format!("{} ended by force: {trap}", case.name));
                }
            }
            for seed in 0..RANDOM {
                broken.push((format!("random transcript {seed}"), noise(&case.out, seed)));
            }
            for (what, bytes) in broken {
                count += 1;
                let (read, _) =
                    self.read(case, vec![(Channel::Out, &bytes), (Channel::Err, &case.err)]).await;
                if let Some(trap) = read.fault.as_ref().and_then(trap) {
                    problems.push(format!(
                        "{what} in {}: {trap}; a line that cannot be read is skipped",
                        case.name
                    ));
                }
            }
        }
        let seen = || format!("{count} damaged transcripts (cut, no UTF-8, broken JSON), never a trap");
        report.add("damage", first(&problems, seen), None);
    }

    async fn secrets(&self, report: &mut Report) {
        let (mut count, mut problems) = (0, Vec::new());
        for case in &self.cases {
            let mut task = case.task.clone();
            task.secret_names.push(CANARY.to_owned());
            count += 1;
            if let Ok(plan) = self.adapter.prepare(&task).await {
                let stdin = ("standard input", plan.stdin.as_str());
                let args = plan.args.iter().map(|arg| ("an argument", arg.as_str()));
                let env = plan.env.values().map(|value| ("a plain variable", value.as_str()));
                let files = plan.files.values().map(|text| ("a file", text.as_str()));
                let leaks: Vec<&str> = std::iter::once(stdin)
                    .chain(args)
                    .chain(env)
                    .chain(files)
                    .filter(|(_, text)| text.contains(CANARY))
                    .map(|(place, _)| place)
                    .collect();
                if !leaks.is_empty() {
                    problems.push(format!(
                        "the plan of {} names a secret in {}; a secret goes into a variable with env-secret, nowhere else",
                        case.name,
                        leaks.join(", ")
                    ));
                }
                let mapped = plan.env_secrets.values().find(|secret| !task.secret_names.contains(secret));
                if let Some(secret) = mapped {
                    problems.push(format!("the plan of {} maps {secret}, which was not offered", case.name));
                }
            }
            // None at all: a fault that says which is missing, or a plan without it.
            task.secret_names.clear();
            if let Err(error) = self.adapter.prepare(&task).await
                && let Some(trap) = trap(&error)
            {
                problems.push(format!("without any secret, {}: {trap}", case.name));
            }
        }
        let seen =
            || format!("{count} tasks; names of secrets stand where variables are mapped, nowhere else");
        report.add("secrets", first(&problems, seen), None);
    }

    async fn paths(&self, report: &mut Report) {
        let (mut count, mut problems) = (0, Vec::new());
        for case in &self.cases {
            for path in
                ["../../etc/passwd", "/etc/passwd", "a/../../b", "a\\..\\b", "x/./y", "caf\u{e9}\u{202e}"]
            {
                for task in with_path(&case.task, path) {
                    count += 1;
                    match self.adapter.prepare(&task).await {
                        Ok(plan) => {
                            let outside = plan.files.keys().find(|file| escapes(file));
                            if let Some(file) = outside {
                                problems.push(format!(
                                    "with {path:?} in {}: the plan writes {file:?}",
                                    case.name
                                ));
                            }
                        }
                        Err(error) => problems.extend(
                            trap(&error)
                                .map(|trap| format!("with {path:?} in a field of {}: {trap}", case.name)),
                        ),
                    }
                }
            }
        }
        let seen =
            || format!("{count} tasks with paths that lead out of the workspace; nothing is written there");
        report.add("path-escapes", first(&problems, seen), None);
    }

    async fn traps(&self, report: &mut Report) {
        let (mut count, mut problems) = (0_u64, Vec::new());
        let mut note = |what: String, failure: &Failure| {
            if !is_limit(failure.code())
                && let Some(trap) = trap_of(failure).filter(|_| failure.code() != "contract-mismatch")
            {
                problems.push(format!("{what}: {trap}"));
            }
        };
        for case in &self.cases {
            let params =
                case.task.attrs.get(attr::PARAMS).and_then(|json| serde_json::from_str::<Value>(json).ok());
            let params = params.unwrap_or_else(|| json!({}));
            let texts = ["", "null", "[]", "{", "7", "\"x\""].map(str::to_owned);
            let wrong =
                mutations(&params, MUTATIONS).into_iter().map(|params| params.to_string()).chain(texts);
            for params in wrong {
                count += 1;
                let mut task = case.task.clone();
                task.attrs.insert(attr::PARAMS.to_owned(), params.clone());
                if let Err(error) = self.adapter.prepare(&task).await {
                    note(format!("params {params} in {}", case.name), &error.failure);
                }
            }
            for input in ["", "null", "[", "{\"x\":1e400}", "\"\\ud800\""] {
                count += 1;
                let task = AdapterTask { input_json: input.to_owned(), ..case.task.clone() };
                if let Err(error) = self.adapter.prepare(&task).await {
                    note(format!("input {input:?} in {}", case.name), &error.failure);
                }
            }
            if let Some(fault) = self.whole(case).await.0.fault {
                note(format!("the transcript of {}", case.name), &fault.failure);
            }
        }
        let seen = || format!("{count} tasks with something wrong, never a trap");
        report.add("no-traps", first(&problems, seen), None);
    }
}

/// Copies of a task with a path in each field that an author may take for a file name.
fn with_path(task: &AdapterTask, path: &str) -> Vec<AdapterTask> {
    let edit = |change: &dyn Fn(&mut AdapterTask)| {
        let mut copy = task.clone();
        change(&mut copy);
        copy
    };
    let mut copies = vec![
        edit(&|task| task.prompt = path.to_owned()),
        edit(&|task| task.model = Some(path.to_owned())),
        edit(&|task| task.input_json = json!({ "file": path, "path": path, "name": path }).to_string()),
        edit(&|task| drop(task.attrs.insert(attr::SESSION_ID.to_owned(), path.to_owned()))),
        edit(&|task| task.system_prompt = Some(path.to_owned())),
    ];
    let params = task
        .attrs
        .get(attr::PARAMS)
        .and_then(|json| serde_json::from_str::<BTreeMap<String, Value>>(json).ok());
    for key in params.iter().flat_map(BTreeMap::keys) {
        let mut params = params.clone().unwrap_or_default();
        params.insert(key.clone(), json!(path));
        copies
            .push(edit(&|task| drop(task.attrs.insert(attr::PARAMS.to_owned(), json!(params).to_string()))));
    }
    copies
}

fn escapes(path: &str) -> bool {
    path.starts_with('/')
        || path.contains('\\')
        || path.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// Pieces of the transcript in any order, with bytes of no meaning between them.
fn noise(transcript: &[u8], seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut bytes = Vec::new();
    let json = [
        "{}",
        "[]",
        "null",
        "{\"type\":null}",
        "{\"type\":{}}",
        "{\"usage\":{\"input\":-1}}",
        "\"",
        "{\"type\":\"result\"}",
        "{\"pangolin\":\"usage\",\"input\":\"many\",\"cost_usd\":1e999}",
    ];
    for _ in 0..dice.below(40) + 2 {
        match dice.below(4) {
            0 => bytes.extend(dice.pick(&json).map_or(&b""[..], |text| text.as_bytes())),
            1 => bytes.extend(
                (0..dice.below(20)).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect::<Vec<_>>(),
            ),
            _ => {
                let from = dice.below(transcript.len() + 1);
                let to = (from + dice.below(300)).min(transcript.len());
                bytes.extend_from_slice(&transcript[from..to]);
            }
        }
        if dice.below(2) == 0 {
            bytes.push(b'\n');
        }
    }
    bytes
}
