//! What makes an item a gate.

use pangolin_pattern_sdk::{Config, Finding, Item, SpawnTemplate};

/// The input that makes an item a gate.
pub(crate) const KEY: &str = "gate";

/// Most fixes that one gate may ask for.
const ATTEMPTS_MAX: u32 = 50;

/// What a red gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRed {
    /// Nothing: the verdict is advice, what waits for the gate goes on.
    Advance,
    /// Holds back what waits for it and asks for a fix.
    SpawnFix,
}

/// `inputs.gate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GateConfig {
    pub(crate) on_red: OnRed,
    pub(crate) subject: String,
    /// There whenever `on_red` is `SpawnFix`.
    pub(crate) fix: Option<SpawnTemplate>,
    pub(crate) attempts_max: u32,
}

/// As much of `inputs.gate` as can be read.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    /// Can be checked against the plan whatever is wrong with the rest.
    pub(crate) subject: Option<String>,
    /// There when nothing is wrong.
    pub(crate) whole: Option<GateConfig>,
}

fn read(config: &mut Config<'_>) -> Partial {
    let on_red = config.choice("onRed", &[("advance", OnRed::Advance), ("spawn-fix", OnRed::SpawnFix)]);
    let subject = config.text("subject", "name the item whose work is judged");
    let fix = config.optional_template("fixTemplate");
    let attempts_max = config.integer_or("maxFixAttempts", 0..=ATTEMPTS_MAX, 1);
    if on_red == Some(OnRed::SpawnFix) && fix == Some(None) {
        let hint = "add \"fixTemplate\": { \"executor\": \"dispatch\", \"inputs\": {} }, or use \"onRed\": \"advance\"";
        config.problem("fixTemplate", "\"onRed\": \"spawn-fix\" needs a template for the fix", hint);
        return Partial { subject, whole: None };
    }
    let whole = match (on_red, &subject, fix) {
        (Some(on_red), Some(subject), Some(fix)) => {
            Some(GateConfig { on_red, subject: subject.clone(), fix, attempts_max })
        }
        _ => None,
    };
    Partial { subject, whole }
}

/// What can be read of the gate that an item is, if it is one; everything that is wrong goes into `findings`.
pub(crate) fn partial(item: &Item<'_>, findings: &mut Vec<Finding>) -> Option<Partial> {
    item.config(KEY, findings, read)
}

/// The gate that an item is, if it is one and its configuration can be read; else everything that is wrong goes into
/// `findings`.
pub(crate) fn of(item: &Item<'_>, findings: &mut Vec<Finding>) -> Option<GateConfig> {
    partial(item, findings)?.whole
}
