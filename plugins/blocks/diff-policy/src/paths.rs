//! What a path alone tells.

/// Files that pin dependencies.
pub(crate) const LOCKFILES: &[&str] = &[
    "**/Cargo.lock",
    "**/{package-lock.json,npm-shrinkwrap.json,yarn.lock,pnpm-lock.yaml,bun.lock,bun.lockb,deno.lock}",
    "**/{poetry.lock,uv.lock,pdm.lock,Pipfile.lock}",
    "**/{go.sum,go.work.sum,Gemfile.lock,composer.lock,mix.lock,flake.lock,Package.resolved,gradle.lockfile}",
];

/// Files that decide what a CI system runs.
pub(crate) const CI_FILES: &[&str] = &[
    ".github/workflows/**",
    ".github/actions/**",
    ".gitlab-ci.yml",
    ".gitlab/ci/**",
    ".circleci/**",
    ".buildkite/**",
    ".woodpecker/**",
    ".woodpecker.{yml,yaml}",
    ".drone.yml",
    ".travis.yml",
    ".ci/**",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "**/Jenkinsfile",
    ".pre-commit-config.yaml",
    ".husky/**",
];

/// Files that nobody deletes by accident.
pub(crate) const PROTECTED: &[&str] =
    &["LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "SECURITY.md", "{.github/,docs/,}CODEOWNERS"];

/// Whether git itself would read the path: repository data in any spelling that a file system takes for `.git`, and
/// the list of submodules.
pub(crate) fn is_git_internal(path: &str) -> bool {
    path.split('/').any(|part| {
        // Windows drops dots and spaces at the end of a name and has short names.
        let part = part.to_ascii_lowercase();
        let part = part.trim_end_matches(['.', ' ']);
        matches!(part, ".git" | "git~1" | ".gitmodules" | "gitmod~1")
    })
}

/// Whether a link at `path` points out of the workspace or into the repository's data, by its text alone.
pub(crate) fn leaves_the_tree(path: &str, target: &str) -> bool {
    let is_drive = target.as_bytes().get(1) == Some(&b':');
    if target.is_empty() || target.starts_with(['/', '\\', '~']) || is_drive {
        return true;
    }
    let mut place: Vec<&str> = path.split('/').collect();
    place.pop();
    for part in target.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => {
                if place.pop().is_none() {
                    return true;
                }
            }
            part => place.push(part),
        }
    }
    is_git_internal(&place.join("/"))
}
