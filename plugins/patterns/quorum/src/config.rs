//! What makes an item the subject of a vote.

use pangolin_pattern_sdk::{Config, Finding, Item, SpawnTemplate};

/// The input that makes an item a subject.
pub(crate) const KEY: &str = "quorum";

/// Most reviewers of one subject.
const REVIEWERS_MAX: usize = 100;

/// Most rounds of fixes of one subject.
const ROUNDS_MAX: u32 = 50;

/// What follows when too few approve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnReject {
    SpawnFix,
    Block,
}

/// `inputs.quorum`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuorumConfig {
    pub(crate) reviewers: Vec<SpawnTemplate>,
    /// From 1 to the number of reviewers.
    pub(crate) threshold: u32,
    pub(crate) commit: SpawnTemplate,
    pub(crate) on_reject: OnReject,
    /// There whenever `on_reject` is `SpawnFix`.
    pub(crate) fix: Option<SpawnTemplate>,
    pub(crate) rounds_max: u32,
}

fn read(config: &mut Config<'_>) -> Option<QuorumConfig> {
    let reviewers = config.templates("reviewers");
    if reviewers.as_ref().is_some_and(|list| list.is_empty() || list.len() > REVIEWERS_MAX) {
        config.problem("reviewers", format!("must hold 1 to {REVIEWERS_MAX} templates"), "add a reviewer");
        return None;
    }
    let most = reviewers.as_ref().and_then(|list| u32::try_from(list.len()).ok()).unwrap_or(u32::MAX);
    let threshold = config.integer("threshold", 1..=most);
    let commit = config.template("commit", |_| ());
    let on_reject =
        config.choice("onReject", &[("spawn-fix", OnReject::SpawnFix), ("block", OnReject::Block)]);
    let fix = config.optional_template("fixTemplate");
    let rounds_max = config.integer_or("maxRounds", 0..=ROUNDS_MAX, 1);
    if on_reject == Some(OnReject::SpawnFix) && fix == Some(None) {
        let hint = "add \"fixTemplate\": { \"executor\": \"dispatch\", \"inputs\": {} }, or use \"onReject\": \"block\"";
        config.problem("fixTemplate", "\"onReject\": \"spawn-fix\" needs a template for the fix", hint);
        return None;
    }
    Some(QuorumConfig {
        reviewers: reviewers?,
        threshold: threshold?,
        commit: commit?.0,
        on_reject: on_reject?,
        fix: fix?,
        rounds_max,
    })
}

/// The configuration of a subject; what is wrong with it goes into `findings`.
pub(crate) fn of(item: &Item<'_>, findings: &mut Vec<Finding>) -> Option<QuorumConfig> {
    item.config(KEY, findings, read)?
}
