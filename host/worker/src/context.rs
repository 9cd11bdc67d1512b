//! Step 9a: what must be there before the agent starts.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use pangolin_core::entry::Isolation;
use pangolin_envelope::envelope::ContextRequirement;

use crate::command::Confinement;

/// Directories in which a sandboxed command finds programs, besides the operator's read-only paths.
const VISIBLE: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/opt", "/nix"];

/// Checks one requirement; the message says what is missing.
pub(crate) fn check(need: &ContextRequirement, confinement: &Confinement, path: &str) -> Result<(), String> {
    let workspace = confinement.workspace.as_path();
    match need {
        ContextRequirement::Paths { glob, min_count: 0 } => {
            Err(format!("context requirement paths {glob:?}: minCount must be at least 1"))
        }
        ContextRequirement::Paths { glob, min_count } => {
            let pattern: Vec<&str> = glob.split('/').collect();
            let mut found = 0;
            count(workspace, &pattern, *min_count, &mut found);
            if found >= *min_count {
                return Ok(());
            }
            Err(format!(
                "context requirement: {found} paths match {glob:?} in the workspace, {min_count} are needed"
            ))
        }
        ContextRequirement::Exec { bin } => {
            if path.split(':').any(|directory| runs(&Path::new(directory).join(bin), confinement)) {
                return Ok(());
            }
            Err(format!(
                "context requirement: program {bin:?} is not on the agent's PATH ({path}); install it in the image or in pangolin-setup.sh"
            ))
        }
        ContextRequirement::Git { needs } => git(needs, workspace),
    }
}

fn runs(program: &Path, confinement: &Confinement) -> bool {
    let program = match program.strip_prefix(crate::stage::HOME) {
        Ok(inside) if confinement.isolation == Isolation::Sandbox => {
            confinement.private.join("home").join(inside)
        }
        _ => program.to_owned(),
    };
    let Ok(real) = fs::canonicalize(&program) else { return false };
    let executable =
        real.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    let visible = confinement.isolation != Isolation::Sandbox
        || VISIBLE.iter().any(|directory| real.starts_with(directory))
        || confinement.read_only.iter().any(|directory| real.starts_with(directory))
        || real.starts_with(&confinement.workspace)
        || real.starts_with(confinement.private.join("home"));
    executable && visible
}

/// Counts matches of a path pattern below `directory`; directories count, links are not entered.
fn count(directory: &Path, pattern: &[&str], enough: u32, found: &mut u32) {
    let Some((first, rest)) = pattern.split_first() else { return };
    if *found >= enough {
        return;
    }
    if *first == "**" && !rest.is_empty() {
        count(directory, rest, enough, found);
    }
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if *first == "**" {
            if rest.is_empty() {
                *found = found.saturating_add(1);
            }
            if is_dir && name != ".git" {
                count(&entry.path(), pattern, enough, found);
            }
        } else if matches(first.as_bytes(), name.as_bytes()) {
            if rest.is_empty() {
                *found = found.saturating_add(1);
            } else if is_dir {
                count(&entry.path(), rest, enough, found);
            }
        }
    }
}

/// `*` stands for any characters of one name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, from)) = star {
            (p, n) = (at + 1, from + 1);
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn git(needs: &str, workspace: &Path) -> Result<(), String> {
    let dot_git = workspace.join(".git");
    let directory = if dot_git.is_dir() {
        dot_git
    } else {
        let text = fs::read_to_string(&dot_git)
            .map_err(|_| "context requirement: the workspace is not a git work tree".to_owned())?;
        let target = text.trim().strip_prefix("gitdir:").map(str::trim).unwrap_or_default();
        workspace.join(target)
    };
    match needs {
        "worktree" => Ok(()),
        "history" if has_commit(&directory) => Ok(()),
        "history" => {
            Err("context requirement: the workspace has no git history that can be read here".to_owned())
        }
        other => {
            Err(format!("context requirement git {other:?} is unknown; expected \"worktree\" or \"history\""))
        }
    }
}

fn has_commit(directory: &Path) -> bool {
    let Ok(head) = fs::read_to_string(directory.join("HEAD")) else { return false };
    let Some(name) = head.trim().strip_prefix("ref:").map(str::trim) else { return head.trim().len() >= 40 };
    let common = fs::read_to_string(directory.join("commondir"))
        .map_or_else(|_| PathBuf::from(directory), |text| directory.join(text.trim()));
    common.join(name).is_file()
        || fs::read_to_string(common.join("packed-refs"))
            .is_ok_and(|refs| refs.lines().any(|line| line.split(' ').nth(1) == Some(name)))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_match_within_a_name() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*.rs", "lib.rs", true),
            ("*.rs", "lib.rsx", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "a", false),
            ("lib.rs", "lib.rs", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
