//! The bytes of a capability bundle.
//!
//! One header line of compact JSON, `{"name":…,"entries":[{"path":…,"size":…,"mode":…}…]}` with the entries in
//! byte order of their paths, one `\n`, then the bytes of the files in the same order without separators. Equal
//! capabilities have equal bytes, so the digest of the bundle is the identity of the capability.
//!
//! Symbolic links and empty directories cannot be expressed, on purpose: a bundle can only add files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Largest bundle in bytes, header included.
pub const BUNDLE_BYTES_MAX: usize = 50 << 20;

/// Most files in one bundle.
pub const ENTRIES_MAX: usize = 10_000;

/// Longest path of one file in bytes.
pub const PATH_BYTES_MAX: usize = 1024;

/// A decoded capability.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capability {
    /// Registered name.
    pub name: String,
    /// Files by path.
    pub files: BTreeMap<String, CapabilityFile>,
}

/// One file of a capability.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapabilityFile {
    /// Mode `100755` instead of `100644`.
    pub executable: bool,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Why a bundle cannot be made or used.
#[derive(Debug, Error)]
pub enum CapabilityError {
    /// The path could leave the workspace, or would not mean the same everywhere.
    #[error("path {path:?} {problem}; use a relative path with forward slashes")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same path is a file and a directory.
    #[error("path {path:?} is a file, but {below:?} needs it to be a directory")]
    FileAndDirectory {
        /// The file.
        path: String,
        /// The entry below it.
        below: String,
    },
    /// More files than [`ENTRIES_MAX`].
    #[error("capability {name:?} has {found} files, the limit is 10000")]
    TooManyEntries {
        /// The capability.
        name: String,
        /// How many.
        found: usize,
    },
    /// More bytes than [`BUNDLE_BYTES_MAX`].
    #[error("capability bundle has {0} bytes, the limit is 52428800")]
    TooLarge(usize),
    /// No header line, or not the expected JSON.
    #[error("header of the capability bundle is malformed: {0}")]
    Header(String),
    /// Entries are not in strictly ascending order.
    #[error("entry {0:?} of the capability bundle is out of order or listed twice")]
    Order(String),
    /// Neither `100644` nor `100755`.
    #[error("entry {path:?} has mode {mode:?}; expected \"100644\" or \"100755\"")]
    Mode {
        /// The entry.
        path: String,
        /// The mode.
        mode: String,
    },
    /// The sizes do not add up to the bytes that are there.
    #[error("capability bundle holds {found} content bytes, its header promises {expected}")]
    Length {
        /// By the header.
        expected: u64,
        /// Present.
        found: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    entries: Vec<HeaderEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderEntry {
    path: String,
    size: u64,
    mode: String,
}

/// Checks a path that will be written below a workspace: relative, forward slashes, no empty, `.`, `..` or `.git`
/// segment, no control character.
///
/// `.git` is refused because a file in it would choose programs for whoever runs git there later.
///
/// # Errors
/// [`CapabilityError::Path`] names the path and the rule.
pub fn check_path(path: &str) -> Result<(), CapabilityError> {
    let refuse = |problem| Err(CapabilityError::Path { path: path.to_owned(), problem });
    if path.is_empty() {
        return refuse("is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return refuse("is longer than 1024 bytes");
    }
    if path.starts_with('/') {
        return refuse("is absolute");
    }
    if path.contains('\\') {
        return refuse("contains a backslash");
    }
    if path.chars().any(char::is_control) {
        return refuse("contains a control character");
    }
    for segment in path.split('/') {
        match segment {
            "" => return refuse("has an empty segment"),
            "." => return refuse("has a \".\" segment"),
            ".." => return refuse("has a \"..\" segment"),
            _ if segment.eq_ignore_ascii_case(".git") => return refuse("has a \".git\" segment"),
            _ if segment.len() > 255 => return refuse("has a segment longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

fn check_tree<'a>(
    paths: impl Iterator<Item = &'a String>,
    is_file: impl Fn(&str) -> bool,
) -> Result<(), CapabilityError> {
    for path in paths {
        check_path(path)?;
        for (at, _) in path.match_indices('/') {
            if is_file(&path[..at]) {
                return Err(CapabilityError::FileAndDirectory {
                    path: path[..at].to_owned(),
                    below: path.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The bundle bytes of a capability.
///
/// # Errors
/// [`CapabilityError`] when a path or a limit is violated.
pub fn encode(capability: &Capability) -> Result<Vec<u8>, CapabilityError> {
    let files = &capability.files;
    if files.len() > ENTRIES_MAX {
        return Err(CapabilityError::TooManyEntries { name: capability.name.clone(), found: files.len() });
    }
    check_tree(files.keys(), |path| files.contains_key(path))?;
    let entries = files
        .iter()
        .map(|(path, file)| HeaderEntry {
            path: path.clone(),
            size: file.bytes.len() as u64,
            mode: if file.executable { "100755" } else { "100644" }.to_owned(),
        })
        .collect();
    let header = Header { name: capability.name.clone(), entries };
    let mut bytes =
        serde_json::to_vec(&header).map_err(|error| CapabilityError::Header(error.to_string()))?;
    bytes.push(b'\n');
    let total = bytes.len() + files.values().map(|file| file.bytes.len()).sum::<usize>();
    if total > BUNDLE_BYTES_MAX {
        return Err(CapabilityError::TooLarge(total));
    }
    for file in files.values() {
        bytes.extend_from_slice(&file.bytes);
    }
    Ok(bytes)
}

/// Reads bundle bytes. The caller has checked their digest.
///
/// # Errors
/// [`CapabilityError`] when the bytes are not exactly what [`encode`] makes, or a path or limit is violated.
pub fn decode(bundle: &[u8]) -> Result<Capability, CapabilityError> {
    if bundle.len() > BUNDLE_BYTES_MAX {
        return Err(CapabilityError::TooLarge(bundle.len()));
    }
    let end = bundle
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(|| CapabilityError::Header("there is no line end".to_owned()))?;
    let header: Header =
        serde_json::from_slice(&bundle[..end]).map_err(|error| CapabilityError::Header(error.to_string()))?;
    let mut rest = &bundle[end + 1..];
    if header.entries.len() > ENTRIES_MAX {
        return Err(CapabilityError::TooManyEntries { name: header.name, found: header.entries.len() });
    }
    let expected = header.entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
    if expected != rest.len() as u64 {
        return Err(CapabilityError::Length { expected, found: rest.len() as u64 });
    }
    let mut files = BTreeMap::new();
    let mut last: Option<String> = None;
    for HeaderEntry { path, size, mode } in header.entries {
        if last.as_ref().is_some_and(|last| *last >= path) {
            return Err(CapabilityError::Order(path));
        }
        let executable = match mode.as_str() {
            "100644" => false,
            "100755" => true,
            _ => return Err(CapabilityError::Mode { path, mode }),
        };
        // Cannot overflow or run out: the sizes add up to `rest.len()`.
        let (bytes, after) = rest.split_at(usize::try_from(size).unwrap_or(rest.len()).min(rest.len()));
        rest = after;
        files.insert(path.clone(), CapabilityFile { executable, bytes: bytes.to_vec() });
        last = Some(path);
    }
    check_tree(files.keys(), |path| files.contains_key(path))?;
    Ok(Capability { name: header.name, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(paths: &[&str]) -> Capability {
        let files = paths
            .iter()
            .map(|path| {
                let file =
                    CapabilityFile { executable: path.ends_with(".sh"), bytes: path.as_bytes().to_vec() };
                ((*path).to_owned(), file)
            })
            .collect();
        Capability { name: "tools".to_owned(), files }
    }

    #[test]
    fn the_format_is_stable_and_round_trips() {
        let made = capability(&["run.sh", "a/b.txt"]);
        let bytes = encode(&made).unwrap();
        let expected = concat!(
            r#"{"name":"tools","entries":[{"path":"a/b.txt","size":7,"mode":"100644"},"#,
            r#"{"path":"run.sh","size":6,"mode":"100755"}]}"#,
            "\na/b.txtrun.sh"
        );
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(decode(&bytes).unwrap(), made);
    }

    #[test]
    fn dangerous_paths_are_refused_in_both_directions() {
        for path in [
            "",
            "/etc/passwd",
            "a//b",
            "./a",
            "a/../b",
            "..",
            "a\\b",
            "a\0b",
            "a\nb",
            ".git/config",
            "x/.GIT/y",
        ] {
            assert!(encode(&capability(&[path])).is_err(), "encode {path:?}");
            let header =
                serde_json::json!({"name": "x", "entries": [{"path": path, "size": 0, "mode": "100644"}]});
            assert!(decode(format!("{header}\n").as_bytes()).is_err(), "decode {path:?}");
        }
        assert!(encode(&capability(&["a", "a-b", "a/b"])).is_err());
    }

    #[test]
    fn order_length_mode_and_header_are_checked() {
        let entry =
            |path: &str, size: u64, mode: &str| serde_json::json!({"path": path, "size": size, "mode": mode});
        let bundle = |entries: Vec<serde_json::Value>, content: &str| {
            format!("{}\n{content}", serde_json::json!({"name": "x", "entries": entries})).into_bytes()
        };
        assert!(decode(&bundle(vec![entry("a", 1, "100644")], "1")).is_ok());
        assert!(matches!(
            decode(&bundle(vec![entry("b", 1, "100644"), entry("a", 1, "100644")], "12")),
            Err(CapabilityError::Order(_))
        ));
        assert!(matches!(
            decode(&bundle(vec![entry("a", 1, "100644"), entry("a", 1, "100644")], "12")),
            Err(CapabilityError::Order(_))
        ));
        assert!(matches!(
            decode(&bundle(vec![entry("a", 2, "100644")], "1")),
            Err(CapabilityError::Length { .. })
        ));
        assert!(matches!(
            decode(&bundle(vec![entry("a", u64::MAX, "100644"), entry("b", 2, "100644")], "1")),
            Err(CapabilityError::Length { .. })
        ));
        assert!(matches!(
            decode(&bundle(vec![entry("a", 1, "120000")], "1")),
            Err(CapabilityError::Mode { .. })
        ));
        assert!(matches!(decode(b"no header"), Err(CapabilityError::Header(_))));
    }
}
