//! Events of the stream, as far as they are read. Every field is kept raw and read leniently: a field of another
//! type than expected is as good as absent, and big content is never turned into a tree.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// Largest field that is read as a tree, in bytes of JSON.
const TREE_BYTES_MAX: usize = 256 << 10;

/// One raw field.
pub(crate) type Raw<'a> = Option<&'a RawValue>;

/// One line. The names are Claude Code's.
#[derive(Deserialize)]
pub(crate) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Raw<'a>,
    #[serde(borrow)]
    pub(crate) subtype: Raw<'a>,
    #[serde(borrow)]
    pub(crate) session_id: Raw<'a>,
    #[serde(borrow)]
    pub(crate) message: Raw<'a>,
    // system/init
    #[serde(borrow)]
    pub(crate) model: Raw<'a>,
    #[serde(borrow)]
    pub(crate) claude_code_version: Raw<'a>,
    #[serde(borrow, rename = "permissionMode")]
    pub(crate) permission_mode: Raw<'a>,
    #[serde(borrow, rename = "apiKeySource")]
    pub(crate) api_key_source: Raw<'a>,
    // system/api_retry; `error` also in assistant
    #[serde(borrow)]
    pub(crate) attempt: Raw<'a>,
    #[serde(borrow)]
    pub(crate) error_status: Raw<'a>,
    #[serde(borrow)]
    pub(crate) error: Raw<'a>,
    // system/permission_denied
    #[serde(borrow)]
    pub(crate) tool_name: Raw<'a>,
    #[serde(borrow)]
    pub(crate) tool_use_id: Raw<'a>,
    // result
    #[serde(borrow)]
    pub(crate) is_error: Raw<'a>,
    #[serde(borrow)]
    pub(crate) terminal_reason: Raw<'a>,
    #[serde(borrow)]
    pub(crate) stop_reason: Raw<'a>,
    #[serde(borrow)]
    pub(crate) api_error_status: Raw<'a>,
    #[serde(borrow)]
    pub(crate) num_turns: Raw<'a>,
    #[serde(borrow)]
    pub(crate) result: Raw<'a>,
    #[serde(borrow)]
    pub(crate) errors: Raw<'a>,
    #[serde(borrow)]
    pub(crate) total_cost_usd: Raw<'a>,
    #[serde(borrow)]
    pub(crate) usage: Raw<'a>,
    #[serde(borrow, rename = "modelUsage")]
    pub(crate) model_usage: Raw<'a>,
    #[serde(borrow)]
    pub(crate) permission_denials: Raw<'a>,
}

/// The `message` of an `assistant` event, without its content.
#[derive(Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    pub(crate) id: Raw<'a>,
    #[serde(borrow)]
    pub(crate) model: Raw<'a>,
    #[serde(borrow)]
    pub(crate) usage: Raw<'a>,
}

pub(crate) fn text(raw: Raw<'_>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

pub(crate) fn count(raw: Raw<'_>) -> Option<u64> {
    whole(&serde_json::from_str(raw?.get()).ok()?)
}

pub(crate) fn flag(raw: Raw<'_>) -> Option<bool> {
    serde_json::from_str(raw?.get()).ok()
}

pub(crate) fn amount(raw: Raw<'_>) -> Option<f64> {
    serde_json::from_str::<f64>(raw?.get()).ok().filter(|amount| *amount >= 0.0)
}

/// The field as a tree, when it is not too large.
pub(crate) fn tree(raw: Raw<'_>) -> Option<Value> {
    let json = raw?.get();
    if json.len() > TREE_BYTES_MAX { None } else { serde_json::from_str(json).ok() }
}

/// Tokens: a whole number within what a float holds exactly.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().filter(|number| *number < 1 << 53)
}
