//! The operator's policy: what no project of this machine can exceed.

use std::{env, io, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::VerifyingKey;
use serde_json::Value;
use thiserror::Error;

use crate::{
    finding::{Findings, Node, Walk, shown},
    id::PluginId,
    limits::LimitSet,
    regular::read_regular_text,
    rules::RuleSet,
};

/// Names the policy file.
pub const POLICY_ENV: &str = "PANGOLIN_POLICY";

/// The policy file when [`POLICY_ENV`] is not set; it need not exist.
pub const POLICY_FILE: &str = "/etc/pangolin/policy.toml";

/// Largest policy in bytes.
const POLICY_BYTES_MAX: u64 = 1 << 20;

/// What the operator lets plugins do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Whatever a project grants.
    Project,
    /// At most this.
    Rules(RuleSet),
}

/// A key whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// Name that signature files use.
    pub id: String,
    /// Ed25519 public key.
    pub key: VerifyingKey,
}

/// Whose signature a plugin needs before it is considered at all. It grants nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// Nobody's.
    #[default]
    None,
    /// One of these.
    Keys(Vec<TrustedKey>),
}

/// The policy of an operator. The default (no file) adds nothing to what a project says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorPolicy {
    /// Where it was read.
    pub file: String,
    /// Upper bound of grants.
    pub allow: Allow,
    /// Signatures.
    pub signature: SignaturePolicy,
    /// Ids that may be installed: exact, or `owner/*`. `None`: any.
    pub ids: Option<Vec<String>>,
    /// Caps.
    pub limits: LimitSet,
    /// Largest component in bytes, at most [`COMPONENT_BYTES_CEILING`].
    pub component_bytes_max: u64,
}

/// Largest component without a word of the operator, in bytes.
pub const COMPONENT_BYTES_DEFAULT: u64 = 20 << 20;

/// Largest component that an operator can allow, in bytes.
pub const COMPONENT_BYTES_CEILING: u64 = 64 << 20;

impl Default for OperatorPolicy {
    fn default() -> Self {
        Self {
            file: "no operator policy".to_owned(),
            allow: Allow::Project,
            signature: SignaturePolicy::None,
            ids: None,
            limits: LimitSet::default(),
            component_bytes_max: COMPONENT_BYTES_DEFAULT,
        }
    }
}

/// Why there is no policy to go by. Nothing runs without one that was named.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the operator policy {file}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is too large or says something wrong.
    #[error("operator policy {0}")]
    Invalid(#[from] Findings),
}

impl OperatorPolicy {
    /// The file that [`POLICY_ENV`] names (it must exist), else [`POLICY_FILE`] when it exists, else the default.
    ///
    /// # Errors
    /// [`PolicyError`]: a policy that cannot be read is never taken for none.
    pub fn load() -> Result<Self, PolicyError> {
        match env::var_os(POLICY_ENV).filter(|value| !value.is_empty()) {
            Some(file) => Self::read(Path::new(&file)),
            None => match Self::read(Path::new(POLICY_FILE)) {
                Err(PolicyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Ok(Self::default())
                }
                other => other,
            },
        }
    }

    /// Reads one file.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn read(file: &Path) -> Result<Self, PolicyError> {
        let name = file.display().to_string();
        let failed = |source| PolicyError::Read { file: name.clone(), source };
        let text = read_regular_text(file, POLICY_BYTES_MAX).map_err(failed)?;
        Ok(Self::parse(&text, &name)?)
    }

    /// Reads a policy text.
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
        walk.table(&root, &["allow", "signature", "ids", "limits", "component"]);
        let allow = match walk.required(
            &root,
            "allow",
            "a table of rules ([allow] with nothing in it denies everything), or allow = \"project\"",
        ) {
            Some(node) if node.value.as_str() == Some("project") => Allow::Project,
            Some(node) => {
                walk.table(&node, &RuleSet::KEYS);
                Allow::Rules(RuleSet::from_table(&mut walk, &node))
            }
            None => Allow::Rules(RuleSet::default()),
        };
        let signature = Walk::child(&root, "signature").map(|node| Self::read_signature(&mut walk, &node));
        let ids = Walk::child(&root, "ids").map(|list| {
            let mut ids = Vec::new();
            for node in walk.list(&list, 1024) {
                let Some(text) = walk.text(&node) else { continue };
                let probe = text.strip_suffix("/*").unwrap_or(text);
                if PluginId::new(probe).is_err() || (text.ends_with("/*") && probe.contains('/')) {
                    walk.report(&node.at, format!("{} is neither <owner>/<name> nor <owner>/*", shown(text)));
                }
                ids.push(text.to_owned());
            }
            ids
        });
        let limits = Walk::child(&root, "limits").map(|node| LimitSet::read(&mut walk, &node));
        let component = Walk::child(&root, "component").and_then(|node| {
            let bytes = LimitSet::bytes(&mut walk, &node)?;
            if bytes > COMPONENT_BYTES_CEILING {
                walk.report(&node.at, "is more than 64MiB, which no component may have");
            }
            Some(bytes)
        });
        let policy = Self {
            file: file.to_owned(),
            allow,
            signature: signature.unwrap_or_default(),
            ids,
            limits: limits.unwrap_or_default(),
            component_bytes_max: component.unwrap_or(COMPONENT_BYTES_DEFAULT),
        };
        walk.finish(file, Some(policy))
    }

    fn read_signature(walk: &mut Walk, node: &Node<'_>) -> SignaturePolicy {
        if node.value.as_str() == Some("none") {
            return SignaturePolicy::None;
        }
        if walk.table(node, &["keys"]).is_none() {
            walk.report(&node.at, "expected \"none\" or a table with keys");
            return SignaturePolicy::None;
        }
        let mut keys: Vec<TrustedKey> = Vec::new();
        let Some(list) =
            walk.required(node, "keys", "e.g. keys = [{ id = \"acme-2026\", key = \"<base64>\" }]")
        else {
            return SignaturePolicy::None;
        };
        for node in walk.list(&list, 256) {
            walk.table(&node, &["id", "key"]);
            let id = walk.required(&node, "id", "a name").and_then(|node| {
                let text = walk.text(&node)?;
                if !is_key_id(text) {
                    walk.report(&node.at, format!("{} is not a name of a-z A-Z 0-9 . _ -", shown(text)));
                }
                Some(text.to_owned())
            });
            let key = walk.required(&node, "key", "32 bytes in base64").and_then(|node| {
                let bytes = BASE64_STANDARD.decode(walk.text(&node)?).ok();
                let key = bytes
                    .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
                    .and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok())
                    .filter(|key| !key.is_weak());
                if key.is_none() {
                    walk.report(&node.at, "is not an Ed25519 public key: 32 bytes in base64");
                }
                key
            });
            if let (Some(id), Some(key)) = (id, key) {
                if keys.iter().any(|known| known.id == id) {
                    walk.report(&node.at, format!("the id {} occurs twice", shown(&id)));
                }
                keys.push(TrustedKey { id, key });
            }
        }
        SignaturePolicy::Keys(keys)
    }

    /// Whether a plugin of this id may be installed.
    #[must_use]
    pub fn allows_id(&self, id: &PluginId) -> bool {
        self.ids.as_ref().is_none_or(|ids| {
            ids.iter().any(|allowed| match allowed.strip_suffix("/*") {
                Some(owner) => id.as_str().split_once('/').is_some_and(|(of, _)| of == owner),
                None => allowed == id.as_str(),
            })
        })
    }
}

/// Names of keys, as signature files use them.
pub(crate) fn is_key_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
