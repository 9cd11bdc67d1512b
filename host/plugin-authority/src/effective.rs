//! Effective grant = manifest ∩ project ∩ operator, and why each cut was made.

use serde::Serialize;
use serde_json::Value;

use crate::{
    finding::{Finding, Node, Walk},
    grant::Grant,
    limits::LimitSet,
    manifest::{Manifest, Need},
    policy::{Allow, OperatorPolicy},
    request::Request,
    rules::{Capability, ExecRule, Meet, NetRule, ReadRule, Rule, RuleSet, SecretRule, WriteRule},
};

/// What a project grants one plugin: `[plugins."<id>".grant]` and `limits` beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectGrant {
    pub(crate) rules: RuleSet,
    pub(crate) limits: LimitSet,
    pub(crate) file: String,
    pub(crate) exists: bool,
}

impl ProjectGrant {
    /// The project says nothing about the plugin: everything is denied.
    #[must_use]
    pub fn absent(file: impl Into<String>) -> Self {
        Self { rules: RuleSet::default(), limits: LimitSet::default(), file: file.into(), exists: false }
    }

    /// Reads `{ grant = { exec = …, … }, limits = { … } }`; `at` is the key path of the table, `file` where it is.
    ///
    /// # Errors
    /// Every [`Finding`].
    pub fn from_value(value: &Value, at: &str, file: impl Into<String>) -> Result<Self, Vec<Finding>> {
        let mut walk = Walk::default();
        let node = Node { value, at: at.to_owned() };
        walk.table(&node, &["grant", "limits"]);
        let grant = Walk::child(&node, "grant");
        let rules = grant.as_ref().map(|node| {
            walk.table(node, &RuleSet::KEYS);
            RuleSet::from_table(&mut walk, node)
        });
        let limits = Walk::child(&node, "limits").map(|node| LimitSet::read(&mut walk, &node));
        if walk.findings.is_empty() {
            Ok(Self {
                exists: rules.is_some(),
                rules: rules.unwrap_or_default(),
                limits: limits.unwrap_or_default(),
                file: file.into(),
            })
        } else {
            Err(walk.findings)
        }
    }

    /// A grant of exactly what a manifest asks for: what somebody writes who agrees with all of it.
    #[must_use]
    pub fn as_asked(manifest: &Manifest, file: impl Into<String>) -> Self {
        Self { rules: manifest.needs.rules(), limits: LimitSet::default(), file: file.into(), exists: true }
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> &RuleSet {
        &self.rules
    }
}

/// Who cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CutBy {
    /// `pangolin.toml`.
    Project,
    /// The operator's policy.
    Operator,
}

impl CutBy {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Operator => "operator",
        }
    }
}

/// Something that was asked for and is not granted, or only in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cut {
    /// Capability.
    pub capability: Capability,
    /// What was asked for.
    pub subject: String,
    /// Who.
    pub by: CutBy,
    /// The reason: the closest rule, or that there is none.
    pub rule: String,
    /// The file that decides.
    pub file: String,
    /// What is left of it; empty when all of it was cut.
    pub left: Vec<String>,
    /// The line that would keep it.
    pub line_to_add: String,
}

/// What applies, and why not more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// What the plugin may do.
    pub grant: Grant,
    /// What was cut.
    pub cuts: Vec<Cut>,
}

/// One authority in the intersection.
struct Layer<'a> {
    by: CutBy,
    file: &'a str,
    rules: &'a RuleSet,
    /// The whole layer is missing.
    nothing: Option<String>,
}

/// Intersects one rule with one layer. What is left are rules that both sides allow entirely: an intersection that
/// no rule can express is cut, never rounded up.
fn cut_one<R: Rule>(rule: &R, layer: &Layer<'_>, asked: &R, cuts: &mut Vec<Cut>) -> Vec<R> {
    let theirs = R::of(layer.rules);
    if theirs.iter().any(|their| their.covers(rule)) {
        return vec![rule.clone()];
    }
    let (mut left, mut close) = (Vec::new(), Vec::new());
    for their in theirs {
        match their.meet(rule) {
            Meet::Rule(common) => {
                close.push(their.subject());
                left.push(common);
            }
            Meet::Partial => close.push(their.subject()),
            Meet::Disjoint => {}
        }
    }
    let reason = match &layer.nothing {
        Some(reason) => reason.clone(),
        None if theirs.is_empty() => format!("grants no {}", R::CAPABILITY),
        None if close.is_empty() => format!("no {} rule covers it", R::CAPABILITY),
        None if left.is_empty() => {
            format!(
                "{} overlaps, but neither contains the other; make one of them narrower",
                close.join(" | ")
            )
        }
        None => format!("only {} is granted", close.join(" | ")),
    };
    cuts.push(Cut {
        capability: R::CAPABILITY,
        subject: asked.subject(),
        by: layer.by,
        rule: reason,
        file: layer.file.to_owned(),
        left: left.iter().map(Rule::subject).collect(),
        line_to_add: format!("{} = [{}]", R::CAPABILITY, asked.toml()),
    });
    left
}

fn cut_all<R: Rule>(needs: &[Need<R>], layers: &[Layer<'_>], cuts: &mut Vec<Cut>) -> Vec<R> {
    let mut kept = Vec::new();
    for need in needs {
        let mut left = vec![need.rule.clone()];
        for layer in layers {
            left = left.iter().flat_map(|rule| cut_one(rule, layer, &need.rule, cuts)).collect();
        }
        kept.extend(left);
    }
    kept
}

/// Intersects what a plugin asks for with what the project grants and the operator allows.
#[must_use]
pub fn effective(manifest: &Manifest, project: &ProjectGrant, operator: &OperatorPolicy) -> Effective {
    let mut layers = vec![Layer {
        by: CutBy::Project,
        file: &project.file,
        rules: &project.rules,
        nothing: (!project.exists).then(|| format!("[plugins.\"{}\".grant] is missing", manifest.id)),
    }];
    if let Allow::Rules(rules) = &operator.allow {
        layers.push(Layer { by: CutBy::Operator, file: &operator.file, rules, nothing: None });
    }
    let mut cuts = Vec::new();
    let needs = &manifest.needs;
    let rules = RuleSet {
        exec: cut_all::<ExecRule>(&needs.exec, &layers, &mut cuts),
        net: cut_all::<NetRule>(&needs.net, &layers, &mut cuts),
        secret: cut_all::<SecretRule>(&needs.secret, &layers, &mut cuts),
        read: cut_all::<ReadRule>(&needs.read, &layers, &mut cuts),
        write: cut_all::<WriteRule>(&needs.write, &layers, &mut cuts),
    };
    let limits = manifest.limits.min(project.limits).min(operator.limits);
    Effective { grant: Grant::new(rules, limits), cuts }
}

/// Why a request of a plugin was denied: the first layer that does not allow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// `manifest`, `project`, `operator`; absent when all of them allow it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
    /// The rule, in words.
    pub rule: String,
    /// The file to change.
    pub file: String,
    /// The line that would grant exactly this there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_to_add: Option<String>,
}

/// Finds the layer that denies `request`.
#[must_use]
pub fn diagnose(
    manifest: &Manifest,
    project: &ProjectGrant,
    operator: &OperatorPolicy,
    request: &Request,
) -> Diagnosis {
    let line = request.grant_line();
    let check = |rules: RuleSet| Grant::new(rules, LimitSet::default()).allows(request).err();
    let with_why = line.as_ref().map(|line| match (request, line.strip_suffix(" }]")) {
        (Request::Read { path } | Request::Write { path }, _) => {
            format!("{} = [{{ path = {}, why = \"…\" }}]", request.capability(), Value::from(path.as_str()))
        }
        (_, Some(line)) => format!("{line}, why = \"…\" }}]"),
        (_, None) => line.clone(),
    });
    if let Some(denied) = check(manifest.needs.rules()) {
        return Diagnosis {
            by: Some("manifest"),
            rule: format!("the plugin does not ask for it: {}", denied.rule),
            file: format!("{} ([needs], by its author)", crate::manifest::MANIFEST_FILE),
            line_to_add: with_why,
        };
    }
    if let Some(denied) = check(project.rules.clone()) {
        let rule = if project.exists {
            denied.rule
        } else {
            format!("[plugins.\"{}\".grant] is missing", manifest.id)
        };
        return Diagnosis { by: Some("project"), rule, file: project.file.clone(), line_to_add: line };
    }
    if let Allow::Rules(rules) = &operator.allow
        && let Some(denied) = check(rules.clone())
    {
        return Diagnosis {
            by: Some("operator"),
            rule: denied.rule,
            file: operator.file.clone(),
            line_to_add: line,
        };
    }
    let together = effective(manifest, project, operator).grant;
    if let Err(denied) = together.allows(request) {
        return Diagnosis {
            by: Some("project"),
            rule: format!("each layer allows it, but by rules that overlap only in part: {}", denied.rule),
            file: project.file.clone(),
            line_to_add: line,
        };
    }
    Diagnosis {
        by: None,
        rule: "every layer allows it now; it was denied under the grant of that run".to_owned(),
        file: project.file.clone(),
        line_to_add: None,
    }
}
