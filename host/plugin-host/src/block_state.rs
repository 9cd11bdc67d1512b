//! What one run of a block has done so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::{
    BlockArtifact, BlockBill, BlockDenial, BlockLimits, Contact, PluginEvidence, ProgramRun, RECORDS_MAX,
    Verdict,
};
use serde_json::Value;

use crate::{
    bindings::block::pangolin::base::types::Refusal,
    block::{BlockCall, Listing, blank},
    block_rules::Rules,
    block_world::{BlockWorld, WorldError},
    call::CallRecord,
    failure::{Failure, clip},
    state::{CallState, stop},
};

/// Longest summary of a verdict in bytes.
const SUMMARY_BYTES: usize = 1_000;

/// Longest subject of a refusal in bytes.
const SUBJECT_BYTES: usize = 1_000;

/// Largest integer that a record in canonical JSON carries exactly.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The block's part of the store data.
pub(crate) struct BlockState {
    pub(crate) world: Box<dyn BlockWorld>,
    pub(crate) rules: Rules,
    pub(crate) params: String,
    pub(crate) position: u32,
    pub(crate) attrs: BTreeMap<String, String>,
    pub(crate) read_bytes: u64,
    pub(crate) exec_runs: u32,
    pub(crate) fetches: u32,
    /// Only the parameters are told: whoever asks for more is stopped.
    params_only: bool,
    deadline: Instant,
    listing: Option<Listing>,
    verdict: Option<Verdict>,
    /// Value and size by key.
    evidence: BTreeMap<String, (Value, u64)>,
    evidence_bytes: u64,
    artifacts: BTreeMap<String, BlockArtifact>,
    artifact_bytes: u64,
    artifact_files: u32,
    denials: BTreeMap<(String, String, String), u64>,
    programs: Vec<ProgramRun>,
    contacts: Vec<Contact>,
    secrets_used: BTreeSet<String>,
    left_out: BTreeMap<String, u64>,
}

impl BlockState {
    pub(crate) fn new(world: Box<dyn BlockWorld>, rules: Rules, call: &BlockCall, wall: Duration) -> Self {
        let mut attrs = call.attrs.clone();
        attrs.insert("lens".to_owned(), call.lens.clone());
        Self {
            world,
            rules,
            params: call.params.to_string(),
            position: call.position,
            attrs,
            read_bytes: 0,
            exec_runs: 0,
            fetches: 0,
            params_only: false,
            deadline: Instant::now() + wall,
            listing: None,
            verdict: None,
            evidence: BTreeMap::new(),
            evidence_bytes: 0,
            artifacts: BTreeMap::new(),
            artifact_bytes: 0,
            artifact_files: 0,
            denials: BTreeMap::new(),
            programs: Vec::new(),
            contacts: Vec::new(),
            secrets_used: BTreeSet::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// The same for a call that only looks at the parameters.
    pub(crate) fn told_params_only(self) -> Self {
        Self { params_only: true, ..self }
    }

    pub(crate) const fn limits(&self) -> &BlockLimits {
        &self.rules.grant.limits
    }

    pub(crate) const fn has_verdict(&self) -> bool {
        self.verdict.is_some()
    }

    /// What is left of the block's wall time.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The files that the grant shows, and whether it hides some below `prefix`.
    pub(crate) fn listing(&mut self) -> Result<Listing, WorldError> {
        if let Some(listing) = &self.listing {
            return Ok(Arc::clone(listing));
        }
        let all = self.world.files()?;
        let shown: Listing =
            Arc::new(all.iter().filter(|entry| self.rules.may_read(&entry.path)).cloned().collect());
        self.listing = Some(Arc::clone(&shown));
        Ok(shown)
    }

    /// Something ran: the files may be others.
    pub(crate) fn forget_listing(&mut self) {
        self.listing = None;
    }

    /// A no, for the guest and for the record.
    pub(crate) fn refuse(&mut self, capability: &str, subject: &str, rule: impl Into<String>) -> Refusal {
        let subject = clip(subject.to_owned(), SUBJECT_BYTES);
        let rule = rule.into();
        let key = (capability.to_owned(), subject.clone(), rule.clone());
        let room = self.denials.len() < RECORDS_MAX;
        match self.denials.get_mut(&key) {
            Some(count) => *count += 1,
            None if room => drop(self.denials.insert(key, 1)),
            None => self.leave_out("denials"),
        }
        Refusal { capability: capability.to_owned(), subject, reason: rule }
    }

    /// Gives an error of the world its place: a refusal, or the end of the guest.
    pub(crate) fn refused_by_world(
        &mut self,
        capability: &str,
        subject: &str,
        error: WorldError,
    ) -> wasmtime::Result<Refusal> {
        match error {
            // Ordinary outcomes, not denials.
            WorldError::Missing | WorldError::Transport(_) => Ok(Refusal {
                capability: capability.to_owned(),
                subject: clip(subject.to_owned(), SUBJECT_BYTES),
                reason: error.to_string(),
            }),
            WorldError::Refused(rule) => Ok(self.refuse(capability, subject, rule)),
            WorldError::Broken(problem) => Err(stop(Failure::HostError { problem })),
        }
    }

    pub(crate) fn set_verdict(&mut self, passed: bool, summary: &str) {
        let line = summary.split_whitespace().collect::<Vec<_>>().join(" ");
        self.verdict = Some(Verdict { passed, summary: clip(line, SUMMARY_BYTES) });
    }

    pub(crate) fn add_evidence(&mut self, key: String, json: &str) -> wasmtime::Result<()> {
        let malformed = |reason: String| {
            stop(Failure::Refused {
                capability: "evidence".into(),
                subject: clip(key.clone(), SUBJECT_BYTES),
                reason: format!("{reason}; correct the plugin"),
            })
        };
        let key_fits = (1..=128).contains(&key.len())
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'));
        if !key_fits {
            return Err(malformed("a key has 1 to 128 characters of a-z A-Z 0-9 - _ . /".to_owned()));
        }
        let size = (key.len() + json.len()) as u64;
        // A key that comes again is replaced.
        let freed = self.evidence.get(&key).map_or(0, |(_, size)| *size);
        let total = self.evidence_bytes.saturating_sub(freed).saturating_add(size);
        let cap = self.limits().evidence_bytes;
        if total > cap {
            let what = "the evidence in bytes".to_owned();
            return Err(stop(Failure::OutputLimit { what, size: total, cap }));
        }
        let keys_cap = u64::from(self.limits().evidence_keys);
        if !self.evidence.contains_key(&key) && self.evidence.len() as u64 >= keys_cap {
            let what = "the number of evidence keys".to_owned();
            return Err(stop(Failure::OutputLimit { what, size: keys_cap + 1, cap: keys_cap }));
        }
        let value = serde_json::from_str(json).map_err(|error| malformed(format!("not JSON: {error}")))?;
        self.evidence_bytes = total;
        self.evidence.insert(key, (sealable(value), size));
        Ok(())
    }

    /// Counts one artifact more.
    pub(crate) fn take_artifact(&mut self) -> Result<(), String> {
        let cap = self.limits().artifact_files;
        if self.artifact_files >= cap {
            return Err(format!(
                "a block may start {cap} artifacts; put more into one, or raise the limit in the grant"
            ));
        }
        self.artifact_files += 1;
        Ok(())
    }

    /// Counts bytes of artifacts.
    pub(crate) fn take_artifact_bytes(&mut self, bytes: usize) -> Result<(), String> {
        let cap = self.limits().artifact_bytes;
        let total = self.artifact_bytes.saturating_add(bytes as u64);
        if total > cap {
            return Err(format!(
                "artifacts may have {cap} bytes together; write less, or raise the limit in the grant"
            ));
        }
        self.artifact_bytes = total;
        Ok(())
    }

    pub(crate) fn committed(&mut self, path: String, digest: Digest, size: u64) {
        self.artifacts.insert(path.clone(), BlockArtifact { path, digest, size });
    }

    pub(crate) fn ran(&mut self, run: ProgramRun) {
        if self.programs.len() < RECORDS_MAX {
            self.programs.push(run);
        } else {
            self.leave_out("programs");
        }
    }

    pub(crate) fn contacted(&mut self, contact: Contact) {
        if self.contacts.len() < RECORDS_MAX {
            self.contacts.push(contact);
        } else {
            self.leave_out("contacts");
        }
    }

    pub(crate) fn used_secret(&mut self, name: &str, place: &str, to: &str) {
        let used = clip(format!("{name} {place} {to}"), SUBJECT_BYTES);
        if self.secrets_used.len() < RECORDS_MAX {
            self.secrets_used.insert(used);
        } else if !self.secrets_used.contains(&used) {
            self.leave_out("secrets_used");
        }
    }

    fn leave_out(&mut self, list: &str) {
        *self.left_out.entry(list.to_owned()).or_default() += 1;
    }

    /// The record, and the world back.
    pub(crate) fn finish(
        mut self: Box<Self>,
        call: &BlockCall,
        digest: Digest,
        record: CallRecord,
        failure: Option<&Failure>,
    ) -> (PluginEvidence, Box<dyn BlockWorld>) {
        let mut evidence = blank(call, digest);
        evidence.verdict = self.verdict.take().filter(|_| failure.is_none());
        evidence.evidence =
            std::mem::take(&mut self.evidence).into_iter().map(|(key, (value, _))| (key, value)).collect();
        evidence.artifacts = std::mem::take(&mut self.artifacts).into_values().collect();
        evidence.denials = std::mem::take(&mut self.denials)
            .into_iter()
            .map(|((capability, subject, rule), count)| BlockDenial { capability, subject, rule, count })
            .collect();
        evidence.programs = std::mem::take(&mut self.programs);
        evidence.contacts = std::mem::take(&mut self.contacts);
        evidence.secrets_used = std::mem::take(&mut self.secrets_used).into_iter().collect();
        for line in record.log {
            if evidence.log.len() < RECORDS_MAX {
                evidence.log.push(format!("{} {}", word(line.level), line.text));
            } else {
                self.leave_out("log");
            }
        }
        if record.bill.log_dropped > 0 {
            *self.left_out.entry("log".to_owned()).or_default() += record.bill.log_dropped;
        }
        evidence.left_out = std::mem::take(&mut self.left_out);
        evidence.bill = BlockBill {
            peak_memory_bytes: record.bill.peak_memory_bytes,
            wall_us: record.bill.wall_us,
            read_bytes: self.read_bytes,
            host_calls: record.bill.host_calls,
        };
        evidence.failure = failure.map(crate::failure::Failure::record);
        (evidence, self.world)
    }
}

const fn word(level: crate::state::LogLevel) -> &'static str {
    match level {
        crate::state::LogLevel::Debug => "debug",
        crate::state::LogLevel::Info => "info",
        crate::state::LogLevel::Warn => "warn",
        crate::state::LogLevel::Error => "error",
    }
}

/// Integers beyond what canonical JSON carries become text; everything else stays.
fn sealable(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let fits = match (number.as_u64(), number.as_i64()) {
                (Some(large), _) => large <= INTEGER_MAX,
                (None, Some(negative)) => negative.unsigned_abs() <= INTEGER_MAX,
                (None, None) => true,
            };
            if fits { Value::Number(number) } else { Value::String(number.to_string()) }
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sealable).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, item)| (key, sealable(item))).collect())
        }
        other => other,
    }
}

fn outside() -> wasmtime::Error {
    stop(Failure::HostError { problem: "a block function was called outside of a block".into() })
}

fn only_params() -> wasmtime::Error {
    stop(Failure::HostError { problem: "only the parameters were to be looked at".into() })
}

impl CallState {
    /// Counts what a host function answers.
    pub(crate) fn answers(&mut self, bytes: usize) {
        self.crossed.to_guest = self.crossed.to_guest.saturating_add(bytes as u64);
    }

    /// What the block that runs in this store is told about its step; nothing about its world.
    pub(crate) fn step(&mut self) -> wasmtime::Result<&mut BlockState> {
        self.block.as_deref_mut().ok_or_else(outside)
    }

    /// The block that runs in this store.
    pub(crate) fn block(&mut self) -> wasmtime::Result<&mut BlockState> {
        let block = self.step()?;
        if block.params_only { Err(only_params()) } else { Ok(block) }
    }

    /// Like [`Self::block`], taken out: to be put back.
    pub(crate) fn take_block(&mut self) -> wasmtime::Result<Box<BlockState>> {
        self.block()?;
        self.block.take().ok_or_else(outside)
    }
}
