//! Builds the shipped guests of the `plugins` workspace and hands them to the crate.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{MANIFEST_FILE, Manifest, embed, inspect, reconcile};

/// Package, kind and id of every shipped component. The crate gets the list as `shipped.rs`.
const SHIPPED: [(&str, &str, &str); 10] = [
    ("pangolin-adapter-command", "adapter", "command"),
    ("pangolin-adapter-claude-code", "adapter", "claude-code"),
    ("pangolin-pattern-static-dag", "pattern", "static-dag"),
    ("pangolin-pattern-pipeline", "pattern", "pipeline"),
    ("pangolin-pattern-map-reduce", "pattern", "map-reduce"),
    ("pangolin-pattern-quorum", "pattern", "quorum"),
    ("pangolin-block-diff-policy", "block", "diff-policy"),
    ("pangolin-block-licence-check", "block", "licence-check"),
    ("pangolin-block-secret-scan", "block", "secret-scan"),
    ("pangolin-block-test-report", "block", "test-report"),
];

const TARGET: &str = "wasm32-wasip2";

/// Variables of the outer build that must not reach the inner one: flags and wrappers for another target, and what
/// cargo tells build scripts.
fn is_of_outer_build(name: &str) -> bool {
    let keep = ["CARGO_HOME", "CARGO_MAKEFLAGS"];
    let prefixes = [
        "CARGO_ENCODED_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BUILD_",
        "CARGO_TARGET_",
        "CARGO_PROFILE_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
        "RUSTC",
        "RUSTDOC",
        "DEP_",
    ];
    let exact = ["RUSTFLAGS", "TARGET", "HOST", "OUT_DIR", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS"];
    !keep.contains(&name) && (exact.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            for line in problem.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let var = |name: &str| env::var_os(name).map(PathBuf::from).ok_or(format!("cargo did not set {name}"));
    let (cargo, out_dir) = (var("CARGO")?, var("OUT_DIR")?);
    let root = var("CARGO_MANIFEST_DIR")?.join("../..");
    let plugins = root.join("plugins").canonicalize().map_err(|error| format!("plugins/: {error}"))?;
    for path in ["Cargo.toml", "Cargo.lock", "sdk", "adapters", "blocks", "patterns"] {
        println!("cargo::rerun-if-changed={}", plugins.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", root.join("wit").display());

    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_outer_build) {
            command.env_remove(&name);
        }
    }
    // Panic messages hold source paths. Without the machine's own paths the same source gives the same digest
    // everywhere.
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=/plugins", plugins.display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    let target_dir = plugins.join("target");
    command
        .current_dir(&plugins)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target_dir);
    for (package, _, _) in SHIPPED {
        command.args(["-p", package]);
    }
    let output = command.output().map_err(|error| format!("cannot start cargo for plugins/: {error}"))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        if log.contains("E0463") || log.contains("may not be installed") {
            return Err(format!(
                "the {TARGET} target is missing, so the built-in plugins cannot be built.\n\
                 Run: rustup target add {TARGET}"
            ));
        }
        return Err(format!("building plugins/ failed:\n{log}"));
    }
    let built = target_dir.join(TARGET).join("release");
    let mut set = String::new();
    let mut table = String::from("pub(crate) const SHIPPED: &[(&str, &str, &[u8], [u8; 32])] = &[\n");
    for (package, kind, id) in SHIPPED {
        let from = built.join(format!("{}.wasm", package.replace('-', "_")));
        let to = out_dir.join(format!("{kind}-{id}.wasm"));
        let component = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        let component = with_manifest(component, &plugins.join(format!("{kind}s")).join(id), id)?;
        fs::write(&to, &component).map_err(|error| format!("{}: {error}", to.display()))?;
        let digest = Digest::of(&component);
        set.push_str(&format!("{kind} {id} {digest}\n"));
        table
            .push_str(&format!("    ({kind:?}, {id:?}, include_bytes!({to:?}), {:?}),\n", digest.as_bytes()));
    }
    table.push_str("];\n");
    table.push_str(&format!("pub(crate) const SET: &str = {:?};\n", Digest::of(set.as_bytes()).hex()));
    let file = out_dir.join("shipped.rs");
    fs::write(&file, table).map_err(|error| format!("{}: {error}", file.display()))
}

/// The component with the manifest of its folder inside, as `pangolin plugin build` does it for everybody.
fn with_manifest(component: Vec<u8>, folder: &Path, id: &str) -> Result<Vec<u8>, String> {
    let file = folder.join(MANIFEST_FILE);
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let manifest =
        Manifest::from_toml(&text).map_err(|findings| format!("{}: {findings}", file.display()))?;
    if manifest.id.to_string() != id {
        return Err(format!(
            "{}: id is {}, the table of this build script says {id}",
            file.display(),
            manifest.id
        ));
    }
    let inspection = inspect(&component).map_err(|error| format!("{id}: {error}"))?;
    reconcile(&manifest, &inspection).map_err(|mismatches| {
        let lines: Vec<String> = mismatches.iter().map(|it| format!("{}: {it}", file.display())).collect();
        lines.join("\n")
    })?;
    embed(&component, &manifest).map_err(|error| format!("{id}: {error}"))
}
