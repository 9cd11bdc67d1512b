//! A static git without network, scripts and translations, for the function that makes patches (ADR 8, decision 5). From
//! Debian's source packages, which apt downloads and checks; kept below `target/tools`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{Arch, archive::Entry, cross};
use crate::{process, workspace::Workspace};

/// What is left out: everything that needs another library, an interpreter or a network.
const LEFT_OUT: [&str; 11] = [
    "NO_CURL=1",
    "NO_OPENSSL=1",
    "NO_EXPAT=1",
    "NO_GETTEXT=1",
    "NO_TCLTK=1",
    "NO_PERL=1",
    "NO_PYTHON=1",
    "NO_ICONV=1",
    "NO_IPV6=1",
    "NO_UNIX_SOCKETS=1",
    // The one of this C library lacks what git needs; git brings another.
    "NO_REGEX=NeedsStartEnd",
];

/// A git for a package.
pub(super) struct Git(PathBuf);

impl Git {
    /// The program, and the licence that it must travel with.
    pub(super) fn entries(&self) -> [Entry; 3] {
        [
            Entry::program("bin/git", self.0.join("git")),
            Entry::text("licenses/git/COPYING", self.0.join("COPYING")),
            Entry::text("licenses/git/SOURCE", self.0.join("SOURCE")),
        ]
    }
}

/// Builds it, once for each processor.
pub(super) fn build(workspace: &Workspace, arch: Arch) -> Result<Git> {
    let place = workspace.target.join("tools").join(format!("git-static-{}", arch.name()));
    if ["git", "COPYING", "SOURCE"].iter().all(|name| place.join(name).is_file()) {
        return Ok(Git(place));
    }
    for tool in ["apt-get", "dpkg-source", "make"] {
        if !process::is_on_path(tool) {
            bail!("{tool} is not installed; on Debian or Ubuntu: apt-get install dpkg-dev make");
        }
    }
    let tools = cross::tools(workspace, arch)?;
    let dir = workspace.target.join("tools").join(format!("git-build-{}", arch.name()));
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    process::run(process::command("apt-get", ["source", "-qq", "git", "zlib"]).current_dir(&dir)).context(
        "apt has no sources: `deb-src` must be among the types of a file in /etc/apt/sources.list.d, then apt-get update",
    )?;
    let (git, zlib) = (unpacked(&dir, "git-")?, unpacked(&dir, "zlib-")?);
    let mut configure = process::command("./configure", ["--static"]);
    configure.env("CHOST", arch.machine()).env("CC", &tools.cc).env("AR", &tools.ar);
    // It has none, and needs none: `ar` writes the index.
    configure.env("RANLIB", "true").env("CFLAGS", "-Os -w");
    process::run(tools.in_cache(configure.current_dir(&zlib)))?;
    process::run(tools.in_cache(process::command("make", ["--silent", "libz.a"]).current_dir(&zlib)))?;
    // As git's makefile wants to find it.
    for (name, folder) in [("zlib.h", "include"), ("zconf.h", "include"), ("libz.a", "lib")] {
        fs::create_dir_all(zlib.join("stage").join(folder))?;
        copy(&zlib.join(name), &zlib.join("stage").join(folder).join(name))?;
    }
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = process::command("make", ["--silent", &format!("-j{jobs}"), "git", "prefix=/usr"]);
    make.arg(format!("CC={}", tools.cc.display()))
        .arg(format!("AR={}", tools.ar.display()))
        .arg(format!("ZLIB_PATH={}", zlib.join("stage").display()))
        .args(["uname_S=Linux", &format!("uname_M={}", arch.machine())])
        .args(LEFT_OUT)
        .args(["CFLAGS=-Os -w", "LDFLAGS=-static -s"]);
    process::run(tools.in_cache(make.current_dir(&git)))?;
    fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    copy(&git.join("git"), &place.join("git"))?;
    copy(&git.join("COPYING"), &place.join("COPYING"))?;
    let sources = format!(
        "Built from Debian's source packages {} and {}, unchanged.\nmake git {}\n",
        package(&dir, "git_")?,
        package(&dir, "zlib_")?,
        LEFT_OUT.join(" ")
    );
    fs::write(place.join("SOURCE"), sources)
        .with_context(|| format!("cannot write to {}", place.display()))?;
    // A few hundred megabytes.
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    Ok(Git(place))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(|_| ())
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// The directory that apt unpacked.
fn unpacked(dir: &Path, prefix: &str) -> Result<PathBuf> {
    find(dir, |name, is_dir| is_dir && name.starts_with(prefix))
}

/// Name and version of a source package: that of its description without the ending.
fn package(dir: &Path, prefix: &str) -> Result<String> {
    let path = find(dir, |name, is_dir| !is_dir && name.starts_with(prefix) && name.ends_with(".dsc"))?;
    Ok(path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
}

fn find(dir: &Path, is_it: impl Fn(&str, bool) -> bool) -> Result<PathBuf> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        if is_it(&entry.file_name().to_string_lossy(), entry.path().is_dir()) {
            return Ok(entry.path());
        }
    }
    bail!("apt-get source left nothing to build in {}", dir.display())
}
