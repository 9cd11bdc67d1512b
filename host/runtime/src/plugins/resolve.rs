//! From an id to checked bytes and a grant.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::{BlockGrant, BlockLimits, ExecGrant, NetGrant, SecretGrant};
use pangolin_plugin_authority::{
    Grant, Kind, LimitSet, Lock, LockedPlugin, Manifest, OperatorPolicy, ProjectGrant, Reconciled,
    SignaturePolicy, Signatures, effective, inspect, reconcile,
};
use pangolin_plugin_host::Limits;

use super::{PluginsError, known_ids, store::Store};
use crate::config::Config;

/// A plugin that may run, with everything that was found out about it.
#[derive(Debug, Clone)]
pub struct ResolvedPlugin {
    /// Id.
    pub id: String,
    /// Kind.
    pub kind: Kind,
    /// Digest of the bytes.
    pub digest: Digest,
    /// The component.
    pub bytes: Arc<[u8]>,
    /// Contract package and range, e.g. `pangolin:block ^1.0`; the package alone when it has no manifest.
    pub contract: String,
    /// Its own version, when it has a manifest.
    pub version: Option<String>,
    /// What it may do.
    pub grant: Grant,
    /// Fingerprint of `grant`, for the record.
    pub fingerprint: Digest,
    /// Bounds of its calls: the host's default or less.
    pub limits: Limits,
}

impl ResolvedPlugin {
    /// The grant in the form that a worker gets it.
    #[must_use]
    pub fn block_grant(&self) -> BlockGrant {
        let rules = self.grant.rules();
        let limits = self.grant.limits();
        let default = BlockLimits::default();
        BlockGrant {
            exec: rules
                .exec()
                .iter()
                .map(|rule| ExecGrant { program: rule.program().to_owned(), args: rule.args().to_vec() })
                .collect(),
            net: rules
                .net()
                .iter()
                .flat_map(|rule| {
                    rule.schemes().iter().flat_map(|scheme| {
                        rule.ports().iter().map(|port| NetGrant {
                            host: rule.host().to_owned(),
                            methods: rule.methods().iter().cloned().collect(),
                            scheme: scheme.clone(),
                            port: Some(*port),
                        })
                    })
                })
                .collect(),
            secrets: rules
                .secret()
                .iter()
                .map(|rule| SecretGrant {
                    name: rule.name().to_owned(),
                    place: rule.place().to_string(),
                    to: Some(rule.to().to_owned()),
                })
                .collect(),
            read: rules.read().map(ToString::to_string).collect(),
            write: rules.write().map(ToString::to_string).collect(),
            limits: BlockLimits {
                wall_ms: limits.wall_ms.map_or(default.wall_ms, |wish| wish.min(default.wall_ms)),
                memory_bytes: limits
                    .memory_bytes
                    .map_or(default.memory_bytes, |wish| wish.min(default.memory_bytes)),
                ..default
            },
        }
    }
}

/// What was found out about components, by digest: their bytes never change.
#[derive(Default)]
pub(super) struct Checked(Mutex<HashMap<Digest, Arc<Reconciled>>>);

/// The word of the built-in plugins for a kind.
pub(super) const fn builtin_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Pattern => "pattern",
        Kind::RuntimeAdapter => "adapter",
        Kind::Block => "block",
    }
}

pub(super) fn builtin(kind: Kind, id: &str) -> Option<&'static [u8]> {
    match kind {
        Kind::Pattern => pangolin_builtin_plugins::pattern(id),
        Kind::RuntimeAdapter => pangolin_builtin_plugins::adapter(id),
        Kind::Block => pangolin_builtin_plugins::block(id),
    }
}

/// The host's bounds, made smaller where a wish or a cap is smaller.
fn host_limits(kind: Kind, wish: LimitSet) -> Limits {
    let mut limits = if kind == Kind::Pattern { Limits::pure() } else { Limits::effect() };
    let min = |place: &mut u64, wish: Option<u64>| *place = wish.map_or(*place, |wish| wish.min(*place));
    min(&mut limits.fuel_base, wish.fuel_base);
    min(&mut limits.fuel_per_item, wish.fuel_per_item);
    if let Some(bytes) = wish.memory_bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
        limits.memory_bytes = limits.memory_bytes.min(bytes);
    }
    if let Some(wall) = wish.wall_ms {
        limits.wall = limits.wall.min(Duration::from_millis(wall));
    }
    limits
}

/// Bounds for bytes that a run pinned: wish of the embedded manifest and caps of today.
pub(super) fn limits_of(kind: Kind, bytes: &[u8], config: &Config, id: &str) -> Result<Limits, PluginsError> {
    let operator = config.operator_policy()?;
    // Without a manifest (a built-in of an earlier release) only the operator's caps count.
    let wish = match pangolin_plugin_authority::extract(bytes) {
        Ok(manifest) => effective(&manifest, &config.plugin_grant(id), &operator).grant.limits(),
        Err(_) => operator.limits,
    };
    Ok(host_limits(kind, wish))
}

/// A component above the operator's cap is refused before anything looks into it.
pub(super) fn check_size(id: &str, size: usize, operator: &OperatorPolicy) -> Result<(), PluginsError> {
    let (size, limit) = (size as u64, operator.component_bytes_max);
    if size <= limit {
        return Ok(());
    }
    Err(PluginsError::TooLarge { id: id.to_owned(), size, limit, file: operator.file.clone() })
}

/// Manifest against binary, once per digest.
pub(super) fn check_component(
    checked: &Checked,
    id: &str,
    digest: Digest,
    bytes: &[u8],
) -> Result<Arc<Reconciled>, PluginsError> {
    if let Some(known) = checked.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
        return Ok(known.clone());
    }
    let failed = |source| PluginsError::Component { id: id.to_owned(), source };
    let inspection = inspect(bytes).map_err(failed)?;
    let manifest = inspection
        .manifest
        .clone()
        .ok_or(pangolin_plugin_authority::ComponentError::NoManifest)
        .map_err(failed)?;
    let reconciled = reconcile(&manifest, &inspection)
        .map_err(|problems| PluginsError::Mismatch { id: manifest.id.to_string(), problems })?;
    let reconciled = Arc::new(reconciled);
    checked.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, reconciled.clone());
    Ok(reconciled)
}

pub(super) fn resolve(
    config: &Config,
    checked: &Checked,
    kind: Kind,
    id: &str,
) -> Result<ResolvedPlugin, PluginsError> {
    if let Some(bytes) = builtin(kind, id) {
        return resolve_builtin(config, checked, kind, id, bytes);
    }
    let lock = Lock::read(&config.root())?;
    let Some(locked) = lock.get(id) else {
        if let Some(found) = Kind::ALL.into_iter().find(|other| builtin(*other, id).is_some()) {
            return Err(PluginsError::WrongKind { id: id.to_owned(), found, wanted: kind });
        }
        let known = known_ids(kind, &lock).into_iter().collect::<Vec<_>>().join(", ");
        return Err(PluginsError::Unknown { kind, id: id.to_owned(), known });
    };
    if locked.kind != kind {
        return Err(PluginsError::WrongKind { id: id.to_owned(), found: locked.kind, wanted: kind });
    }
    let grants = config.reread_plugins()?;
    resolve_locked(&grants, checked, locked)
}

/// Everything that must hold before a locked plugin runs.
pub(super) fn resolve_locked(
    config: &Config,
    checked: &Checked,
    locked: &LockedPlugin,
) -> Result<ResolvedPlugin, PluginsError> {
    let id = locked.id.as_str();
    let operator = config.operator_policy()?;
    if !operator.allows_id(&locked.id) {
        return Err(PluginsError::IdNotAllowed { id: locked.id.clone(), file: operator.file });
    }
    let store = Store::new(&config.state);
    let Some(bytes) = store.get(id, &locked.sha256)? else {
        return Err(PluginsError::NotStored {
            id: id.to_owned(),
            digest: locked.sha256,
            source_text: locked.source.clone(),
        });
    };
    if let SignaturePolicy::Keys(_) = operator.signature {
        let signed = |source| PluginsError::Signature { id: id.to_owned(), source };
        let signatures = store.signature(id, &locked.sha256)?;
        let signatures = signatures.map(|bytes| Signatures::parse(&bytes)).transpose().map_err(signed)?;
        Signatures::check(signatures.as_ref(), &operator.signature, &locked.sha256).map_err(signed)?;
    }
    check_size(id, bytes.len(), &operator)?;
    let reconciled = check_component(checked, id, locked.sha256, &bytes)?;
    let manifest = &reconciled.manifest;
    let identity =
        |id: &dyn std::fmt::Display, kind: Kind, version: &dyn std::fmt::Display, contract: String| {
            format!("{id} {version} ({kind}, contract {contract})")
        };
    let said = identity(&locked.id, locked.kind, &locked.version, locked.contract.to_string());
    let found = identity(&manifest.id, manifest.kind, &manifest.version, manifest.contract.to_string());
    if said != found {
        return Err(PluginsError::Identity { locked: said, found });
    }
    let grant = effective(manifest, &config.plugin_grant(id), &operator).grant;
    locked.check(&grant)?;
    Ok(resolved(manifest, locked.kind, id, locked.sha256, bytes.into(), grant))
}

/// What ships is approved by shipping, as far as its project does not say less; the operator's policy cuts it like
/// everybody else's.
fn resolve_builtin(
    config: &Config,
    checked: &Checked,
    kind: Kind,
    id: &str,
    bytes: &'static [u8],
) -> Result<ResolvedPlugin, PluginsError> {
    let digest = Digest::of(bytes);
    if matches!(
        pangolin_plugin_authority::extract(bytes),
        Err(pangolin_plugin_authority::ComponentError::NoManifest)
    ) {
        return Ok(ResolvedPlugin {
            id: id.to_owned(),
            kind,
            digest,
            bytes: bytes.into(),
            contract: kind.package().to_owned(),
            version: None,
            grant: Grant::default(),
            fingerprint: Grant::default().fingerprint(),
            limits: host_limits(kind, LimitSet::default()),
        });
    }
    let reconciled = check_component(checked, id, digest, bytes)?;
    let manifest = &reconciled.manifest;
    let operator = config.operator_policy()?;
    let grants = config.reread_plugins()?;
    let project = match grants.plugins.get(id) {
        Some(grant) => grant.clone(),
        None => ProjectGrant::as_asked(manifest, config.file.display().to_string()),
    };
    let grant = effective(manifest, &project, &operator).grant;
    Ok(resolved(manifest, kind, id, digest, bytes.into(), grant))
}

fn resolved(
    manifest: &Manifest,
    kind: Kind,
    id: &str,
    digest: Digest,
    bytes: Arc<[u8]>,
    grant: Grant,
) -> ResolvedPlugin {
    ResolvedPlugin {
        id: id.to_owned(),
        kind,
        digest,
        bytes,
        contract: format!("{} {}", kind.package(), manifest.contract),
        version: Some(manifest.version.to_string()),
        fingerprint: grant.fingerprint(),
        limits: host_limits(kind, grant.limits()),
        grant,
    }
}
