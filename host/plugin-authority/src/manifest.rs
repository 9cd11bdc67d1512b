//! The author's manifest: who the plugin is and what it asks for, each with a reason. Untrusted input.

use semver::{Version, VersionReq};
use serde_json::{Value, json};

use crate::{
    finding::{Findings, Node, Walk, shown},
    id::{Kind, PluginId, PluginIdError},
    limits::LimitSet,
    rules::{
        Capability, ExecRule, NEEDS_MAX, NetRule, PathRule, ReadRule, Rule, RuleSet, SecretRule, WriteRule,
    },
};

/// Name of the file that authors write.
pub const MANIFEST_FILE: &str = "pangolin-plugin.toml";

/// Version of the embedded form.
pub const MANIFEST_VERSION: u32 = 1;

/// Largest manifest text in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// A rule and why the plugin needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need<R> {
    /// What is asked for.
    pub rule: R,
    /// The author's reason, shown verbatim before approval. One line without deceptive characters.
    pub why: String,
}

/// Everything a plugin asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub(crate) exec: Vec<Need<ExecRule>>,
    pub(crate) net: Vec<Need<NetRule>>,
    pub(crate) secret: Vec<Need<SecretRule>>,
    pub(crate) read: Vec<Need<ReadRule>>,
    pub(crate) write: Vec<Need<WriteRule>>,
}

impl Needs {
    /// Capability, subject and reason of each.
    #[must_use]
    pub fn lines(&self) -> Vec<(Capability, String, &str)> {
        fn lines<'n, R: Rule>(needs: &'n [Need<R>], out: &mut Vec<(Capability, String, &'n str)>) {
            out.extend(needs.iter().map(|need| (R::CAPABILITY, need.rule.subject(), need.why.as_str())));
        }
        let mut out = Vec::new();
        lines(&self.exec, &mut out);
        lines(&self.net, &mut out);
        lines(&self.secret, &mut out);
        lines(&self.read, &mut out);
        lines(&self.write, &mut out);
        out
    }

    /// Nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Programs.
    #[must_use]
    pub fn exec(&self) -> &[Need<ExecRule>] {
        &self.exec
    }

    /// Hosts.
    #[must_use]
    pub fn net(&self) -> &[Need<NetRule>] {
        &self.net
    }

    /// Secrets.
    #[must_use]
    pub fn secret(&self) -> &[Need<SecretRule>] {
        &self.secret
    }

    /// Files to read.
    pub fn read(&self) -> impl Iterator<Item = &PathRule> {
        self.read.iter().map(|need| &need.rule.0)
    }

    /// Artifacts to write.
    pub fn write(&self) -> impl Iterator<Item = &PathRule> {
        self.write.iter().map(|need| &need.rule.0)
    }

    /// The rules alone.
    #[must_use]
    pub fn rules(&self) -> RuleSet {
        fn rules<R: Rule>(needs: &[Need<R>]) -> Vec<R> {
            needs.iter().map(|need| need.rule.clone()).collect()
        }
        RuleSet {
            exec: rules(&self.exec),
            net: rules(&self.net),
            secret: rules(&self.secret),
            read: rules(&self.read),
            write: rules(&self.write),
        }
    }
}

/// A checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Id, e.g. `acme/quorum-plus`.
    pub id: PluginId,
    /// Kind.
    pub kind: Kind,
    /// Versions of the contract package that it works with, e.g. `^1.2`.
    pub contract: VersionReq,
    /// Its own version.
    pub version: Version,
    /// Wishes. The host takes the smaller of wish and policy.
    pub limits: LimitSet,
    /// What it asks for.
    pub needs: Needs,
}

impl Manifest {
    /// Reads a `pangolin-plugin.toml`.
    ///
    /// # Errors
    /// [`Findings`]: everything that is wrong, each with its key path.
    pub fn from_toml(text: &str) -> Result<Self, Findings> {
        let mut walk = Walk::default();
        if text.len() > TEXT_BYTES_MAX {
            walk.report("", format!("is {} bytes long, the limit is {TEXT_BYTES_MAX}", text.len()));
            return walk.finish(MANIFEST_FILE, None);
        }
        let value: Value = match toml::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                walk.report("", error.message().to_owned() + &position(text, error.span()));
                return walk.finish(MANIFEST_FILE, None);
            }
        };
        let node = Node::root(&value);
        walk.table(&node, &["plugin", "limits", "needs"]);
        let manifest = Self::read(&mut walk, &node, LimitSet::read);
        walk.finish(MANIFEST_FILE, manifest)
    }

    /// Reads the embedded form: canonical JSON with `schemaVersion`.
    ///
    /// # Errors
    /// [`Findings`]: everything that is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Findings> {
        const WHAT: &str = "embedded manifest";
        let mut walk = Walk::default();
        if bytes.len() > TEXT_BYTES_MAX {
            walk.report("", format!("is {} bytes long, the limit is {TEXT_BYTES_MAX}", bytes.len()));
            return walk.finish(WHAT, None);
        }
        // Canonical form has no duplicate keys, so that no two readers can see two manifests.
        if let Err(error) = pangolin_audit::canon::check(bytes) {
            walk.report("", error.to_string());
            return walk.finish(WHAT, None);
        }
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let node = Node::root(&value);
        walk.table(&node, &["schemaVersion", "plugin", "limits", "needs"]);
        match value.get("schemaVersion").and_then(Value::as_u64) {
            Some(version) if version == u64::from(MANIFEST_VERSION) => {}
            Some(version) => walk.report(
                "schemaVersion",
                format!("is {version}, this program knows {MANIFEST_VERSION}; a newer pangolin may read it"),
            ),
            None => walk.report("schemaVersion", "is missing"),
        }
        let manifest = Self::read(&mut walk, &node, LimitSet::read_numbers);
        walk.finish(WHAT, manifest)
    }

    fn read(walk: &mut Walk, root: &Node<'_>, limits: fn(&mut Walk, &Node<'_>) -> LimitSet) -> Option<Self> {
        let plugin = walk.required(root, "plugin", "a table with id, kind, contract and version");
        let limits = Walk::child(root, "limits").map(|node| limits(walk, &node)).unwrap_or_default();
        let needs = Walk::child(root, "needs").map(|node| Self::read_needs(walk, &node)).unwrap_or_default();
        let plugin = plugin?;
        walk.table(&plugin, &["id", "kind", "contract", "version"])?;
        let id = Self::parse(walk, &plugin, "id", "e.g. id = \"acme/quorum-plus\"", |text| {
            PluginId::new(text).map_err(|_| PluginIdError(text.chars().take(80).collect()).to_string())
        });
        let kind =
            Self::parse(walk, &plugin, "kind", "pattern, runtime-adapter or block", str::parse::<Kind>);
        let contract = Self::parse(walk, &plugin, "contract", "e.g. contract = \"^1.0\"", |text| {
            let range = VersionReq::parse(text)
                .map_err(|error| format!("{} is not a version range: {error}", shown(text)))?;
            if range.comparators.is_empty() {
                return Err("must not be *: every contract is more than this plugin was made for".to_owned());
            }
            Ok(range)
        });
        let version = Self::parse(walk, &plugin, "version", "e.g. version = \"0.4.1\"", |text| {
            if text.len() > 64 {
                return Err("is longer than 64 bytes".to_owned());
            }
            Version::parse(text).map_err(|error| format!("{} is not a version: {error}", shown(text)))
        });
        Some(Self { id: id?, kind: kind?, contract: contract?, version: version?, limits, needs })
    }

    fn parse<T>(
        walk: &mut Walk,
        table: &Node<'_>,
        key: &str,
        hint: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = walk.required(table, key, hint)?;
        let text = walk.text(&node)?;
        parse(text).map_err(|problem| walk.report(&node.at, problem)).ok()
    }

    fn read_needs(walk: &mut Walk, node: &Node<'_>) -> Needs {
        fn needs<R: Rule>(walk: &mut Walk, node: &Node<'_>) -> Vec<Need<R>> {
            let Some(list) = Walk::child(node, R::CAPABILITY.as_str()) else { return Vec::new() };
            let known: Vec<&str> = R::KEYS.iter().copied().chain(["why"]).collect();
            let mut found = Vec::new();
            for node in walk.list(&list, NEEDS_MAX) {
                if !node.value.is_object() {
                    walk.report(
                        &node.at,
                        format!("must be a table with {}; every need says why", known.join(", ")),
                    );
                    continue;
                }
                walk.table(&node, &known);
                let why = walk.required(&node, "why", "every need says why in one sentence");
                let why = why.and_then(|node| walk.prose(&node));
                let rule = R::read(walk, &node);
                if let (Some(rule), Some(why)) = (rule, why) {
                    found.push(Need { rule, why });
                }
            }
            found
        }
        if walk.table(node, &RuleSet::KEYS).is_none() {
            return Needs::default();
        }
        Needs {
            exec: needs(walk, node),
            net: needs(walk, node),
            secret: needs(walk, node),
            read: needs(walk, node),
            write: needs(walk, node),
        }
    }

    /// The embedded form: canonical JSON (RFC 8785) with `schemaVersion`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        fn needs<R: Rule>(list: &[Need<R>], out: &mut serde_json::Map<String, Value>) {
            if list.is_empty() {
                return;
            }
            let entry = |need: &Need<R>| match serde_json::to_value(&need.rule) {
                Ok(Value::Object(mut table)) => {
                    table.insert("why".to_owned(), need.why.clone().into());
                    Value::Object(table)
                }
                other => json!({ "path": other.unwrap_or_default(), "why": need.why }),
            };
            out.insert(R::CAPABILITY.to_string(), list.iter().map(entry).collect());
        }
        let mut table = serde_json::Map::new();
        needs(&self.needs.exec, &mut table);
        needs(&self.needs.net, &mut table);
        needs(&self.needs.secret, &mut table);
        needs(&self.needs.read, &mut table);
        needs(&self.needs.write, &mut table);
        let mut value = json!({
            "schemaVersion": MANIFEST_VERSION,
            "plugin": {
                "id": self.id, "kind": self.kind,
                "contract": self.contract.to_string(), "version": self.version.to_string(),
            },
        });
        if !table.is_empty() {
            value["needs"] = Value::Object(table);
        }
        if let Some(limits) = self.limits.to_value() {
            value["limits"] = limits;
        }
        // Texts, small numbers, lists and tables always have a canonical form.
        pangolin_audit::canon::to_vec(&value).unwrap_or_default()
    }
}

/// ` (line 3)` of a TOML error.
pub(crate) fn position(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    span.and_then(|span| text.get(..span.start))
        .map_or_else(String::new, |before| format!(" (line {})", before.matches('\n').count() + 1))
}
