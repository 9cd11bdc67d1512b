//! Finds credentials in what an agent wrote, before anybody sees or merges it.
//!
//! By default it looks at the added lines of changed text files only. What it finds is named by rule, place and a short
//! hash; the secret itself is never in its answers. There is no marker for the code to switch a line off, because the
//! agent could write it: exceptions are parameters.
//!
//! Deliberately not here: asking a provider whether a credential works, binary formats, UTF-16, archives, secrets that a
//! program assembles.

mod assignment;
mod keyblock;
mod params;
mod random;
mod scanner;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
};

use pangolin_block_sdk::{
    Block, Fault, Findings, Input, Level, LineReader, LineSet, MAX_SEGMENT, Output, Refusal, clip, refused,
};
use serde::Serialize;

use crate::{
    keyblock::KeyBlocks,
    params::{Params, Scope},
    scanner::{FileKind, Hit, Scanner},
};

/// How much of a file tells whether it is binary.
const SNIFF_BYTES: u64 = 8_000;

/// The block.
#[derive(Debug)]
pub struct SecretScan;

/// Evidence: one finding.
#[derive(Debug, Serialize)]
struct Finding {
    rule: String,
    level: Level,
    path: String,
    line: u64,
    column: u64,
    /// What may be shown of it: a known prefix or the kind of name it was assigned to.
    shown: String,
    length: usize,
    hash: String,
}

#[derive(Debug, Serialize)]
struct Unread {
    path: String,
    reason: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    files: u64,
    lines: u64,
    denied: u64,
    warned: u64,
    allowed: u64,
    skipped_binary: u64,
    skipped_paths: u64,
    by_rule: BTreeMap<String, u64>,
}

struct Run<'a> {
    input: &'a Input<'a>,
    params: Params,
    scanner: Scanner,
    counts: Counts,
    findings: Findings<Finding>,
    unread: Findings<Unread>,
    files_with_findings: BTreeSet<String>,
}

impl Block for SecretScan {
    fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
        let params = Params::read(input)?;
        let limit = params.max_findings;
        let mut run = Run {
            input,
            scanner: Scanner::new(&params)?,
            params,
            counts: Counts::default(),
            findings: Findings::new(limit),
            unread: Findings::new(limit),
            files_with_findings: BTreeSet::new(),
        };
        match run.params.scope {
            Scope::Changes => run.changes()?,
            Scope::Workspace => run.everything("workspace/")?,
        }
        if run.params.outputs {
            run.everything("outputs/")?;
        }
        run.answer(output)
    }
}

impl Run<'_> {
    fn changes(&mut self) -> Result<(), Fault> {
        for change in self.input.changes()? {
            let Some(after) = change.after.as_ref().filter(|after| !after.is_link()) else { continue };
            let before = change.before.as_ref().filter(|before| !before.is_link());
            if before.is_some_and(|before| !before.digest.is_empty() && before.digest == after.digest) {
                continue;
            }
            if self.params.allow_paths.matches(&change.path) {
                self.counts.skipped_paths += 1;
                continue;
            }
            if change.binary && !self.params.binaries {
                self.counts.skipped_binary += 1;
                continue;
            }
            // Without the old state every line counts as added: more findings, never fewer.
            let known = before
                .and_then(|_| LineSet::read(self.input.open(&change.base_path())).ok())
                .unwrap_or_default();
            self.file(&change.now_path(), &change.path, &known);
        }
        Ok(())
    }

    fn everything(&mut self, prefix: &str) -> Result<(), Fault> {
        for entry in self.input.files(prefix) {
            let virtual_path = entry.map_err(|refusal| refused(&refusal))?.path;
            let path = virtual_path.strip_prefix("workspace/").unwrap_or(&virtual_path);
            if self.params.allow_paths.matches(path) {
                self.counts.skipped_paths += 1;
                continue;
            }
            let mut head = Vec::new();
            let sniffed = self.input.open(&virtual_path).take(SNIFF_BYTES).read_to_end(&mut head);
            let refusal = sniffed.as_ref().err().and_then(|error| error.get_ref()?.downcast_ref::<Refusal>());
            if refusal.is_some_and(Refusal::is_link) {
                continue;
            }
            if !self.params.binaries && sniffed.is_ok() && head.contains(&0) {
                self.counts.skipped_binary += 1;
                continue;
            }
            self.file(&virtual_path, path, &LineSet::default());
        }
        Ok(())
    }

    fn file(&mut self, virtual_path: &str, path: &str, known: &LineSet) {
        self.counts.files += 1;
        let shown_path = self.scanner.redact(path);
        if let Err(error) = self.lines(virtual_path, path, &shown_path, known) {
            self.unread.push(|| Unread {
                path: clip(&shown_path, 300).into_owned(),
                reason: clip(&error.to_string(), 300).into_owned(),
            });
        }
    }

    fn lines(&mut self, virtual_path: &str, path: &str, shown_path: &str, known: &LineSet) -> io::Result<()> {
        let kind = FileKind::of(path);
        let mut lines = LineReader::new(self.input.open(virtual_path));
        let mut blocks = KeyBlocks::default();
        let mut hits = Vec::new();
        // Segments of a long line overlap, so a hit can come twice.
        let mut seen: (u64, BTreeSet<u64>) = (0, BTreeSet::new());
        while let Some(segment) = lines.next_segment()? {
            if segment.number != seen.0 {
                seen = (segment.number, BTreeSet::new());
                self.counts.lines += 1;
            }
            let is_added = !known.contains(segment.bytes);
            if let Some(block) = blocks.line(&segment, is_added) {
                self.found(shown_path, block.line, block.column, &block.hit);
            }
            if !is_added {
                continue;
            }
            let continues = segment.bytes.len() == MAX_SEGMENT;
            hits.clear();
            self.scanner.scan(segment.bytes, kind, &mut hits);
            for hit in &hits {
                // Cut off at the end of a segment: whole in the next one.
                let is_cut = continues && hit.end == segment.bytes.len() && hit.start > 0;
                let column = segment.start + hit.start as u64 + 1;
                if !is_cut && seen.1.insert(column) {
                    self.found(shown_path, segment.number, column, hit);
                }
            }
        }
        Ok(())
    }

    fn found(&mut self, path: &str, line: u64, column: u64, hit: &Hit) {
        let level = self.params.level(&hit.rule);
        if level == Level::Off {
            return;
        }
        if self.params.allow_findings.contains(&hit.hash) {
            self.counts.allowed += 1;
            return;
        }
        if level == Level::Deny {
            self.counts.denied += 1;
        } else {
            self.counts.warned += 1;
        }
        *self.counts.by_rule.entry(hit.rule.clone()).or_default() += 1;
        if self.files_with_findings.len() < 10_000 {
            self.files_with_findings.insert(path.to_owned());
        }
        self.findings.push(|| Finding {
            rule: hit.rule.clone(),
            level,
            path: clip(path, 300).into_owned(),
            line,
            column,
            shown: hit.shown.clone(),
            length: hit.end - hit.start,
            hash: hit.hash.clone(),
        });
    }

    fn answer(self, output: &Output<'_>) -> Result<(), Fault> {
        let Self { counts, findings, unread, params, files_with_findings, .. } = self;
        output.evidence("findings", &findings)?;
        output.evidence("counts", &counts)?;
        if unread.total() > 0 {
            output.evidence("unread", &unread)?;
        }
        let unread_level = params.level("unreadable");
        let blind = unread.total() > 0 && unread_level == Level::Deny;
        let looked = format!("{} files, {} lines", counts.files, counts.lines);
        let mut parts = Vec::new();
        if findings.total() > 0 {
            let rules: Vec<String> =
                counts.by_rule.iter().take(6).map(|(rule, count)| format!("{rule} {count}")).collect();
            parts.push(format!(
                "{} likely secrets in {} files ({}; {} of them deny)",
                findings.total(),
                files_with_findings.len(),
                rules.join(", "),
                counts.denied
            ));
        }
        if unread.total() > 0 && unread_level != Level::Off {
            parts.push(format!("{} files could not be read", unread.total()));
        }
        if parts.is_empty() {
            parts.push("no secrets".to_owned());
        }
        parts.push(format!("{looked} scanned"));
        output.verdict(counts.denied == 0 && !blind, &parts.join("; "));
        Ok(())
    }
}

pangolin_block_sdk::export_block!(SecretScan);
