//! What makes an item a splitter.

use pangolin_pattern_sdk::{Config, Finding, Item, SpawnTemplate};

/// The input that makes an item a splitter.
pub(crate) const KEY: &str = "mapReduce";

/// What follows when a map did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnMapFailure {
    /// Nothing is put together.
    Fail,
    /// What worked is put together, when anything did.
    Skip,
    /// What worked is put together, even nothing.
    Reduce,
}

/// What follows when the splitter has no outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnEmpty {
    /// Nothing.
    Finish,
    /// Putting together nothing.
    Reduce,
}

/// `inputs.mapReduce`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MapReduceConfig {
    pub(crate) map: SpawnTemplate,
    /// Under which name a map gets its part.
    pub(crate) needs_key: String,
    /// The output of a map that is its result.
    pub(crate) output_path: String,
    pub(crate) reduce: SpawnTemplate,
    /// Results are called `<prefix>-<key>`.
    pub(crate) key_prefix: String,
    pub(crate) on_map_failure: OnMapFailure,
    pub(crate) on_empty: OnEmpty,
}

fn read(config: &mut Config<'_>) -> Option<MapReduceConfig> {
    let map =
        config.template("map", |map| (path(map, "needsKey", "input"), path(map, "outputPath", "result")));
    let reduce = config.template("reduce", |reduce| path(reduce, "keyPrefix", "part"));
    let on_map_failure = config.choice_or(
        "onMapFailure",
        &[("fail", OnMapFailure::Fail), ("skip", OnMapFailure::Skip), ("reduce", OnMapFailure::Reduce)],
        OnMapFailure::Fail,
    );
    let on_empty = config.choice_or(
        "onEmpty",
        &[("finish", OnEmpty::Finish), ("reduce", OnEmpty::Reduce)],
        OnEmpty::Finish,
    );
    let (map, (needs_key, output_path)) = map?;
    let (reduce, key_prefix) = reduce?;
    Some(MapReduceConfig { map, needs_key, output_path, reduce, key_prefix, on_map_failure, on_empty })
}

/// A path below `inputs/` or `outputs/`, as the host takes them.
fn path(config: &mut Config<'_>, key: &str, default: &str) -> String {
    let path = config.text_or(key, default);
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
    let is_safe =
        path.split('/').all(is_part) && !path.chars().any(char::is_control) && !path.starts_with("deps/");
    if !is_safe || path.len() > 512 {
        config.problem(key, format!("{path:?} is not a relative path"), format!("for example {default:?}"));
    }
    path
}

/// The configuration of a splitter; what is wrong with it goes into `findings`.
pub(crate) fn of(item: &Item<'_>, findings: &mut Vec<Finding>) -> Option<MapReduceConfig> {
    item.config(KEY, findings, read)?
}
