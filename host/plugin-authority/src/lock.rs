//! `pangolin.lock`: which component is which plugin, and what somebody approved for it. Lives beside `pangolin.toml`
//! and belongs into version control.
//!
//! A lock cannot grant: what applies is computed anew from manifest, project and operator, and must be covered by
//! what the lock says was approved.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use pangolin_core::ids::Digest;
use semver::{Version, VersionReq};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::{
    finding::{Findings, Node, Walk, shown},
    grant::{Grant, NotApproved, widening},
    id::{Kind, PluginId},
    regular::read_regular_text,
};

/// Name of the lock file.
pub const LOCK_FILE: &str = "pangolin.lock";

/// Version of its form.
const LOCK_VERSION: u64 = 1;

/// Largest lock in bytes.
const LOCK_BYTES_MAX: u64 = 4 << 20;

/// Most plugins in one lock.
const PLUGINS_MAX: usize = 1024;

/// Why a lock cannot be used.
#[derive(Debug, Error)]
pub enum LockError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The content is wrong.
    #[error("{0}; restore it from version control, or remove it and add the plugins again")]
    Invalid(#[from] Findings),
}

/// One approved plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockedPlugin {
    /// Id.
    pub id: PluginId,
    /// Kind.
    pub kind: Kind,
    /// Its own version.
    pub version: Version,
    /// Contract range.
    pub contract: VersionReq,
    /// The component.
    pub sha256: Digest,
    /// Where it came from, as text of `pangolin-plugin-source`.
    pub source: String,
    /// Fingerprint of `grant`.
    pub fingerprint: Digest,
    /// Key that signed it, when the policy wanted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Who approved, e.g. `human:alex`.
    pub approver: String,
    /// When, in milliseconds since the epoch.
    pub approved_at: i64,
    /// What was approved.
    pub grant: Grant,
}

impl LockedPlugin {
    /// Whether `effective` is covered by what was approved.
    ///
    /// # Errors
    /// [`NotApproved`] with the difference.
    pub fn check(&self, effective: &Grant) -> Result<(), NotApproved> {
        let difference = widening(&self.grant, effective);
        if difference.is_covered() {
            return Ok(());
        }
        Err(NotApproved { id: self.id.clone(), difference })
    }
}

/// All approved plugins of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    plugins: BTreeMap<PluginId, LockedPlugin>,
}

impl Lock {
    /// Reads `pangolin.lock` in `dir`; without one nothing is approved.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn read(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(LOCK_FILE);
        let failed = |source| LockError::Read { path: path.clone(), source };
        let text = match read_regular_text(&path, LOCK_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Reads a lock text.
    ///
    /// # Errors
    /// All [`Findings`].
    pub fn parse(text: &str, file: &str) -> Result<Self, Findings> {
        let mut walk = Walk::default();
        let value: Value = match toml::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                walk.report("", error.message().to_owned() + &crate::manifest::position(text, error.span()));
                return walk.finish(file, None);
            }
        };
        let root = Node::root(&value);
        walk.table(&root, &["schemaVersion", "plugin"]);
        match value.get("schemaVersion").and_then(Value::as_u64) {
            Some(LOCK_VERSION) => {}
            Some(version) => {
                walk.report("schemaVersion", format!("is {version}, this program knows {LOCK_VERSION}"));
                return walk.finish(file, None);
            }
            None => walk.report("schemaVersion", "is missing"),
        }
        let mut lock = Self::default();
        if let Some(list) = Walk::child(&root, "plugin") {
            for node in walk.list(&list, PLUGINS_MAX) {
                let Some(plugin) = Self::read_plugin(&mut walk, &node) else { continue };
                if let Some(twin) = lock.plugins.insert(plugin.id.clone(), plugin) {
                    walk.report(&node.at, format!("{} is there twice", twin.id));
                }
            }
        }
        walk.finish(file, Some(lock))
    }

    fn read_plugin(walk: &mut Walk, node: &Node<'_>) -> Option<LockedPlugin> {
        fn parse<T>(
            walk: &mut Walk,
            node: &Node<'_>,
            key: &str,
            parse: impl Fn(&str) -> Option<T>,
        ) -> Option<T> {
            let node = walk.required(node, key, "it is written by `pangolin plugin add`")?;
            let text = walk.text(&node)?;
            let value = parse(text);
            if value.is_none() {
                walk.report(&node.at, format!("{} is not valid", shown(text)));
            }
            value
        }
        let known = [
            "id",
            "kind",
            "version",
            "contract",
            "sha256",
            "source",
            "fingerprint",
            "signer",
            "approver",
            "approvedAt",
            "grant",
        ];
        walk.table(node, &known)?;
        let line = |text: &str| {
            (!text.is_empty() && text.len() <= 4096 && !text.chars().any(crate::finding::is_deceptive))
                .then(|| text.to_owned())
        };
        let id = parse(walk, node, "id", |text| PluginId::new(text).ok().filter(|id| !id.is_builtin()));
        let kind = parse(walk, node, "kind", |text| text.parse().ok());
        let version = parse(walk, node, "version", |text| text.parse().ok());
        let contract = parse(walk, node, "contract", |text| text.parse().ok());
        let sha256 = parse(walk, node, "sha256", |text| text.parse().ok());
        let source = parse(walk, node, "source", line);
        let fingerprint: Option<Digest> = parse(walk, node, "fingerprint", |text| text.parse().ok());
        let signer = Walk::child(node, "signer").and_then(|_| parse(walk, node, "signer", line));
        let approver = parse(walk, node, "approver", line);
        let approved_at =
            walk.required(node, "approvedAt", "milliseconds since the epoch").and_then(|node| {
                let value = node.value.as_i64().filter(|at| *at >= 0);
                if value.is_none() {
                    walk.report(&node.at, "must be milliseconds since the epoch");
                }
                value
            });
        let grant = Walk::child(node, "grant").map(|node| Grant::read(walk, &node)).unwrap_or_default();
        let found = grant.fingerprint();
        if let Some(fingerprint) = fingerprint
            && fingerprint != found
        {
            walk.report(
                &format!("{}.fingerprint", node.at),
                format!(
                    "is {fingerprint}, but the approved grant has {found}: one of them was changed by hand"
                ),
            );
        }
        Some(LockedPlugin {
            id: id?,
            kind: kind?,
            version: version?,
            contract: contract?,
            sha256: sha256?,
            source: source?,
            fingerprint: fingerprint?,
            signer,
            approver: approver?,
            approved_at: approved_at?,
            grant,
        })
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# Written by `pangolin plugin add`. Keep it in version control: it says what was approved.\n\
             schemaVersion = 1\n",
        );
        for plugin in self.plugins.values() {
            #[derive(Serialize)]
            struct File<'p> {
                plugin: [&'p LockedPlugin; 1],
            }
            // Texts, integers and tables of them always have a TOML form.
            text.push('\n');
            text.push_str(&toml::to_string(&File { plugin: [plugin] }).unwrap_or_default());
        }
        text
    }

    /// Writes `pangolin.lock` in `dir`: afterwards it is the old one or complete.
    ///
    /// # Errors
    /// [`LockError::Invalid`] for what could not be read back, [`LockError::Write`].
    pub fn write(&self, dir: &Path) -> Result<(), LockError> {
        let path = dir.join(LOCK_FILE);
        let text = self.to_text();
        // A path or name with deceptive characters must not make the whole lock unreadable.
        Self::parse(&text, &path.display().to_string())?;
        let attempt = || {
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(text.as_bytes())?;
            #[cfg(unix)]
            file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        attempt().map_err(|source| LockError::Write { path: path.clone(), source })
    }

    /// One plugin.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&LockedPlugin> {
        self.plugins.values().find(|plugin| plugin.id.as_str() == id)
    }

    /// All plugins, by id.
    pub fn plugins(&self) -> impl ExactSizeIterator<Item = &LockedPlugin> {
        self.plugins.values()
    }

    /// Adds or replaces one; answers what was there.
    pub fn insert(&mut self, plugin: LockedPlugin) -> Option<LockedPlugin> {
        self.plugins.insert(plugin.id.clone(), plugin)
    }

    /// Removes one; answers what was there.
    pub fn remove(&mut self, id: &str) -> Option<LockedPlugin> {
        let id = self.get(id)?.id.clone();
        self.plugins.remove(&id)
    }
}
