//! Installing: fetch, look, show, approve, pin. Nothing is stored before somebody approved it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{
    Difference, Effective, Grant, Inspection, Lock, LockedPlugin, Manifest, ProjectGrant, Signatures,
    effective, inspect, reconcile, widening,
};
use pangolin_plugin_source::{Options, Source, fetch};

use super::{PluginsError, store::Store};
use crate::config::Config;

/// What `plugin add` was told.
#[derive(Debug, Clone, Default)]
pub struct AddRequest {
    /// Path, address or artifact; or the id of a locked plugin, whose pinned bytes are then looked at again.
    pub source: String,
    /// Directory that a relative path starts from.
    pub base: PathBuf,
    /// Expected digest.
    pub sha256: Option<Digest>,
    /// Signature file, when it is not beside the component.
    pub signature: Option<PathBuf>,
    /// Also write what it asks for as its grant into `pangolin.toml`, when approved.
    pub grant_asked: bool,
}

/// What would be installed. Approving uses exactly these bytes, whatever the source has by then.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Where it comes from, as the lock will say.
    pub source: String,
    /// What the binary is.
    pub inspection: Inspection,
    /// Its manifest, without the needs that the binary cannot use.
    pub manifest: Manifest,
    /// What was dropped, in words.
    pub warnings: Vec<String>,
    /// What it would get, and what not.
    pub effective: Effective,
    /// Fingerprint of that.
    pub fingerprint: Digest,
    /// Key that signed it, when the policy wants one.
    pub signer: Option<String>,
    /// What is approved now under this id.
    pub previous: Option<LockedPlugin>,
    /// Against the previous approval, or against nothing.
    pub difference: Difference,
    /// Lines that approving appends to `pangolin.toml`.
    pub config_lines: Option<String>,
    bytes: Vec<u8>,
    signature: Option<Vec<u8>>,
}

/// Fetches a plugin and says what it would get. Blocking.
///
/// # Errors
/// [`PluginsError`]: whatever would also refuse it later.
pub fn propose(config: &Config, request: &AddRequest) -> Result<Proposal, PluginsError> {
    let operator = config.operator_policy()?;
    let lock = Lock::read(&config.root())?;
    let store = Store::new(&config.state);
    let again = lock.get(&request.source).cloned();
    let (source, bytes, mut signature) = match &again {
        Some(locked) => {
            let bytes =
                store.get(&request.source, &locked.sha256)?.ok_or_else(|| PluginsError::NotStored {
                    id: request.source.clone(),
                    digest: locked.sha256,
                    source_text: locked.source.clone(),
                })?;
            (locked.source.clone(), bytes, store.signature(&request.source, &locked.sha256)?)
        }
        None => {
            let source = Source::parse(&request.source, &request.base)?;
            let fetched = fetch(&source, request.sha256.as_ref(), &Options::default())?;
            (recorded(&source, &config.root()), fetched.bytes, fetched.signature)
        }
    };
    if let Some(path) = &request.signature {
        let file = Source::File(request.base.join(path));
        signature = Some(
            fetch(&file, None, &Options { bytes_max: 8 << 10, with_signature: false, ..Options::default() })?
                .bytes,
        );
    }
    super::resolve::check_size(&request.source, bytes.len(), &operator)?;
    let failed = |source| PluginsError::Component { id: request.source.clone(), source };
    let inspection = inspect(&bytes).map_err(failed)?;
    let asked = inspection
        .manifest
        .clone()
        .ok_or(pangolin_plugin_authority::ComponentError::NoManifest)
        .map_err(failed)?;
    let id = asked.id.clone();
    if id.is_builtin() {
        return Err(PluginsError::ReservedId { id });
    }
    if !operator.allows_id(&id) {
        return Err(PluginsError::IdNotAllowed { id, file: operator.file });
    }
    let reconciled = reconcile(&asked, &inspection)
        .map_err(|problems| PluginsError::Mismatch { id: id.to_string(), problems })?;
    let signed = |source| PluginsError::Signature { id: id.to_string(), source };
    let parsed = signature.as_deref().map(Signatures::parse).transpose().map_err(signed)?;
    let signer =
        Signatures::check(parsed.as_ref(), &operator.signature, &inspection.digest).map_err(signed)?;
    let manifest = reconciled.manifest;
    let file = config.file.display().to_string();
    let (project, config_lines) = if request.grant_asked && !manifest.needs.is_empty() {
        if config.plugins.contains_key(id.as_str()) {
            return Err(PluginsError::GrantExists { id, file: config.file.clone() });
        }
        let project = ProjectGrant::as_asked(&manifest, file);
        let lines = project.rules().to_toml_lines().join("\n");
        (project, Some(format!("\n[plugins.\"{id}\".grant]\n{lines}\n")))
    } else {
        (config.plugin_grant(id.as_str()), None)
    };
    let effective = effective(&manifest, &project, &operator);
    let previous = lock.get(id.as_str()).cloned();
    let nothing = Grant::default();
    let difference = widening(previous.as_ref().map_or(&nothing, |locked| &locked.grant), &effective.grant);
    Ok(Proposal {
        source,
        warnings: reconciled.warnings,
        fingerprint: effective.grant.fingerprint(),
        inspection,
        manifest,
        effective,
        signer,
        previous,
        difference,
        config_lines,
        bytes,
        signature,
    })
}

impl Proposal {
    /// Exactly this is approved already.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.config_lines.is_none()
            && self.previous.as_ref().is_some_and(|locked| {
                locked.sha256 == self.inspection.digest
                    && locked.fingerprint == self.fingerprint
                    && locked.source == self.source
                    && locked.signer == self.signer
            })
    }

    /// Stores the component and writes the approval into `pangolin.lock`. Blocking.
    ///
    /// # Errors
    /// [`PluginsError`].
    pub fn approve(self, config: &Config, approver: &str, now_ms: i64) -> Result<LockedPlugin, PluginsError> {
        let id = self.manifest.id.clone();
        let store = Store::new(&config.state);
        let _held = store.exclusive()?;
        store.put(id.as_str(), &self.inspection.digest, &self.bytes, self.signature.as_deref())?;
        if let Some(lines) = &self.config_lines {
            append(&config.file, lines).map_err(|source| PluginsError::Read {
                id: id.to_string(),
                path: config.file.display().to_string(),
                source,
            })?;
        }
        let locked = LockedPlugin {
            id,
            kind: self.manifest.kind,
            version: self.manifest.version,
            contract: self.manifest.contract,
            sha256: self.inspection.digest,
            source: self.source,
            fingerprint: self.fingerprint,
            signer: self.signer,
            approver: approver.to_owned(),
            approved_at: now_ms,
            grant: self.effective.grant,
        };
        // Read again: another installation may have written since the proposal.
        let mut lock = Lock::read(&config.root())?;
        lock.insert(locked.clone());
        lock.write(&config.root())?;
        Ok(locked)
    }
}

/// A file below the project is recorded relative to it, so that the lock means the same for everybody.
fn recorded(source: &Source, root: &Path) -> String {
    match source {
        Source::File(path) => {
            let full = path.canonicalize().unwrap_or_else(|_| path.clone());
            let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
            format!("file:{}", full.strip_prefix(&root).unwrap_or(&full).display())
        }
        other => other.to_string(),
    }
}

/// Appends and replaces the file as a whole, keeping its permissions.
fn append(file: &Path, lines: &str) -> std::io::Result<()> {
    let mut text = fs::read_to_string(file)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(lines);
    let mut new = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(fs::metadata(file)?.permissions())?;
    new.as_file().sync_all()?;
    new.persist(file).map_err(|error| error.error)?;
    Ok(())
}

/// Takes a plugin out of the lock. Its bytes stay: runs that pinned it may still need them.
///
/// # Errors
/// [`PluginsError::NotLocked`].
pub fn remove(config: &Config, id: &str) -> Result<LockedPlugin, PluginsError> {
    let _held = Store::new(&config.state).exclusive()?;
    let mut lock = Lock::read(&config.root())?;
    let removed = lock.remove(id).ok_or_else(|| PluginsError::NotLocked { id: id.to_owned() })?;
    lock.write(&config.root())?;
    Ok(removed)
}
