//! An effective grant: what one plugin may do, and the check before each effect.

use std::fmt;

use pangolin_core::ids::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use pangolin_core::glob;

use crate::{
    finding::{Node, Walk},
    id::PluginId,
    limits::LimitSet,
    request::{Request, SecretPlace},
    rules::{Capability, ExecRule, NetRule, ReadRule, Rule, RuleSet, SecretRule, WriteRule},
};

/// The host said no. Recorded, and answered to the plugin as a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{capability} {subject:?} is not granted: {rule}")]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// `exec`, `net`, `secret`, `read` or `write`.
    pub capability: String,
    /// What was asked for; [`Request::parse`] reads it.
    pub subject: String,
    /// The closest rule, or that there is none.
    pub rule: String,
    /// The file where a grant would go.
    pub file: String,
    /// The line that would grant exactly this in the table `[plugins."<id>".grant]`; absent when none can.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line_to_add: Option<String>,
}

impl Denied {
    #[cold]
    fn new(request: &Request, rule: String) -> Box<Self> {
        Box::new(Self {
            capability: request.capability().as_str().to_owned(),
            subject: request.to_string(),
            rule,
            file: "pangolin.toml".to_owned(),
            line_to_add: request.grant_line(),
        })
    }
}

/// What one plugin may do. What is not in it is denied. Everything in it has been checked, also when it was read
/// from a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    rules: RuleSet,
    limits: LimitSet,
}

impl Grant {
    pub(crate) fn new(mut rules: RuleSet, limits: LimitSet) -> Self {
        rules.normalise();
        Self { rules, limits }
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The limits: wish and caps, the smallest of each. What is absent is up to the host's default.
    #[must_use]
    pub const fn limits(&self) -> LimitSet {
        self.limits
    }

    fn to_value(&self) -> Value {
        // Rules are texts, numbers and lists: they always have a JSON form.
        let mut table = match serde_json::to_value(&self.rules) {
            Ok(Value::Object(table)) => table,
            _ => Map::new(),
        };
        if let Some(limits) = self.limits.to_value() {
            table.insert("limits".to_owned(), limits);
        }
        Value::Object(table)
    }

    /// SHA-256 over the canonical JSON (RFC 8785) of the grant.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&pangolin_audit::canon::to_vec(&self.to_value()).unwrap_or_default())
    }

    /// Whether `program` may be started with `args`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn allows_exec<A: AsRef<str>>(&self, program: &str, args: &[A]) -> Result<(), Box<Denied>> {
        if self.rules.exec.iter().any(|rule| rule.allows(program, args)) {
            return Ok(());
        }
        let request = Request::Exec {
            program: program.to_owned(),
            args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
        };
        let same = self.rules.exec.iter().filter(|rule| rule.program() == program);
        let rules: Vec<String> = same.map(Rule::subject).collect();
        Err(Denied::new(
            &request,
            if rules.is_empty() {
                format!("no exec rule names {program:?}")
            } else {
                format!("the arguments fit none of: {}", rules.join(" | "))
            },
        ))
    }

    /// Whether a request may be sent. `host` in lower case as it is in the URL, `method` in upper case.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn allows_net(&self, host: &str, port: u16, scheme: &str, method: &str) -> Result<(), Box<Denied>> {
        if self.rules.net.iter().any(|rule| rule.allows(host, port, scheme, method)) {
            return Ok(());
        }
        let request = Request::Net {
            host: host.to_owned(),
            port,
            scheme: scheme.to_owned(),
            method: method.to_owned(),
        };
        let same = self.rules.net.iter().filter(|rule| glob::host_matches(rule.host(), host));
        let rules: Vec<String> = same.map(Rule::subject).collect();
        Err(Denied::new(
            &request,
            if rules.is_empty() {
                format!("no net rule names {host:?}")
            } else {
                format!("scheme, port or method fit none of: {}", rules.join(" | "))
            },
        ))
    }

    /// Whether the host may put the secret there. `to` is the host of the request, or the program.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn allows_secret(&self, name: &str, place: &SecretPlace, to: &str) -> Result<(), Box<Denied>> {
        if self.rules.secret.iter().any(|rule| rule.allows(name, place, to)) {
            return Ok(());
        }
        let request = Request::Secret { name: name.to_owned(), place: place.clone(), to: to.to_owned() };
        let same = self.rules.secret.iter().filter(|rule| rule.name() == name);
        let rules: Vec<String> = same.map(Rule::subject).collect();
        Err(Denied::new(
            &request,
            if rules.is_empty() {
                format!("no secret rule names {name:?}")
            } else {
                format!("place or receiver fit none of: {}", rules.join(" | "))
            },
        ))
    }

    /// Whether the file may be read. A path that climbs (`..`), is absolute or not normal fits no rule.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn allows_read(&self, path: &str) -> Result<(), Box<Denied>> {
        let problem = glob::path_problem(path);
        if problem.is_none() && self.rules.read.iter().any(|rule| rule.0.allows(path)) {
            return Ok(());
        }
        Err(Self::deny_path::<ReadRule>(&Request::Read { path: path.to_owned() }, &self.rules, problem))
    }

    /// Whether the artifact may be written.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn allows_write(&self, path: &str) -> Result<(), Box<Denied>> {
        let problem = glob::path_problem(path);
        if problem.is_none() && self.rules.write.iter().any(|rule| rule.0.allows(path)) {
            return Ok(());
        }
        Err(Self::deny_path::<WriteRule>(&Request::Write { path: path.to_owned() }, &self.rules, problem))
    }

    #[cold]
    fn deny_path<R: Rule>(request: &Request, rules: &RuleSet, problem: Option<&str>) -> Box<Denied> {
        let rules: Vec<String> = R::of(rules).iter().map(Rule::subject).collect();
        Denied::new(
            request,
            match problem {
                Some(problem) => format!("the path {problem}"),
                None if rules.is_empty() => format!("there is no {} rule", R::CAPABILITY),
                None => format!("the path fits none of: {}", rules.join(" | ")),
            },
        )
    }

    /// The same for a request as a value.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn allows(&self, request: &Request) -> Result<(), Box<Denied>> {
        match request {
            Request::Exec { program, args } => self.allows_exec(program, args),
            Request::Net { host, port, scheme, method } => self.allows_net(host, *port, scheme, method),
            Request::Secret { name, place, to } => self.allows_secret(name, place, to),
            Request::Read { path } => self.allows_read(path),
            Request::Write { path } => self.allows_write(path),
        }
    }

    pub(crate) fn read(walk: &mut Walk, node: &Node<'_>) -> Self {
        let known: Vec<&str> = RuleSet::KEYS.into_iter().chain(["limits"]).collect();
        if walk.table(node, &known).is_none() {
            return Self::default();
        }
        let rules = RuleSet::from_table(walk, node);
        let limits = Walk::child(node, "limits").map(|node| LimitSet::read_numbers(walk, &node));
        Self::new(rules, limits.unwrap_or_default())
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let mut walk = Walk::default();
        let grant = Self::read(&mut walk, &Node::root(&value));
        walk.finish("grant", Some(grant)).map_err(serde::de::Error::custom)
    }
}

/// What a grant allows beyond another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Capability (or `limits`) and rule, in words.
    pub wider: Vec<(String, String)>,
    /// What the other one allowed and this one does not, for display.
    pub narrower: Vec<(String, String)>,
}

impl Difference {
    /// Nothing is wider: what was approved still covers it.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.wider.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |sign: char| move |(what, rule): &(String, String)| format!("{sign} {what} {rule}");
        let lines: Vec<String> =
            self.wider.iter().map(line('+')).chain(self.narrower.iter().map(line('-'))).collect();
        f.write_str(&lines.join("; "))
    }
}

/// What `new` allows beyond `old`.
#[must_use]
pub fn widening(old: &Grant, new: &Grant) -> Difference {
    fn rules<R: Rule>(old: &RuleSet, new: &RuleSet, out: &mut Vec<(String, String)>) {
        for rule in R::of(new).iter().filter(|rule| !R::of(old).iter().any(|had| had.covers(rule))) {
            out.push((R::CAPABILITY.to_string(), rule.subject()));
        }
    }
    fn beyond(old: &Grant, new: &Grant) -> Vec<(String, String)> {
        let mut out = Vec::new();
        rules::<ExecRule>(&old.rules, &new.rules, &mut out);
        rules::<NetRule>(&old.rules, &new.rules, &mut out);
        rules::<SecretRule>(&old.rules, &new.rules, &mut out);
        rules::<ReadRule>(&old.rules, &new.rules, &mut out);
        rules::<WriteRule>(&old.rules, &new.rules, &mut out);
        for ((name, had), (_, has)) in old.limits.values().into_iter().zip(new.limits.values()) {
            // Absent means the host's default, which no limit exceeds.
            match (had, has) {
                (Some(had), Some(has)) if has > had => {
                    out.push(("limits".to_owned(), format!("{name} {has} instead of {had}")));
                }
                (Some(had), None) => {
                    out.push(("limits".to_owned(), format!("{name} as the host has it instead of {had}")));
                }
                _ => {}
            }
        }
        out
    }
    Difference { wider: beyond(old, new), narrower: beyond(new, old) }
}

/// A plugin that must not run until a person approves it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "plugin {id} is inert: it would get more than was approved ({}); look at it and approve it with `pangolin plugin add {id}`",
    words(.difference)
)]
pub struct NotApproved {
    /// The plugin.
    pub id: PluginId,
    /// What is new.
    pub difference: Difference,
}

fn words(difference: &Difference) -> String {
    difference.wider.iter().map(|(what, rule)| format!("{what} {rule}")).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .rules
            .lines()
            .into_iter()
            .map(|(what, rule): (Capability, String)| format!("{what} {rule}"))
            .collect();
        f.write_str(&if lines.is_empty() { "nothing".to_owned() } else { lines.join("; ") })
    }
}
