//! A C compiler for every processor: zig, from the same place as for the plugins in C. It needs no rights and brings its own
//! static C library.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Arch;
use crate::{languages, process, workspace::Workspace};

/// Scripts that stand in for `cc` and `ar`.
pub(super) struct Tools {
    pub(super) cc: PathBuf,
    pub(super) ar: PathBuf,
    cache: PathBuf,
}

impl Tools {
    /// A command that uses zig's cache below `target/tools` and not the one in the user's home.
    pub(super) fn in_cache<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("ZIG_GLOBAL_CACHE_DIR", &self.cache).env("ZIG_LOCAL_CACHE_DIR", &self.cache)
    }
}

/// Installs zig when it is missing and writes the scripts.
pub(super) fn tools(workspace: &Workspace, arch: Arch) -> Result<Tools> {
    let impossible = languages::install_c(workspace)?;
    if let Some(why) = impossible {
        bail!("there is no C compiler for {}: {why}", arch.machine());
    }
    let dir = workspace.target.join("tools/zig");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let print = "import os, ziglang; print(os.path.dirname(ziglang.__file__))";
    let python = workspace.target.join("tools/c/bin/python");
    let place = process::output(&mut process::command(python, ["-c", print]))?;
    let zig = Path::new(place.trim()).join("zig");
    let target = format!("{}-linux-musl", arch.machine());
    // Build scripts name the target in rustc's way, which zig does not take.
    let cc = format!(
        "#!/bin/sh\nfor arg do\n  shift\n  case \"$arg\" in --target=*) ;; *) set -- \"$@\" \"$arg\" ;; esac\ndone\n\
         exec '{}' cc -target {target} \"$@\"\n",
        zig.display()
    );
    let ar = format!("#!/bin/sh\nexec '{}' ar \"$@\"\n", zig.display());
    Ok(Tools {
        cc: script(&dir.join(format!("cc-{}", arch.machine())), &cc)?,
        ar: script(&dir.join("ar"), &ar)?,
        cache: dir.join("cache"),
    })
}

/// Makes cargo compile C parts with zig: gcc would take the headers of glibc, and SQLite would then miss functions that musl
/// does not have. For another processor the linker is the one that comes with Rust.
pub(super) fn set_up(workspace: &Workspace, arch: Arch, cargo: &mut Command) -> Result<()> {
    let tools = tools(workspace, arch)?;
    let target = arch.rust_target().replace('-', "_");
    tools.in_cache(cargo).env(format!("CC_{target}"), &tools.cc).env(format!("AR_{target}"), &tools.ar);
    if arch != Arch::here()? {
        cargo.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()), "rust-lld");
    }
    Ok(())
}

fn script(path: &Path, text: &str) -> Result<PathBuf> {
    let cannot = || format!("cannot write {}", path.display());
    fs::write(path, text).with_context(cannot)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(cannot)?;
    Ok(path.to_owned())
}
