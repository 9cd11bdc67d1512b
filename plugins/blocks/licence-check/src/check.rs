//! SPDX expressions against the lists.

use pangolin_block_sdk::clip;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

/// What registries hold is older than the standard: `MIT/Apache-2.0`, `GPL-3.0`, `Apache 2.0`.
pub(crate) const MODE: ParseMode = ParseMode {
    allow_slash_as_or_operator: true,
    allow_imprecise_license_names: true,
    allow_postfix_plus_on_gpl: true,
    allow_deprecated: true,
    allow_unknown: false,
};

/// An expression is read by a parser whose time grows with its length.
const MAX_EXPRESSION: usize = 2_000;

/// Outcome for one expression.
#[derive(Debug)]
pub(crate) enum Verdict {
    Allowed,
    Denied(String),
    Invalid(String),
}

pub(crate) fn parse(text: &str) -> Result<Expression, String> {
    let shown = clip(text, 80);
    if text.len() > MAX_EXPRESSION {
        return Err(format!("{shown:?} is too long for an SPDX expression"));
    }
    Expression::parse_mode(text, MODE)
        .map_err(|error| format!("{shown:?} is no SPDX expression: {}", error.reason))
}

/// Whether the expression can be satisfied with allowed licences only. An empty allow list allows what is not denied.
pub(crate) fn judge(text: &str, allow: &[Licensee], deny: &[Licensee]) -> Verdict {
    let text = text.trim();
    // npm's word for "nobody may use this".
    if text == "UNLICENSED" {
        return Verdict::Denied("\"UNLICENSED\" gives no rights".to_owned());
    }
    let expression = match parse(text) {
        Ok(expression) => expression,
        Err(problem) => return Verdict::Invalid(problem),
    };
    match expression.evaluate_with_failures(|req| is_allowed(req, allow, deny)) {
        Ok(()) => Verdict::Allowed,
        Err(failed) => {
            let names: Vec<String> = failed.iter().map(|it| it.req.to_string()).collect();
            let why = if deny.is_empty() { "not in `allow`" } else { "in `deny` or not in `allow`" };
            Verdict::Denied(format!("{text:?} needs {}, {why}", names.join(", ")))
        }
    }
}

fn is_allowed(req: &LicenseReq, allow: &[Licensee], deny: &[Licensee]) -> bool {
    let has = |list: &[Licensee], req: &LicenseReq| list.iter().any(|licensee| licensee.satisfies(req));
    let is_denied =
        |req: &LicenseReq| has(deny, req) || deny.iter().any(|licensee| is_same_gnu(licensee, req));
    // An exception only gives more rights, so the licence without it says enough, unless the exact one is listed.
    let without = LicenseReq { license: req.license.clone(), addition: None };
    if has(deny, req) {
        return false;
    }
    if req.addition.is_some() && has(allow, req) {
        return true;
    }
    !is_denied(&without) && (allow.is_empty() || has(allow, req) || has(allow, &without))
}

/// `GPL-3.0-only` in the deny list means `GPL-3.0-or-later` and the old `GPL-3.0` too.
fn is_same_gnu(licensee: &Licensee, req: &LicenseReq) -> bool {
    let stem = |name: &str| {
        let name = name.trim_end_matches('+');
        name.strip_suffix("-only").or_else(|| name.strip_suffix("-or-later")).unwrap_or(name).to_owned()
    };
    let Some(id) = req.license.id().filter(|id| id.is_gnu()) else { return false };
    stem(&licensee.to_string()) == stem(id.name)
}
