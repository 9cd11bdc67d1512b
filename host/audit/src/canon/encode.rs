//! The fast encoder of ledger entries.
//!
//! Written by hand: members in ascending key order per kind, no intermediate tree. Every pattern names every field,
//! so that a field added to an entry does not compile here until it has its place.

use std::collections::BTreeMap;

use pangolin_core::{
    entry::{
        ENTRY_BYTES_MAX, Entry, EntryBody, Evidence, Failure, FinalStatus, IsolationUsed, RetryPolicy,
        RunSubmitted, Usage, VerifyResult,
    },
    ids::{Digest, ItemId},
    outputs::OutputsTotal,
    pattern::{DecisionRecord, PatternFailure, StepLimits},
};
use thiserror::Error;

use super::{
    INTEGER_MAX,
    words::{class_text, isolation_text, outcome_text, policy_text, quality_text, reason_text, status_text},
};

/// Why an entry cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Longer than [`ENTRY_BYTES_MAX`]; put the content into a blob and reference it.
    #[error(
        "entry {seq} of run {run} is {bytes} bytes long, the limit is 60000; store the content as a blob"
    )]
    TooLong {
        /// The run.
        run: String,
        /// Position.
        seq: u64,
        /// Encoded length.
        bytes: usize,
    },
    /// An integer that canonical JSON cannot carry exactly.
    #[error("entry {seq} of run {run}: {field} is {value}, beyond ±(2^53-1)")]
    IntegerTooLarge {
        /// The run.
        run: String,
        /// Position.
        seq: u64,
        /// Member name.
        field: &'static str,
        /// The number.
        value: i128,
    },
}

/// Canonical bytes of an entry.
///
/// # Errors
/// [`EncodeError`] when it is too long or holds an integer beyond ±(2^53−1).
pub fn encode_entry(entry: &Entry) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(512);
    encode_entry_into(entry, &mut out)?;
    Ok(out)
}

/// Appends the canonical bytes of an entry to `out`. On error `out` holds a part of them.
///
/// # Errors
/// As [`encode_entry`].
pub fn encode_entry_into(entry: &Entry, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let mut writer = Writer { out, too_large: None };
    writer.entry(entry);
    let too_large = writer.too_large;
    if let Some((field, value)) = too_large {
        let run = entry.run.to_string();
        return Err(EncodeError::IntegerTooLarge { run, seq: entry.seq, field, value });
    }
    let bytes = out.len() - start;
    if bytes > ENTRY_BYTES_MAX {
        return Err(EncodeError::TooLong { run: entry.run.to_string(), seq: entry.seq, bytes });
    }
    Ok(())
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// First integer that does not fit, with its member name.
    too_large: Option<(&'static str, i128)>,
}

impl Writer<'_> {
    fn entry(&mut self, entry: &Entry) {
        let Entry { v, run, seq, at, actor, prev, body } = entry;
        self.out.extend_from_slice(b"{\"actor\":");
        self.string(actor);
        self.integer("at", (*at).into());
        match body {
            EntryBody::RunSubmitted(submitted) => self.before_prev_submitted(submitted),
            EntryBody::ItemFired { item, attempt, dispatch, manifest } => {
                self.integer("attempt", (*attempt).into());
                self.text("dispatch", dispatch.as_str());
                self.text("item", item.as_str());
                self.kind(body);
                self.digest("manifest", manifest.as_ref());
            }
            EntryBody::ItemOutputs { item, attempt, dispatch, part, outputs } => {
                self.integer("attempt", (*attempt).into());
                self.text("dispatch", dispatch.as_str());
                self.text("item", item.as_str());
                self.kind(body);
                self.map("outputs", outputs, |writer, digest| writer.bare_digest(digest));
                self.integer("part", (*part).into());
            }
            EntryBody::ItemReconciled { item, attempt, status: _, failure, evidence } => {
                self.before_prev_attempt(*attempt, failure.as_ref(), evidence, item, body, None);
            }
            EntryBody::ItemRetried { item, attempt, failure, not_before, evidence } => {
                self.before_prev_attempt(*attempt, Some(failure), evidence, item, body, Some(*not_before));
            }
            EntryBody::ItemSkipped { items, cause } => {
                self.text("cause", cause.as_str());
                self.items(items);
                self.kind(body);
            }
            EntryBody::ItemDenied { item, failure } => {
                self.failure(failure);
                self.text("item", item.as_str());
                self.kind(body);
            }
            EntryBody::ItemCancelled { item } => {
                self.text("item", item.as_str());
                self.kind(body);
            }
            EntryBody::ItemTolerated { items, explanation, plugin } => {
                if !explanation.is_empty() {
                    self.text("explanation", explanation);
                }
                self.items(items);
                self.kind(body);
                self.digest("plugin", Some(plugin));
            }
            EntryBody::RunExtended { cause, items, document, explanation, plugin, supersedes: _, pins } => {
                if let Some(cause) = cause {
                    self.text("cause", cause.as_str());
                }
                self.digest("document", Some(document));
                if !explanation.is_empty() {
                    self.text("explanation", explanation);
                }
                self.items(items);
                self.kind(body);
                self.digest("pins", pins.as_ref());
                self.digest("plugin", plugin.as_ref());
            }
            EntryBody::PatternDecided(record) => self.before_prev_decided(record, body),
            EntryBody::PatternMoved { from, to: _, steps: _ } => {
                self.digest("from", Some(from));
                self.kind(body);
            }
            EntryBody::RunCancelled {} | EntryBody::RunClosed {} => self.kind(body),
            EntryBody::RunCompleted { outcome, counts } => {
                self.counts(counts);
                self.kind(body);
                self.text("outcome", outcome_text(*outcome));
            }
        }
        self.digest("prev", prev.as_ref());
        if let EntryBody::RunSubmitted(submitted) = body {
            self.text("queue", submitted.queue.as_str());
            self.retry(&submitted.retry);
        }
        if let EntryBody::ItemReconciled { evidence, .. } | EntryBody::ItemRetried { evidence, .. } = body {
            self.digest("result", evidence.result.as_ref());
        }
        if let EntryBody::PatternDecided(record) = body {
            self.text("profile", &record.profile);
        }
        self.text("run", run.as_str());
        if let EntryBody::PatternDecided(record) = body {
            self.integer("seed", record.seed.into());
            self.integer("seen", record.seen.into());
        }
        self.integer("seq", (*seq).into());
        match body {
            EntryBody::RunExtended { supersedes, .. } => {
                if !supersedes.is_empty() {
                    self.id_map("supersedes", supersedes);
                }
                self.integer("v", (*v).into());
            }
            EntryBody::PatternDecided(record) => {
                self.integer("step", record.step.into());
                self.integer("v", (*v).into());
                self.digest("view", Some(&record.view));
            }
            EntryBody::PatternMoved { from: _, to, steps } => {
                self.integer("steps", (*steps).into());
                self.digest("to", Some(to));
                self.integer("v", (*v).into());
            }
            EntryBody::ItemReconciled { status, evidence, .. } => self.after_seq(Some(*status), evidence, *v),
            EntryBody::ItemRetried { evidence, .. } => self.after_seq(None, evidence, *v),
            _ => self.integer("v", (*v).into()),
        }
        self.out.push(b'}');
    }

    fn before_prev_submitted(&mut self, submitted: &RunSubmitted) {
        let RunSubmitted {
            log,
            namespace,
            plan,
            items,
            queue: _,
            pins,
            base_commit,
            pattern,
            pattern_id,
            pattern_params,
            graph,
            retry: _,
            open_ended,
        } = submitted;
        if let Some(commit) = base_commit {
            self.text("base_commit", commit);
        }
        self.digest("graph", graph.as_ref());
        self.integer("items", (*items).into());
        self.text("kind", "run.submitted");
        self.text("log", log);
        self.text("namespace", namespace);
        if *open_ended {
            self.out.extend_from_slice(b",\"open_ended\":true");
        }
        self.digest("pattern", pattern.as_ref());
        if let Some(id) = pattern_id {
            self.text("pattern_id", id);
        }
        self.digest("pattern_params", pattern_params.as_ref());
        self.digest("pins", pins.as_ref());
        self.digest("plan", Some(plan));
    }

    fn before_prev_decided(&mut self, record: &DecisionRecord, body: &EntryBody) {
        let DecisionRecord {
            step: _,
            component,
            contract,
            engine,
            profile: _,
            view: _,
            seen: _,
            seed: _,
            now,
            grant,
            limits,
            fuel,
            peak_memory,
            decisions,
            closes,
            failure,
        } = record;
        if *closes {
            self.out.extend_from_slice(b",\"closes\":true");
        }
        self.digest("component", Some(component));
        self.text("contract", contract);
        self.digest("decisions", Some(decisions));
        self.text("engine", engine);
        if let Some(PatternFailure { code, message, policy }) = failure {
            self.member("failure");
            self.out.push(b'{');
            self.text("code", code);
            self.text("message", message);
            self.text("policy", policy_text(*policy));
            self.out.push(b'}');
        }
        self.integer("fuel", (*fuel).into());
        self.digest("grant", grant.as_ref());
        self.kind(body);
        if let Some(StepLimits { fuel, memory, wall_ms, output_bytes, output_pieces, items }) = limits {
            self.member("limits");
            self.out.push(b'{');
            self.integer("fuel", (*fuel).into());
            self.integer("items", (*items).into());
            self.integer("memory", (*memory).into());
            self.integer("output_bytes", (*output_bytes).into());
            self.integer("output_pieces", (*output_pieces).into());
            self.integer("wall_ms", (*wall_ms).into());
            self.out.push(b'}');
        }
        self.integer("now", (*now).into());
        self.integer("peak_memory", (*peak_memory).into());
    }

    fn before_prev_attempt(
        &mut self,
        attempt: u32,
        failure: Option<&Failure>,
        evidence: &Evidence,
        item: &ItemId,
        body: &EntryBody,
        not_before: Option<i64>,
    ) {
        let Evidence {
            exit_code,
            result: _,
            patch,
            tree: _,
            outputs,
            outputs_total,
            block_artifacts,
            events,
            transcript: _,
            verify: _,
            usage: _,
            isolation,
            started_at: _,
            finished_at,
        } = evidence;
        self.integer("attempt", attempt.into());
        self.digest("block_artifacts", block_artifacts.as_ref());
        self.digest("events", events.as_ref());
        if let Some(code) = exit_code {
            self.integer("exit_code", (*code).into());
        }
        if let Some(failure) = failure {
            self.failure(failure);
        }
        if let Some(time) = finished_at {
            self.integer("finished_at", (*time).into());
        }
        if let Some(isolation) = isolation {
            self.isolation(isolation);
        }
        self.text("item", item.as_str());
        self.kind(body);
        if let Some(time) = not_before {
            self.integer("not_before", time.into());
        }
        if !outputs.is_empty() {
            self.map("outputs", outputs, |writer, digest| writer.bare_digest(digest));
        }
        if let Some(OutputsTotal { count, digest }) = outputs_total {
            self.member("outputs_total");
            self.out.push(b'{');
            self.integer("count", (*count).into());
            self.digest("digest", Some(digest));
            self.out.push(b'}');
        }
        self.digest("patch", patch.as_ref());
    }

    fn after_seq(&mut self, status: Option<FinalStatus>, evidence: &Evidence, v: u32) {
        if let Some(time) = evidence.started_at {
            self.integer("started_at", time.into());
        }
        if let Some(status) = status {
            self.text("status", status_text(status));
        }
        self.digest("transcript", evidence.transcript.as_ref());
        if let Some(tree) = &evidence.tree {
            self.text("tree", tree);
        }
        if let Some(usage) = &evidence.usage {
            self.usage(usage);
        }
        self.integer("v", v.into());
        if let Some(VerifyResult { passed, duration_ms }) = &evidence.verify {
            self.member("verify");
            self.out.push(b'{');
            self.integer("duration_ms", (*duration_ms).into());
            self.member("passed");
            self.out.extend_from_slice(if *passed { b"true" } else { b"false" });
            self.out.push(b'}');
        }
    }

    fn retry(&mut self, retry: &RetryPolicy) {
        let RetryPolicy { max_attempts, base_ms, cap_ms, timeout_ms } = retry;
        self.member("retry");
        self.out.push(b'{');
        self.integer("base_ms", (*base_ms).into());
        self.integer("cap_ms", (*cap_ms).into());
        self.integer("max_attempts", (*max_attempts).into());
        self.integer("timeout_ms", (*timeout_ms).into());
        self.out.push(b'}');
    }

    fn failure(&mut self, failure: &Failure) {
        let Failure { reason, class, message } = failure;
        self.member("failure");
        self.out.push(b'{');
        self.text("class", class_text(*class));
        self.text("message", message);
        self.text("reason", reason_text(*reason));
        self.out.push(b'}');
    }

    fn isolation(&mut self, isolation: &IsolationUsed) {
        let IsolationUsed { level, mechanisms, network, image } = isolation;
        self.member("isolation");
        self.out.push(b'{');
        if let Some(image) = image {
            self.text("image", image);
        }
        self.text("level", isolation_text(*level));
        self.member("mechanisms");
        self.strings(mechanisms.iter().map(String::as_str));
        self.text("network", network);
        self.out.push(b'}');
    }

    fn usage(&mut self, usage: &Usage) {
        let Usage { models, counters, cost_microusd, quality } = usage;
        self.member("usage");
        self.out.push(b'{');
        if let Some(cost) = cost_microusd {
            self.integer("cost_microusd", (*cost).into());
        }
        if !counters.is_empty() {
            self.map("counters", counters, |writer, count| {
                writer.bare_integer("counters", (*count).into());
            });
        }
        if !models.is_empty() {
            self.member("models");
            self.strings(models.iter().map(String::as_str));
        }
        self.text("quality", quality_text(*quality));
        self.out.push(b'}');
    }

    fn counts(&mut self, counts: &BTreeMap<FinalStatus, u64>) {
        let mut members: Vec<(&str, u64)> = counts.iter().map(|(s, n)| (status_text(*s), *n)).collect();
        members.sort_unstable();
        self.member("counts");
        self.out.push(b'{');
        for (status, count) in members {
            self.member(status);
            self.bare_integer("counts", count.into());
        }
        self.out.push(b'}');
    }

    /// An object with free keys, sorted by UTF-16 code units as RFC 8785 wants it.
    fn map<V>(&mut self, name: &str, map: &BTreeMap<String, V>, value: impl Fn(&mut Self, &V)) {
        self.member(name);
        self.out.push(b'{');
        let mut members: Vec<(&String, &V)> = map.iter().collect();
        // UTF-8 order (of the BTreeMap) and UTF-16 order agree unless surrogate pairs are involved.
        if members.iter().any(|(key, _)| !key.is_ascii()) {
            members.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
        }
        for (key, content) in members {
            self.comma();
            self.string(key);
            self.out.push(b':');
            value(self, content);
        }
        self.out.push(b'}');
    }

    /// Ids are ASCII, so the order of the map is the canonical one.
    fn id_map(&mut self, name: &str, map: &BTreeMap<ItemId, ItemId>) {
        self.member(name);
        self.out.push(b'{');
        for (key, value) in map {
            self.text(key.as_str(), value.as_str());
        }
        self.out.push(b'}');
    }

    fn items(&mut self, items: &[ItemId]) {
        self.member("items");
        self.strings(items.iter().map(ItemId::as_str));
    }

    fn strings<'s>(&mut self, texts: impl Iterator<Item = &'s str>) {
        self.out.push(b'[');
        for text in texts {
            self.comma();
            self.string(text);
        }
        self.out.push(b']');
    }

    fn kind(&mut self, body: &EntryBody) {
        self.text("kind", body.kind());
    }

    fn comma(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    /// `,"name":` without the comma after an opening brace. Names are plain ASCII.
    fn member(&mut self, name: &str) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.member(name);
        self.string(text);
    }

    fn digest(&mut self, name: &str, digest: Option<&Digest>) {
        if let Some(digest) = digest {
            self.member(name);
            self.bare_digest(digest);
        }
    }

    fn bare_digest(&mut self, digest: &Digest) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"";
        for (pair, byte) in text[8..72].chunks_exact_mut(2).zip(digest.as_bytes()) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        self.out.extend_from_slice(&text);
    }

    fn integer(&mut self, name: &'static str, value: i128) {
        self.member(name);
        self.bare_integer(name, value);
    }

    fn bare_integer(&mut self, name: &'static str, value: i128) {
        if value.unsigned_abs() > u128::from(INTEGER_MAX) {
            self.too_large.get_or_insert((name, value));
            return;
        }
        if value < 0 {
            self.out.push(b'-');
        }
        let mut digits = [0_u8; 20];
        let mut start = digits.len();
        // Checked above: at most 2^53 - 1.
        let mut rest = u64::try_from(value.unsigned_abs()).unwrap_or(INTEGER_MAX);
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[start..]);
    }

    /// A JSON string with the escapes of RFC 8785 section 3.2.2.2.
    fn string(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let bytes = text.as_bytes();
        self.out.push(b'"');
        let mut copied = 0;
        for (index, byte) in bytes.iter().enumerate() {
            if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
                continue;
            }
            self.out.extend_from_slice(&bytes[copied..index]);
            copied = index + 1;
            self.out.push(b'\\');
            match byte {
                b'"' | b'\\' => self.out.push(*byte),
                0x08 => self.out.push(b'b'),
                b'\t' => self.out.push(b't'),
                b'\n' => self.out.push(b'n'),
                0x0c => self.out.push(b'f'),
                b'\r' => self.out.push(b'r'),
                control => {
                    self.out.extend_from_slice(b"u00");
                    self.out.push(HEX[usize::from(control >> 4)]);
                    self.out.push(HEX[usize::from(control & 15)]);
                }
            }
        }
        self.out.extend_from_slice(&bytes[copied..]);
        self.out.push(b'"');
    }
}
