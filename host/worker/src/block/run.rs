//! Loading and running one plugin block, and what its end means for the pipeline.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
    sync::Arc,
    time::Duration,
};

use pangolin_core::entry::FailureReason;
use pangolin_envelope::{
    envelope::Envelope,
    pipeline::{Lens, OnFailure},
    plugin::{BlockBill, PluginEvidence, StagedPlugin},
    result::BlockOutcome,
};
use pangolin_plugin_host::{BlockCall, BlockComponent, Failure, PluginError, PluginHost};
use serde_json::{Value, json};

use crate::{
    block::{snapshot::Snapshot, world::WorkerWorld},
    boot::Places,
    capture::Baseline,
    command::Runner,
    dispatch::{Halt, failed},
    environment::Secrets,
    overlay,
    redact::Redactor,
    safe_fs::Root,
};

/// Largest native code that is loaded: what the host caches at most.
const CODE_BYTES_MAX: u64 = 256 << 20;

/// What all plugin blocks of a dispatch share.
pub(crate) struct Plugins {
    pub(crate) root: Arc<Root>,
    pub(crate) baseline: Arc<Baseline>,
    /// Without any secret.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    pub(crate) secrets: Arc<Secrets>,
    /// Replaces secrets only, so that evidence stays readable for machines.
    pub(crate) redactor: Redactor,
    /// What the files were, as long as nothing ran.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// Made for the first plugin block.
    pub(crate) host: Option<PluginHost>,
    pub(crate) loaded: BTreeMap<String, BlockComponent>,
}

/// One block of the pipeline.
pub(crate) struct PluginBlock<'a> {
    pub(crate) ordinal: u32,
    pub(crate) id: &'a str,
    pub(crate) params: &'a Value,
    pub(crate) timeout_seconds: u32,
    pub(crate) lens: Lens,
    pub(crate) on_failure: OnFailure,
}

/// How it ended.
pub(crate) struct Finished {
    /// The record, redacted.
    pub(crate) evidence: PluginEvidence,
    /// It gave a green verdict.
    pub(crate) passed: bool,
    /// What that means for the pipeline.
    pub(crate) halt: Option<Halt>,
}

impl Plugins {
    /// Runs one block. `Err`: the dispatch cannot go on whatever the pipeline says.
    pub(crate) fn run(
        &mut self,
        block: &PluginBlock<'_>,
        places: &Places,
        envelope: &Envelope,
        runner: &mut Runner,
        earlier: &[BlockOutcome],
    ) -> Result<Finished, Halt> {
        let named = |message: &str| format!("block {} ({}): {message}", block.ordinal, block.id);
        let staged = envelope.plugins.iter().find(|plugin| plugin.id == block.id).ok_or_else(|| {
            failed(
                FailureReason::IntegrityFailed,
                named("the envelope has no such plugin; stage the dispatch again"),
            )
        })?;
        let evidence = match self.load(staged, places) {
            Ok(component) => self.call(&component, staged, block, places, envelope, runner, earlier),
            // Other bytes than the host named: no pipeline can have meant that.
            Err(PluginError { failure: failure @ Failure::Integrity { .. }, .. }) => {
                return Err(failed(FailureReason::IntegrityFailed, named(&failure.to_string())));
            }
            Err(error) => blank(staged, block, &error.failure),
        };
        if runner.signals.stopped() {
            return Ok(Finished {
                evidence: self.redact(evidence),
                passed: false,
                halt: Some(Halt::Stopped),
            });
        }
        let evidence = self.redact(evidence);
        let passed = evidence.verdict.as_ref().is_some_and(|verdict| verdict.passed);
        let halt = match (&evidence.failure, &evidence.verdict) {
            (Some(failure), _) if block.on_failure == OnFailure::Closed => {
                let reason = match failure.code.as_str() {
                    "host-error" | "host-busy" | "not-compiled" => FailureReason::WorkerFailed,
                    _ => FailureReason::ProviderFailed,
                };
                Some(failed(reason, named(&failure.message)))
            }
            (None, Some(verdict)) if !verdict.passed && block.lens == Lens::Gate => {
                Some(failed(FailureReason::ProviderFailed, named(&format!("red: {}", verdict.summary))))
            }
            _ => None,
        };
        Ok(Finished { evidence, passed, halt })
    }

    /// A command ran: what is known of the files is not true any more.
    pub(crate) fn forget_files(&mut self) {
        self.snapshot = None;
    }

    fn load(&mut self, staged: &StagedPlugin, places: &Places) -> Result<BlockComponent, PluginError> {
        if let Some(component) = self.loaded.get(&staged.id) {
            return Ok(component.clone());
        }
        let fail = |failure| PluginError::new(staged.digest, failure);
        let host = match &self.host {
            Some(host) => host.clone(),
            None => self.host.insert(PluginHost::without_compiler().map_err(fail)?).clone(),
        };
        let integrity = |problem: String| fail(Failure::Integrity { problem });
        let path = overlay::staged(&places.envelope_dir, &staged.file).map_err(integrity)?;
        let code = read(&path).map_err(|error| integrity(format!("{}: {error}", path.display())))?;
        let component = host.load_block_code(staged.digest, staged.code, &code)?;
        self.loaded.insert(staged.id.clone(), component.clone());
        Ok(component)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; a struct would only repeat the caller's fields"
    )]
    fn call(
        &mut self,
        component: &BlockComponent,
        staged: &StagedPlugin,
        block: &PluginBlock<'_>,
        places: &Places,
        envelope: &Envelope,
        runner: &mut Runner,
        earlier: &[BlockOutcome],
    ) -> PluginEvidence {
        let world = WorkerWorld {
            workspace: places.workspace.clone(),
            result_dir: places.result_dir.clone(),
            private: runner.confinement().private.clone(),
            root: Arc::clone(&self.root),
            baseline: Arc::clone(&self.baseline),
            snapshot: self.snapshot.clone(),
            runner: runner.clone(),
            env: Arc::clone(&self.env),
            secrets: Arc::clone(&self.secrets),
            redactor: self.redactor.clone(),
            network: envelope.network.clone(),
            earlier: records(earlier),
            ordinal: block.ordinal,
            verified: BTreeSet::new(),
            artifacts: BTreeMap::new(),
            started: 0,
        };
        let attrs = [
            ("namespace", envelope.namespace.clone()),
            ("run", envelope.run.to_string()),
            ("item", envelope.item.to_string()),
            ("attempt", envelope.attempt.to_string()),
            ("dispatch", envelope.dispatch.to_string()),
            ("network", envelope.network.clone()),
        ];
        let call = BlockCall {
            id: staged.id.clone(),
            contract: staged.contract.clone(),
            engine: staged.engine.clone(),
            grant: staged.grant.clone(),
            fingerprint: staged.fingerprint,
            params: block.params.clone(),
            position: block.ordinal,
            lens: block.lens.as_str().to_owned(),
            attrs: attrs.map(|(name, value)| (name.to_owned(), value)).into(),
            timeout: Duration::from_secs(u64::from(block.timeout_seconds)),
        };
        match component.run_blocking(world, &call) {
            Ok((evidence, world)) => {
                self.snapshot = world.snapshot;
                *runner = world.runner;
                evidence
            }
            Err(error) => blank(staged, block, &error.failure),
        }
    }

    /// Takes secrets out of everything the plugin said.
    fn redact(&self, mut evidence: PluginEvidence) -> PluginEvidence {
        let clean = |text: &mut String| *text = self.redactor.text(text);
        if let Some(verdict) = &mut evidence.verdict {
            clean(&mut verdict.summary);
        }
        evidence.evidence = std::mem::take(&mut evidence.evidence)
            .into_iter()
            .map(|(key, value)| (self.redactor.text(&key), self.redactor.json(&value)))
            .collect();
        for denial in &mut evidence.denials {
            clean(&mut denial.subject);
            clean(&mut denial.rule);
        }
        for program in &mut evidence.programs {
            clean(&mut program.program);
            program.args.iter_mut().for_each(clean);
        }
        for contact in &mut evidence.contacts {
            clean(&mut contact.origin);
            clean(&mut contact.method);
        }
        evidence.log.iter_mut().for_each(clean);
        if let Some(failure) = &mut evidence.failure {
            clean(&mut failure.message);
        }
        evidence
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(CODE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The record of a plugin that could not be loaded.
fn blank(staged: &StagedPlugin, block: &PluginBlock<'_>, failure: &Failure) -> PluginEvidence {
    PluginEvidence {
        id: staged.id.clone(),
        digest: staged.digest,
        contract: staged.contract.clone(),
        engine: staged.engine.clone(),
        fingerprint: staged.fingerprint,
        lens: block.lens.as_str().to_owned(),
        verdict: None,
        evidence: BTreeMap::new(),
        artifacts: Vec::new(),
        denials: Vec::new(),
        programs: Vec::new(),
        contacts: Vec::new(),
        secrets_used: Vec::new(),
        log: Vec::new(),
        left_out: BTreeMap::new(),
        bill: BlockBill::default(),
        failure: Some(failure.record()),
    }
}

/// What later blocks may know of earlier ones: by position, and by plugin id (the latest of that id).
fn records(earlier: &[BlockOutcome]) -> BTreeMap<String, String> {
    let mut records = BTreeMap::new();
    for outcome in earlier {
        let mut record = json!({
            "schemaVersion": 1,
            "position": outcome.ordinal,
            "kind": outcome.kind,
            "ok": outcome.ok,
        });
        if let Some(code) = outcome.exit_code {
            record["exitCode"] = code.into();
        }
        if let Some(plugin) = &outcome.plugin {
            record["id"] = plugin.id.clone().into();
            record["digest"] = plugin.digest.to_string().into();
            record["evidence"] = json!(plugin.evidence);
            record["artifacts"] = json!(plugin.artifacts);
            if let Some(verdict) = &plugin.verdict {
                record["verdict"] = json!(verdict);
            }
            if let Some(failure) = &plugin.failure {
                record["failure"] = json!(failure);
            }
            records.insert(plugin.id.clone(), record.to_string());
        }
        records.insert(outcome.ordinal.to_string(), record.to_string());
    }
    records
}
