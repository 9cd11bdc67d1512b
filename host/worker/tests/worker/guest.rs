//! The scripted test block as the host would stage it: compiled by another program, because the worker under test has
//! no compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use pangolin_core::ids::Digest;
use pangolin_envelope::plugin::{BlockGrant, StagedPlugin};

/// Compiled once per test process; across processes the file is reused while component and compiler stay the same.
pub(crate) struct Compiled {
    component: Digest,
    code: Vec<u8>,
    contract: String,
    engine: String,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Cargo without what the outer one told this test.
fn cargo(directory: &Path, args: &[&str]) {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let of_outer = name.starts_with("CARGO_") || name.starts_with("RUSTC") || name == "RUSTFLAGS";
        if of_outer && !matches!(name.as_str(), "CARGO_HOME" | "CARGO_TARGET_DIR") {
            command.env_remove(name);
        }
    }
    let output = command.current_dir(directory).args(args).output().expect("cargo starts");
    assert!(output.status.success(), "cargo {args:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn compiled() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let (root, plugins) = (repository(), repository().join("plugins"));
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Once per run: nextest starts a process per test, and each would wait for cargo's lock.
        let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
        let marker = kept.join(format!("guests-built-{run}"));
        if !marker.exists() {
            let guests = [
                "build",
                "--release",
                "--locked",
                "--target",
                "wasm32-wasip2",
                "--target-dir",
                "target/guests",
            ];
            cargo(&plugins, &[&guests[..], &["-p", "pangolin-test-block"]].concat());
            cargo(&root, &["build", "--quiet", "-p", "pangolin-plugin-host", "--bin", "pangolin-block-code"]);
            fs::write(&marker, "").unwrap();
        }
        // Built beside the worker, but by another run of cargo: with features of its own.
        let compiler = Path::new(env!("CARGO_BIN_EXE_pangolin-worker")).with_file_name("pangolin-block-code");
        let wasm = plugins.join("target/guests/wasm32-wasip2/release/pangolin_test_block.wasm");
        let component = Digest::of(&fs::read(&wasm).unwrap());
        let built = fs::metadata(&compiler).unwrap().modified().unwrap();
        let stamp = built.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let code = kept.join(format!("block-{}-{stamp}.cwasm", &component.hex()[..16]));
        let facts = code.with_extension("json");
        if !facts.exists() {
            let output = Command::new(&compiler)
                .arg(&wasm)
                .arg(&code)
                .arg(kept.join("block-code-cache"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let temporary = facts.with_extension(std::process::id().to_string());
            fs::write(&temporary, &output.stdout).unwrap();
            fs::rename(&temporary, &facts).unwrap();
        }
        let facts: serde_json::Value = serde_json::from_slice(&fs::read(&facts).unwrap()).unwrap();
        let text = |key: &str| facts[key].as_str().unwrap().to_owned();
        Compiled {
            component,
            code: fs::read(&code).unwrap(),
            contract: text("contract"),
            engine: text("engine"),
        }
    })
}

impl Compiled {
    /// Stages it under an id; the file lies in the envelope directory.
    pub(crate) fn stage(&self, envelope: &Path, id: &str, grant: BlockGrant) -> StagedPlugin {
        let code = Digest::of(&self.code);
        let file = code.hex();
        fs::write(envelope.join(&file), &self.code).unwrap();
        let fingerprint = Digest::of(serde_json::to_string(&grant).unwrap().as_bytes());
        StagedPlugin {
            id: id.to_owned(),
            digest: self.component,
            contract: self.contract.clone(),
            engine: self.engine.clone(),
            code,
            file,
            grant,
            fingerprint,
        }
    }
}
