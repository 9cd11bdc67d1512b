//! A grant as questions: may it read this, start that, talk to them? Every no names the rule.

use pangolin_core::glob::{ANY, PATTERN_BYTES_MAX, args_match, host_matches, path_matches};
use pangolin_envelope::plugin::{BlockGrant, NetGrant};

use crate::failure::{Failure, clip};

/// Most rules of one kind.
const RULES_MAX: usize = 1_000;

/// A grant that was looked at as a whole.
pub(crate) struct Rules {
    pub(crate) grant: BlockGrant,
    read: Vec<Vec<String>>,
    write: Vec<Vec<String>>,
}

impl Rules {
    /// Refuses a grant with a rule that could mean something else than its author thought.
    pub(crate) fn new(grant: &BlockGrant) -> Result<Self, Failure> {
        let mut problems = Vec::new();
        let counts =
            [grant.exec.len(), grant.net.len(), grant.secrets.len(), grant.read.len(), grant.write.len()];
        if counts.iter().any(|count| *count > RULES_MAX) {
            problems.push(format!("it has more than {RULES_MAX} rules of one kind"));
        }
        for path in grant.read.iter().chain(&grant.write) {
            if let Some(problem) = path_problem(path) {
                problems.push(format!("path rule {path:?} {problem}"));
            }
        }
        let patterns = grant.exec.iter().flat_map(|rule| rule.args.iter().map(String::as_str));
        let segments = grant.read.iter().chain(&grant.write).flat_map(|path| path.split('/'));
        for token in patterns.chain(segments) {
            if token.len() > PATTERN_BYTES_MAX {
                problems.push(format!("a pattern is longer than {PATTERN_BYTES_MAX} bytes"));
            } else if token != ANY && token.contains(ANY) {
                problems.push(format!("in {token:?}, ** does not stand alone"));
            }
        }
        for rule in &grant.net {
            if !matches!(rule.scheme.as_str(), "https" | "http") {
                problems.push(format!(
                    "scheme {:?} of host {:?} is neither https nor http",
                    rule.scheme, rule.host
                ));
            }
        }
        for rule in &grant.secrets {
            if !rule.place.starts_with("env:") && !rule.place.starts_with("header:") {
                let place = &rule.place;
                problems
                    .push(format!("place {place:?} of secret {:?} is neither env:… nor header:…", rule.name));
            }
        }
        if !problems.is_empty() {
            return Err(Failure::Refused {
                capability: "grant".into(),
                subject: "rules".into(),
                reason: format!(
                    "{}; correct the grant and approve it again",
                    clip(problems.join("; "), 2_000)
                ),
            });
        }
        let split = |paths: &[String]| {
            paths
                .iter()
                .map(|path| path.split('/').map(str::to_owned).collect())
                .collect::<Vec<Vec<String>>>()
        };
        Ok(Self { read: split(&grant.read), write: split(&grant.write), grant: grant.clone() })
    }

    pub(crate) fn may_read(&self, path: &str) -> bool {
        any_path(&self.read, path)
    }

    pub(crate) fn read(&self, path: &str) -> Result<(), String> {
        if self.may_read(path) {
            return Ok(());
        }
        Err(not_granted("read", &self.grant.read, &format!("read = [{path:?}]")))
    }

    /// Why a listing is empty although there are files: `wanted` is the rule that would show them.
    pub(crate) fn not_listed(&self, wanted: &str) -> String {
        not_granted("read", &self.grant.read, &format!("read = [{wanted:?}]"))
    }

    pub(crate) fn write(&self, path: &str) -> Result<(), String> {
        if any_path(&self.write, path) {
            return Ok(());
        }
        Err(not_granted("write", &self.grant.write, &format!("write = [{path:?}]")))
    }

    pub(crate) fn exec(&self, program: &str, args: &[String]) -> Result<(), String> {
        let rules = || self.grant.exec.iter().filter(|rule| rule.program == program);
        if rules().any(|rule| args_match(&rule.args, args)) {
            return Ok(());
        }
        let line = format!("exec = [{{ program = {program:?}, args = [...] }}]");
        if rules().next().is_some() {
            let granted: Vec<String> = rules().map(|rule| format!("{:?}", rule.args)).collect();
            return Err(not_granted("exec (the program is granted, with other arguments)", &granted, &line));
        }
        let granted: Vec<String> = self.grant.exec.iter().map(|rule| rule.program.clone()).collect();
        Err(not_granted("exec", &granted, &line))
    }

    pub(crate) fn net(&self, scheme: &str, host: &str, port: u16, method: &str) -> Result<(), String> {
        let usual = |scheme: &str| if scheme == "http" { 80 } else { 443 };
        let fits = |rule: &NetGrant| {
            rule.scheme == scheme
                && host_matches(&rule.host, host)
                && rule.port.unwrap_or_else(|| usual(&rule.scheme)) == port
                && rule.methods.iter().any(|granted| granted == method)
        };
        if self.grant.net.iter().any(fits) {
            return Ok(());
        }
        let granted: Vec<String> = self
            .grant
            .net
            .iter()
            .map(|rule| {
                let port = rule.port.map_or_else(String::new, |port| format!(":{port}"));
                format!("{} {}://{}{port}", rule.methods.join("|"), rule.scheme, rule.host)
            })
            .collect();
        let line = format!("net = [{{ host = {host:?}, methods = [{method:?}] }}]");
        Err(not_granted("net", &granted, &line))
    }

    /// `place` is `env:NAME` or `header:Name`; `to` the program or host.
    pub(crate) fn secret(&self, name: &str, place: &str, to: &str) -> Result<(), String> {
        let header = place.starts_with("header:");
        let same = |granted: &str| {
            if header { granted.eq_ignore_ascii_case(place) } else { granted == place }
        };
        let goes = |rule: &Option<String>| match rule {
            None => true,
            Some(rule) if header => host_matches(rule, to),
            Some(rule) => rule == to,
        };
        if self.grant.secrets.iter().any(|rule| rule.name == name && same(&rule.place) && goes(&rule.to)) {
            return Ok(());
        }
        let granted: Vec<String> =
            self.grant.secrets.iter().map(|rule| format!("{} at {}", rule.name, rule.place)).collect();
        let line = format!("secret = [{{ name = {name:?}, place = {place:?}, to = {to:?} }}]");
        Err(not_granted("secret", &granted, &line))
    }
}

fn not_granted(what: &str, granted: &[String], line: &str) -> String {
    let shown = granted.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = granted.len().saturating_sub(5);
    let list = match (granted.len(), more) {
        (0, _) => "nothing is granted".to_owned(),
        (_, 0) => format!("granted: {shown}"),
        _ => format!("granted: {shown} and {more} more"),
    };
    clip(format!("no rule of {what} allows it, {list}; to allow it, grant {line}"), 1_000)
}

/// Why a path is not one inside the tree.
pub(crate) fn path_problem(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.len() > 4_096 {
        return Some("is longer than 4096 bytes");
    }
    if path.contains(['\0', '\\']) {
        return Some("contains a zero byte or a backslash");
    }
    path.split('/').find_map(|segment| match segment {
        "" => Some("is absolute or has an empty segment"),
        "." | ".." => Some("contains . or .."),
        _ => None,
    })
}

fn any_path(patterns: &[Vec<String>], path: &str) -> bool {
    patterns.iter().any(|pattern| path_matches(pattern, path))
}
