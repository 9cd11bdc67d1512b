//! Replay of a bundle: with nothing but its bytes.

use std::{borrow::Cow, collections::BTreeMap};

use pangolin_audit::{
    bundle::{Bundle, FormatError},
    canon::{DecodeError, decode_entry},
    rebuild::{Documents, Rebuild},
};
use pangolin_core::{
    entry::{Entry, EntryBody},
    ids::Digest,
    pattern::DecisionRecord,
    state::RunState,
};
use pangolin_plugin_host::{PATTERN_CONTRACT, PatternComponent, PluginHost, Profile, engine_id};

use crate::{
    ask::Ask,
    compare::Differs,
    judge::{Judged, ask_again, judge, recorded},
    report::{Component, Difference, ReplayReport},
};

/// What a replay is given besides the bundle.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Components that the bundle only names. Taken by their digest, so a wrong one is not used.
    pub components: Vec<Vec<u8>>,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Steps that were looked at.
    pub done: u64,
    /// Recorded steps.
    pub total: u64,
}

/// Executes every recorded step of the run in `bundle` again, each with the component that decided it, and compares.
/// `progress` is told before each step. Needs a tokio runtime with time enabled; compiling happens on its blocking
/// threads.
///
/// It does not verify the bundle: that comes first ([`pangolin_audit::verify::verify_bundle`]). What it cannot read it
/// reports as not executed.
///
/// # Errors
/// [`FormatError`] when the bytes are not a bundle.
pub async fn replay(
    bundle: &[u8],
    host: &PluginHost,
    given: &Given,
    mut progress: impl FnMut(Progress),
) -> Result<ReplayReport, FormatError> {
    let bundle = Bundle::parse(bundle)?;
    let mut report = ReplayReport::empty();
    report.run_id = Some(bundle.run.to_string());
    let read: Vec<Result<Entry, DecodeError>> =
        bundle.entries.iter().map(|raw| decode_entry(raw.get().as_bytes())).collect();
    let records: Vec<(u64, &DecisionRecord)> = (0..)
        .zip(&read)
        .filter_map(|(seq, entry)| match &entry.as_ref().ok()?.body {
            EntryBody::PatternDecided(record) => Some((seq, &**record)),
            _ => None,
        })
        .collect();
    report.steps = records.len() as u64;
    let total = report.steps;
    let mut components = Components::new(&bundle, host, given);
    let mut run = Rebuild::new(&bundle, records.iter().map(|(_, record)| *record));
    let moves: Vec<(u64, Digest)> = (0..)
        .zip(&read)
        .filter_map(|(seq, entry)| match &entry.as_ref().ok()?.body {
            EntryBody::PatternMoved { to, .. } => Some((seq, *to)),
            _ => None,
        })
        .collect();
    let mut done = 0;
    for (seq, entry) in (0_u64..).zip(&read) {
        if done == total {
            break;
        }
        let problem = match entry {
            Err(error) => Some(error.to_string()),
            Ok(entry) => match run.entry(entry) {
                Err(error) => Some(error.to_string()),
                Ok(None) => None,
                Ok(Some(seen)) => {
                    let (EntryBody::PatternDecided(record), Some(state)) = (&entry.body, run.state()) else {
                        continue;
                    };
                    progress(Progress { done, total });
                    done += 1;
                    let step = Step { seq, record, state, view: seen };
                    // Who takes over later claims to give the same answer to this step.
                    let movers: Vec<Digest> =
                        moves.iter().filter(|(moved, _)| *moved > seq).map(|(_, to)| *to).collect();
                    components.step(&step, &movers, &mut report).await;
                    None
                }
            },
        };
        if let Some(problem) = problem {
            let reason = format!("the run cannot be rebuilt beyond entry seq {seq}: {problem}");
            for (seq, record) in records.iter().skip(usize::try_from(done).unwrap_or(usize::MAX)) {
                report.skip(record.step, *seq, reason.clone());
            }
            break;
        }
        if report.difference.is_some() {
            break;
        }
    }
    report.components = components.bills;
    Ok(report.conclude())
}

struct Step<'a> {
    seq: u64,
    record: &'a DecisionRecord,
    state: &'a RunState,
    view: pangolin_audit::rebuild::Seen,
}

/// The components of a bundle, loaded when they are needed.
struct Components<'a> {
    bundle: &'a Bundle<'a>,
    host: &'a PluginHost,
    given: BTreeMap<Digest, &'a [u8]>,
    loaded: BTreeMap<Digest, Result<PatternComponent, NotLoaded>>,
    bills: Vec<Component>,
}

/// Why there is no component to ask.
#[derive(Debug, Clone)]
struct NotLoaded {
    /// Code of the plugin host, when it refused the component.
    code: Option<&'static str>,
    /// One sentence.
    reason: String,
}

impl<'a> Components<'a> {
    fn new(bundle: &'a Bundle<'a>, host: &'a PluginHost, given: &'a Given) -> Self {
        let given = given.components.iter().map(|bytes| (Digest::of(bytes), bytes.as_slice())).collect();
        Self { bundle, host, given, loaded: BTreeMap::new(), bills: Vec::new() }
    }

    async fn step(&mut self, step: &Step<'_>, movers: &[Digest], report: &mut ReplayReport) {
        let Step { seq, record, state, view: seen } = step;
        let bill = self.bill(record);
        self.bills[bill].steps += 1;
        self.bills[bill].fuel_recorded = self.bills[bill].fuel_recorded.saturating_add(record.fuel);
        let differs = |component: Digest, what: Differs| {
            Some(Difference { step: record.step, seq: *seq, component, what })
        };
        if seen.digest != record.view {
            let (recorded, now) = (record.view.to_string(), seen.digest.to_string());
            let what = Differs::new(None, "view", Some(&recorded), Some(&now));
            report.difference = differs(record.component, what);
            return;
        }
        let before = match recorded(record, self.bundle) {
            Ok(before) => before,
            Err(reason) => return report.skip(record.step, *seq, reason),
        };
        if let Err(reason) = servable(record) {
            return report.skip(record.step, *seq, reason);
        }
        if record.engine != engine_id() {
            report.note(format!("recorded with {}, executed with {}", record.engine, engine_id()));
        }
        for (position, digest) in std::iter::once(&record.component).chain(movers).enumerate() {
            let component = match self.load(digest).await {
                Ok(component) => component,
                // It could not be loaded then either.
                Err(NotLoaded { code: Some(code), .. })
                    if record.failure.as_ref().is_some_and(|failure| failure.code == code) =>
                {
                    report.agreed += u64::from(position == 0);
                    continue;
                }
                Err(NotLoaded { reason, .. }) => {
                    report.skip(record.step, *seq, reason);
                    continue;
                }
            };
            let answer = ask_again(&component, record, &seen.view).await;
            let fuel = answer.as_ref().map_or(0, |answer| answer.fuel);
            match judge(
                record,
                &before,
                answer.as_ref(),
                state,
                &component.limits_over(seen.view.items().len()),
            ) {
                Judged::Agrees if position == 0 => {
                    report.agreed += 1;
                    // What a failed step used is in its record, but not told when it fails now.
                    let fuel = if record.failure.is_some() { record.fuel } else { fuel };
                    self.bills[bill].fuel_now = self.bills[bill].fuel_now.saturating_add(fuel);
                }
                Judged::Agrees => report.moves_checked += 1,
                Judged::Differs(what) => {
                    report.difference = differs(*digest, what);
                    return;
                }
                Judged::Unrepeatable(reason) => {
                    report.unrepeatable += u64::from(position == 0);
                    report.note(format!("step {}: {reason}", record.step));
                    self.bills[bill].fuel_now = self.bills[bill].fuel_now.saturating_add(record.fuel);
                }
                Judged::NotExecuted(reason) => report.skip(record.step, *seq, reason),
            }
        }
    }

    fn bill(&mut self, record: &DecisionRecord) -> usize {
        if let Some(known) = self.bills.iter().position(|bill| bill.digest == record.component) {
            return known;
        }
        self.bills.push(Component {
            digest: record.component,
            contract: record.contract.clone(),
            engine: record.engine.clone(),
            profile: record.profile.clone(),
            steps: 0,
            fuel_recorded: 0,
            fuel_now: 0,
        });
        self.bills.len() - 1
    }

    async fn load(&mut self, digest: &Digest) -> Result<PatternComponent, NotLoaded> {
        if let Some(known) = self.loaded.get(digest) {
            return known.clone();
        }
        let loaded = self.fetch(digest).await;
        self.loaded.insert(*digest, loaded.clone());
        loaded
    }

    async fn fetch(&self, digest: &Digest) -> Result<PatternComponent, NotLoaded> {
        let not_loaded =
            |code, why: String| Err(NotLoaded { code, reason: format!("component {digest}{why}") });
        let bytes = match (self.given.get(digest), self.bundle.document(digest)) {
            (Some(given), _) => Cow::Borrowed(*given),
            (None, Ok(bytes)) => bytes,
            (None, Err(why)) => {
                let size = self.bundle.external.get(digest).map(|size| format!(" ({size} bytes)"));
                let size = size.unwrap_or_default();
                return not_loaded(None, format!("{size} {why}; give its file with --component"));
            }
        };
        let (host, bytes) = (self.host.clone(), bytes.into_owned());
        match tokio::task::spawn_blocking(move || host.load_pattern(&bytes)).await {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(error)) => not_loaded(Some(error.code()), format!(" cannot be loaded: {}", error.failure)),
            Err(error) => not_loaded(None, format!(" cannot be loaded: {error}")),
        }
    }
}

/// Whether this program serves what the step was recorded with.
fn servable(record: &DecisionRecord) -> Result<(), String> {
    let DecisionRecord { contract, profile, .. } = record;
    let ours = Profile::Pure.id();
    if profile != ours {
        return Err(format!("it ran with engine profile {profile:?}, this program has {ours:?}"));
    }
    let newer = || {
        Err(format!(
            "it was served contract {contract:?}, this program serves up to {PATTERN_CONTRACT:?}; use a newer pangolin"
        ))
    };
    match (version(contract), version(PATTERN_CONTRACT)) {
        (Some((name, major, minor)), Some((our_name, our_major, our_minor)))
            if name == our_name && major == our_major && minor <= our_minor =>
        {
            Ok(())
        }
        _ => newer(),
    }
}

/// `name@major.minor.…`
fn version(contract: &str) -> Option<(&str, u32, u32)> {
    let (name, version) = contract.split_once('@')?;
    let mut numbers = version.split('.').map(str::parse);
    Some((name, numbers.next()?.ok()?, numbers.next()?.ok()?))
}
