//! Rules: one line of what may be done. Manifests, project grants, operator policies and effective grants are made
//! of the same ones.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;
use serde_json::Value;

use pangolin_core::glob;

use crate::{
    finding::{Node, Walk, shown},
    request::SecretPlace,
};

/// Most rules of one capability.
const RULES_MAX: usize = 256;

/// Most arguments in one rule.
const ARGS_MAX: usize = 64;

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Start a program.
    Exec,
    /// Talk to a host.
    Net,
    /// Have a secret put somewhere. The plugin knows its name only.
    Secret,
    /// Read a file.
    Read,
    /// Write an artifact.
    Write,
}

impl Capability {
    /// All of them, in the order of manifests.
    pub const ALL: [Self; 5] = [Self::Exec, Self::Net, Self::Secret, Self::Read, Self::Write];

    /// The word used in documents and denials.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Net => "net",
            Self::Secret => "secret",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What two rules have in common.
pub(crate) enum Meet<R> {
    /// Nothing.
    Disjoint,
    /// Perhaps something, but no single rule says it.
    Partial,
    /// Exactly this.
    Rule(R),
}

/// What all rules can do.
pub(crate) trait Rule: Sized + Clone + Ord + Serialize {
    const CAPABILITY: Capability;
    /// Keys of its table.
    const KEYS: &'static [&'static str];
    fn read(walk: &mut Walk, node: &Node<'_>) -> Option<Self>;
    /// Whether everything that `other` allows is allowed.
    fn covers(&self, other: &Self) -> bool;
    fn meet(&self, other: &Self) -> Meet<Self>;
    /// For people.
    fn subject(&self) -> String;
    /// As it is written in a grant.
    fn toml(&self) -> String;
    fn of(set: &RuleSet) -> &[Self];
    fn of_mut(set: &mut RuleSet) -> &mut Vec<Self>;
}

fn quoted(text: &str) -> String {
    // A JSON text is a TOML basic string, but for DEL.
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

fn quoted_list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// May start one program with arguments that fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ExecRule {
    program: String,
    args: Vec<String>,
}

impl ExecRule {
    /// A name that is looked up in `PATH`, or an absolute path.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// One pattern per argument; `**` stands for any number of arguments.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    pub(crate) fn allows<A: AsRef<str>>(&self, program: &str, args: &[A]) -> bool {
        self.program == program && glob::args_match(&self.args, args)
    }
}

fn program_problem(program: &str) -> Option<&'static str> {
    if program.is_empty() || program.len() > 256 {
        return Some("is empty or longer than 256 bytes");
    }
    if !program.bytes().all(|b| b.is_ascii_graphic()) || program.contains('*') {
        return Some("must be printable ASCII without spaces or *; programs have no wildcards");
    }
    match program.strip_prefix('/') {
        Some(path) => glob::path_problem(path),
        None if program.contains('/') => Some("must be a plain name or an absolute path"),
        None if program == "." || program == ".." => Some("is not a program"),
        None => None,
    }
}

impl Rule for ExecRule {
    const CAPABILITY: Capability = Capability::Exec;
    const KEYS: &'static [&'static str] = &["program", "args"];

    fn read(walk: &mut Walk, node: &Node<'_>) -> Option<Self> {
        let before = walk.findings.len();
        let program = walk.required(node, "program", "e.g. program = \"cargo\"");
        let program = program.and_then(|node| {
            let text = walk.text(&node)?;
            if let Some(problem) = program_problem(text) {
                walk.report(&node.at, format!("{} {problem}", shown(text)));
            }
            Some(text.to_owned())
        });
        let mut args = Vec::new();
        if let Some(list) = Walk::child(node, "args") {
            for node in walk.list(&list, ARGS_MAX) {
                let Some(text) = walk.text(&node) else { continue };
                if let Some(problem) = glob::token_problem(text) {
                    walk.report(&node.at, format!("{} {problem}", shown(text)));
                }
                args.push(text.to_owned());
            }
        }
        (walk.findings.len() == before).then_some(Self { program: program?, args })
    }

    fn covers(&self, other: &Self) -> bool {
        self.program == other.program && glob::args_cover(&self.args, &other.args)
    }

    fn meet(&self, other: &Self) -> Meet<Self> {
        if self.program != other.program {
            Meet::Disjoint
        } else if self.covers(other) {
            Meet::Rule(other.clone())
        } else if other.covers(self) {
            Meet::Rule(self.clone())
        } else {
            Meet::Partial
        }
    }

    fn subject(&self) -> String {
        [self.program.as_str()]
            .into_iter()
            .chain(self.args.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn toml(&self) -> String {
        format!("{{ program = {}, args = {} }}", quoted(&self.program), quoted_list(&self.args))
    }

    fn of(set: &RuleSet) -> &[Self] {
        &set.exec
    }

    fn of_mut(set: &mut RuleSet) -> &mut Vec<Self> {
        &mut set.exec
    }
}

/// May send requests to hosts that fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NetRule {
    host: String,
    methods: BTreeSet<String>,
    schemes: BTreeSet<String>,
    ports: BTreeSet<u16>,
}

impl NetRule {
    /// A host, or `*.x.y` for everything below it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Upper case.
    #[must_use]
    pub const fn methods(&self) -> &BTreeSet<String> {
        &self.methods
    }

    /// `https`, `http`.
    #[must_use]
    pub const fn schemes(&self) -> &BTreeSet<String> {
        &self.schemes
    }

    /// Ports.
    #[must_use]
    pub const fn ports(&self) -> &BTreeSet<u16> {
        &self.ports
    }

    pub(crate) fn allows(&self, host: &str, port: u16, scheme: &str, method: &str) -> bool {
        glob::host_matches(&self.host, host)
            && self.ports.contains(&port)
            && self.schemes.contains(scheme)
            && self.methods.contains(method)
    }
}

impl Rule for NetRule {
    const CAPABILITY: Capability = Capability::Net;
    const KEYS: &'static [&'static str] = &["host", "methods", "schemes", "ports"];

    fn read(walk: &mut Walk, node: &Node<'_>) -> Option<Self> {
        let before = walk.findings.len();
        let host = walk.required(node, "host", "e.g. host = \"api.acme.dev\"");
        let host = host.and_then(|node| {
            let text = walk.text(&node)?;
            if let Some(problem) = glob::host_problem(text) {
                walk.report(&node.at, format!("{} {problem}", shown(text)));
            }
            Some(text.to_owned())
        });
        let mut words = |key: &str, default: &str, good: &dyn Fn(&str) -> bool, expected: &str| {
            let Some(list) = Walk::child(node, key) else { return BTreeSet::from([default.to_owned()]) };
            let mut found = BTreeSet::new();
            for node in walk.list(&list, 16) {
                let Some(text) = walk.text(&node) else { continue };
                if !good(text) {
                    walk.report(&node.at, format!("{} {expected}", shown(text)));
                }
                found.insert(text.to_owned());
            }
            if found.is_empty() {
                walk.report(&list.at, "must not be empty");
            }
            found
        };
        let method = |text: &str| {
            (1..=16).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_uppercase())
                && text != "CONNECT"
                && text != "TRACE"
        };
        let methods = words("methods", "GET", &method, "is not a method in upper case that may be granted");
        let scheme = |text: &str| matches!(text, "http" | "https");
        let schemes = words("schemes", "https", &scheme, "is not http or https");
        let mut ports = BTreeSet::new();
        match Walk::child(node, "ports") {
            Some(list) => {
                for node in walk.list(&list, 16) {
                    match node
                        .value
                        .as_u64()
                        .and_then(|port| u16::try_from(port).ok())
                        .filter(|port| *port > 0)
                    {
                        Some(port) => drop(ports.insert(port)),
                        None => walk.report(&node.at, "must be a port from 1 to 65535"),
                    }
                }
                if ports.is_empty() {
                    walk.report(&list.at, "must not be empty");
                }
            }
            None => {
                ports.extend(schemes.iter().map(|scheme| if scheme == "http" { 80 } else { 443 }));
            }
        }
        (walk.findings.len() == before).then_some(Self { host: host?, methods, schemes, ports })
    }

    fn covers(&self, other: &Self) -> bool {
        glob::host_covers(&self.host, &other.host)
            && self.methods.is_superset(&other.methods)
            && self.schemes.is_superset(&other.schemes)
            && self.ports.is_superset(&other.ports)
    }

    fn meet(&self, other: &Self) -> Meet<Self> {
        let host = if glob::host_covers(&self.host, &other.host) {
            &other.host
        } else if glob::host_covers(&other.host, &self.host) {
            &self.host
        } else {
            return Meet::Disjoint;
        };
        let rule = Self {
            host: host.clone(),
            methods: self.methods.intersection(&other.methods).cloned().collect(),
            schemes: self.schemes.intersection(&other.schemes).cloned().collect(),
            ports: self.ports.intersection(&other.ports).copied().collect(),
        };
        if rule.methods.is_empty() || rule.schemes.is_empty() || rule.ports.is_empty() {
            Meet::Disjoint
        } else {
            Meet::Rule(rule)
        }
    }

    fn subject(&self) -> String {
        let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        let ports = self.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        format!("{} {}://{}:{ports}", join(&self.methods), join(&self.schemes), self.host)
    }

    fn toml(&self) -> String {
        let ports = self.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "{{ host = {}, methods = {}, schemes = {}, ports = [{ports}] }}",
            quoted(&self.host),
            quoted_list(&self.methods),
            quoted_list(&self.schemes),
        )
    }

    fn of(set: &RuleSet) -> &[Self] {
        &set.net
    }

    fn of_mut(set: &mut RuleSet) -> &mut Vec<Self> {
        &mut set.net
    }
}

/// May have the host put one secret at one place for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SecretRule {
    name: String,
    place: SecretPlace,
    to: String,
}

impl SecretRule {
    /// Name of the secret; its value never enters a plugin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the host puts it.
    #[must_use]
    pub const fn place(&self) -> &SecretPlace {
        &self.place
    }

    /// Host (or `*.x.y`) for a header, program for a variable.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.to
    }

    pub(crate) fn allows(&self, name: &str, place: &SecretPlace, to: &str) -> bool {
        self.name == name && self.place.fits(place) && self.reaches(to)
    }

    fn reaches(&self, to: &str) -> bool {
        match self.place {
            SecretPlace::Header(_) => glob::host_covers(&self.to, to),
            SecretPlace::Env(_) => self.to == to,
        }
    }
}

fn is_variable(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.as_bytes()[0].is_ascii_digit()
}

impl Rule for SecretRule {
    const CAPABILITY: Capability = Capability::Secret;
    const KEYS: &'static [&'static str] = &["name", "place", "to"];

    fn read(walk: &mut Walk, node: &Node<'_>) -> Option<Self> {
        let before = walk.findings.len();
        let name = walk.required(node, "name", "e.g. name = \"ACME_TOKEN\"").and_then(|node| {
            let text = walk.text(&node)?;
            if !is_variable(text) {
                walk.report(&node.at, format!("{} is not a name of A-Z a-z 0-9 and _", shown(text)));
            }
            Some(text.to_owned())
        });
        let place = walk.required(node, "place", "header:<name> or env:<variable>").and_then(|node| {
            let place = walk.text(&node)?.parse::<SecretPlace>();
            place.map_err(|problem| walk.report(&node.at, problem)).ok()
        });
        let to =
            walk.required(node, "to", "the host that gets the header, or the program that gets the variable");
        let to = to.and_then(|node| {
            let text = walk.text(&node)?;
            let problem = match place {
                Some(SecretPlace::Header(_)) => glob::host_problem(text),
                Some(SecretPlace::Env(_)) => program_problem(text),
                None => None,
            };
            if let Some(problem) = problem {
                walk.report(&node.at, format!("{} {problem}", shown(text)));
            }
            Some(text.to_owned())
        });
        (walk.findings.len() == before).then_some(Self { name: name?, place: place?, to: to? })
    }

    fn covers(&self, other: &Self) -> bool {
        self.allows(&other.name, &other.place, &other.to)
    }

    fn meet(&self, other: &Self) -> Meet<Self> {
        if self.covers(other) {
            Meet::Rule(other.clone())
        } else if other.covers(self) {
            Meet::Rule(self.clone())
        } else {
            Meet::Disjoint
        }
    }

    fn subject(&self) -> String {
        format!("{} as {} to {}", self.name, self.place, self.to)
    }

    fn toml(&self) -> String {
        format!(
            "{{ name = {}, place = {}, to = {} }}",
            quoted(&self.name),
            quoted(&self.place.to_string()),
            quoted(&self.to)
        )
    }

    fn of(set: &RuleSet) -> &[Self] {
        &set.secret
    }

    fn of_mut(set: &mut RuleSet) -> &mut Vec<Self> {
        &mut set.secret
    }
}

macro_rules! path_rule {
    ($(#[$doc:meta])* $name:ident, $capability:expr, $field:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(pub(crate) PathRule);

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl Rule for $name {
            const CAPABILITY: Capability = $capability;
            const KEYS: &'static [&'static str] = &["path"];

            fn read(walk: &mut Walk, node: &Node<'_>) -> Option<Self> {
                PathRule::read(walk, node).map(Self)
            }
            fn covers(&self, other: &Self) -> bool {
                glob::path_covers(&self.0.segments, &other.0.segments)
            }
            fn meet(&self, other: &Self) -> Meet<Self> {
                if self.covers(other) {
                    Meet::Rule(other.clone())
                } else if other.covers(self) {
                    Meet::Rule(self.clone())
                } else {
                    Meet::Partial
                }
            }
            fn subject(&self) -> String {
                self.0.to_string()
            }
            fn toml(&self) -> String {
                quoted(&self.0.to_string())
            }
            fn of(set: &RuleSet) -> &[Self] {
                &set.$field
            }
            fn of_mut(set: &mut RuleSet) -> &mut Vec<Self> {
                &mut set.$field
            }
        }
    };
}

path_rule! {
    /// May read files that fit.
    ReadRule, Capability::Read, read
}
path_rule! {
    /// May write artifacts that fit.
    WriteRule, Capability::Write, write
}

/// Files by path: segments, `*` inside one, `**` for any number of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathRule {
    segments: Vec<String>,
}

impl PathRule {
    /// A path that ends in `**` stands for everything below it, as in the record of a denied listing.
    pub(crate) fn allows(&self, path: &str) -> bool {
        if path.split('/').next_back() == Some(glob::ANY) {
            let below: Vec<String> = path.split('/').map(str::to_owned).collect();
            return glob::path_covers(&self.segments, &below);
        }
        glob::path_matches(&self.segments, path)
    }

    fn read(walk: &mut Walk, node: &Node<'_>) -> Option<Self> {
        let node = if node.value.is_object() {
            walk.required(node, "path", "e.g. path = \"workspace/src/**\"")?
        } else {
            node.clone()
        };
        let text = walk.text(&node)?;
        let problem = glob::path_problem(text)
            .or_else(|| (text.len() > glob::PATTERN_BYTES_MAX).then_some("is longer than 512 bytes"))
            .or_else(|| text.split('/').find_map(glob::token_problem));
        if let Some(problem) = problem {
            walk.report(&node.at, format!("{} {problem}", shown(text)));
            return None;
        }
        Some(Self { segments: text.split('/').map(str::to_owned).collect() })
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("/"))
    }
}

impl Serialize for PathRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Rules of all capabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RuleSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) exec: Vec<ExecRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) net: Vec<NetRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) secret: Vec<SecretRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) read: Vec<ReadRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) write: Vec<WriteRule>,
}

impl RuleSet {
    /// Programs.
    #[must_use]
    pub fn exec(&self) -> &[ExecRule] {
        &self.exec
    }

    /// Hosts.
    #[must_use]
    pub fn net(&self) -> &[NetRule] {
        &self.net
    }

    /// Secrets.
    #[must_use]
    pub fn secret(&self) -> &[SecretRule] {
        &self.secret
    }

    /// Files to read.
    pub fn read(&self) -> impl Iterator<Item = &PathRule> {
        self.read.iter().map(|rule| &rule.0)
    }

    /// Artifacts to write.
    pub fn write(&self) -> impl Iterator<Item = &PathRule> {
        self.write.iter().map(|rule| &rule.0)
    }

    /// Nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each rule as capability and words.
    #[must_use]
    pub fn lines(&self) -> Vec<(Capability, String)> {
        fn lines<R: Rule>(set: &RuleSet, out: &mut Vec<(Capability, String)>) {
            out.extend(R::of(set).iter().map(|rule| (R::CAPABILITY, rule.subject())));
        }
        let mut out = Vec::new();
        lines::<ExecRule>(self, &mut out);
        lines::<NetRule>(self, &mut out);
        lines::<SecretRule>(self, &mut out);
        lines::<ReadRule>(self, &mut out);
        lines::<WriteRule>(self, &mut out);
        out
    }

    /// The rules as lines of a grant table in `pangolin.toml`.
    #[must_use]
    pub fn to_toml_lines(&self) -> Vec<String> {
        fn line<R: Rule>(set: &RuleSet, out: &mut Vec<String>) {
            let rules: Vec<String> = R::of(set).iter().map(Rule::toml).collect();
            if !rules.is_empty() {
                out.push(format!("{} = [{}]", R::CAPABILITY, rules.join(", ")));
            }
        }
        let mut out = Vec::new();
        line::<ExecRule>(self, &mut out);
        line::<NetRule>(self, &mut out);
        line::<SecretRule>(self, &mut out);
        line::<ReadRule>(self, &mut out);
        line::<WriteRule>(self, &mut out);
        out
    }

    /// Sorted, and without rules that another one covers: one form for one authority, as far as rules can say.
    pub(crate) fn normalise(&mut self) {
        fn minimal<R: Rule>(rules: &mut Vec<R>) {
            rules.sort();
            rules.dedup();
            let all = rules.clone();
            rules.retain(|rule| {
                // Of two that cover each other the first stays.
                !all.iter()
                    .any(|other| other != rule && other.covers(rule) && (!rule.covers(other) || other < rule))
            });
        }
        minimal(&mut self.exec);
        minimal(&mut self.net);
        minimal(&mut self.secret);
        minimal(&mut self.read);
        minimal(&mut self.write);
    }

    /// Keys of a table of rules.
    pub(crate) const KEYS: [&'static str; 5] = ["exec", "net", "secret", "read", "write"];

    /// Reads the five lists of a table whose keys were checked already.
    pub(crate) fn from_table(walk: &mut Walk, node: &Node<'_>) -> Self {
        fn rules<R: Rule>(walk: &mut Walk, node: &Node<'_>, set: &mut RuleSet) {
            let Some(list) = Walk::child(node, R::CAPABILITY.as_str()) else { return };
            for node in walk.list(&list, RULES_MAX) {
                if node.value.is_object() {
                    walk.table(&node, R::KEYS);
                } else if !node.value.is_string()
                    || !matches!(R::CAPABILITY, Capability::Read | Capability::Write)
                {
                    walk.report(&node.at, format!("must be a table with {}", R::KEYS.join(", ")));
                    continue;
                }
                if let Some(rule) = R::read(walk, &node) {
                    R::of_mut(set).push(rule);
                }
            }
        }
        let mut set = Self::default();
        rules::<ExecRule>(walk, node, &mut set);
        rules::<NetRule>(walk, node, &mut set);
        rules::<SecretRule>(walk, node, &mut set);
        rules::<ReadRule>(walk, node, &mut set);
        rules::<WriteRule>(walk, node, &mut set);
        set
    }
}

/// Most entries of one list of needs.
pub(crate) const NEEDS_MAX: usize = RULES_MAX;
