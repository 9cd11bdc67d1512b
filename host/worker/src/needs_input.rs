//! Step 13: a question of the agent.

use serde_json::Value;

use crate::safe_fs::Root;

/// Where the agent leaves its question.
pub(crate) const FILE: &str = ".pangolin/needs_input.json";

/// Largest question file.
const BYTES_MAX: u64 = 1 << 20;

/// The question, if there is one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(root: &Root) -> Result<Option<Value>, String> {
    let Some(bytes) = root.read(FILE, BYTES_MAX)? else { return Ok(None) };
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("{FILE} is not JSON: {error}"))?;
    match value.get("question") {
        Some(Value::String(question)) if !question.trim().is_empty() => Ok(Some(value)),
        _ => Err(format!("{FILE} has no \"question\" text")),
    }
}
