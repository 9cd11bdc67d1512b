//! Registries: a real one when it is installed, and hostile answers from a table.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod support;

use std::{
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use pangolin_core::ids::Digest;
use pangolin_plugin_source::{Options, Source, SourceError, current_digest, fetch};
use serde_json::{Value, json};
use support::{Answer, Server, ok, redirect};

const BYTES: &[u8] = b"\0asm component";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const SIGNATURE: &str = "application/vnd.pangolin.plugin.signature.v1";

fn options() -> Options {
    Options { bytes_max: 1 << 20, timeout: Duration::from_secs(20), with_signature: true }
}

fn source(registry: &impl std::fmt::Display, rest: &str) -> Source {
    Source::parse(&format!("oci://{registry}/{rest}"), Path::new("/")).unwrap()
}

fn manifest(component: &[u8], signature: Option<&[u8]>) -> Value {
    let layer = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len() });
    let mut layers = vec![layer("application/wasm", component)];
    layers.extend(signature.map(|bytes| layer(SIGNATURE, bytes)));
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": layer(CONFIG, b"{}"), "layers": layers })
}

/// Debian's registry on a free port of loopback; stopped at the end.
struct Registry {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    fn start() -> Option<Self> {
        let found = Command::new("docker-registry")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED: docker-registry is not installed (apt-get install docker-registry)")
                .unwrap();
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, address, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(30);
        while ureq::get(registry.url("")).call().is_err() {
            assert!(Instant::now() < deadline, "the registry does not answer");
            std::thread::yield_now();
        }
        Some(registry)
    }

    fn url(&self, rest: &str) -> String {
        format!("http://{}/v2/{rest}", self.address)
    }

    fn push_blob(&self, repository: &str, bytes: &[u8]) {
        let answer = ureq::post(self.url(&format!("{repository}/blobs/uploads/"))).send_empty().unwrap();
        let place = answer.headers()["location"].to_str().unwrap().to_owned();
        let put = ureq::put(format!("{place}&digest={}", Digest::of(bytes)));
        assert_eq!(put.content_type("application/octet-stream").send(bytes).unwrap().status(), 201);
    }

    fn push(&self, repository: &str, tag: &str, component: &[u8], signature: Option<&[u8]>) -> Digest {
        for blob in [Some(component), Some(b"{}".as_slice()), signature].into_iter().flatten() {
            self.push_blob(repository, blob);
        }
        let bytes = serde_json::to_vec(&manifest(component, signature)).unwrap();
        let put = ureq::put(self.url(&format!("{repository}/manifests/{tag}"))).content_type(MANIFEST);
        assert_eq!(put.send(&bytes).unwrap().status(), 201);
        Digest::of(&bytes)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_registry_gives_the_artifact_by_tag_and_by_digest() {
    let Some(registry) = Registry::start() else { return };
    let pushed = registry.push("plugins/suite", "0.4.1", BYTES, Some(b"k AAAA"));
    for rest in [
        "plugins/suite:0.4.1".to_owned(),
        format!("plugins/suite@{pushed}"),
        format!("plugins/suite:0.4.1@{pushed}"),
    ] {
        let source = source(&registry.address, &rest);
        let fetched = fetch(&source, Some(&Digest::of(BYTES)), &options()).unwrap();
        assert_eq!(fetched.bytes, BYTES);
        assert_eq!(fetched.signature.as_deref(), Some(b"k AAAA".as_slice()));
        assert_eq!(current_digest(&source, &options()).unwrap(), Digest::of(BYTES));
    }
    let by_tag = source(&registry.address, "plugins/suite:0.4.1");
    registry.push("plugins/suite", "0.4.1", b"moved", None);
    assert_eq!(current_digest(&by_tag, &options()).unwrap(), Digest::of(b"moved"));
    assert!(matches!(
        fetch(&by_tag, Some(&Digest::of(BYTES)), &options()),
        Err(SourceError::WrongDigest { .. })
    ));
    let pinned = source(&registry.address, &format!("plugins/suite@{pushed}"));
    assert_eq!(fetch(&pinned, None, &options()).unwrap().bytes, BYTES, "a digest does not move");
    for missing in ["plugins/suite:nope", "plugins/none:1"] {
        let error = fetch(&source(&registry.address, missing), None, &options()).unwrap_err();
        assert!(matches!(error, SourceError::Status { status: 404, .. }), "{error}");
    }
}

fn serve(server: &Server, manifest: &Value) -> Source {
    server.on("/v2/p/manifests/1", ok(&serde_json::to_vec(manifest).unwrap()));
    source(&server.address, "p:1")
}

#[test]
fn other_artifacts_and_lies_are_named() {
    let server = Server::start();
    let blob = format!("/v2/p/blobs/{}", Digest::of(BYTES));
    server.on(&blob, ok(BYTES));
    let good = manifest(BYTES, None);
    assert_eq!(fetch(&serve(&server, &good), None, &options()).unwrap().bytes, BYTES);
    let change = |at: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(at).unwrap() = value;
        bad
    };
    for bad in [
        change("/schemaVersion", json!(1)),
        change("/mediaType", json!("application/vnd.oci.image.index.v1+json")),
        change("/config/mediaType", json!("application/vnd.oci.image.config.v1+json")),
        change("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip")),
        change("/layers/0/digest", json!("../../etc/passwd")),
        change("/layers/0/digest", json!("sha512:00")),
        change("/layers", json!([])),
        change("/layers", json!([good["layers"][0], good["layers"][0]])),
        json!({ "manifests": [] }),
        json!("x"),
    ] {
        let error = fetch(&serve(&server, &bad), None, &options()).unwrap_err();
        assert!(matches!(error, SourceError::NotAnArtifact { .. }), "{bad}: {error}");
    }
    let huge = change("/layers/0/size", json!(2 << 20));
    assert!(matches!(fetch(&serve(&server, &huge), None, &options()), Err(SourceError::TooLarge { .. })));
    let small = change("/layers/0/size", json!(3));
    assert!(matches!(fetch(&serve(&server, &small), None, &options()), Err(SourceError::TooLarge { .. })));
    server.on(&blob, ok(b"\0asm other byte"));
    let swapped = change("/layers/0/size", json!(100));
    assert!(matches!(
        fetch(&serve(&server, &swapped), None, &options()),
        Err(SourceError::WrongDigest { .. })
    ));
    server.on("/v2/p/manifests/1", ok(&vec![b' '; (1 << 20) + 1]));
    assert!(matches!(
        fetch(&source(&server.address, "p:1"), None, &options()),
        Err(SourceError::TooLarge { .. })
    ));
    let other = Digest::of(b"x");
    server.on(&format!("/v2/p/manifests/{other}"), ok(&serde_json::to_vec(&good).unwrap()));
    let error = fetch(&source(&server.address, &format!("p@{other}")), None, &options()).unwrap_err();
    assert!(matches!(error, SourceError::WrongDigest { .. }), "{error}");
}

fn challenge(realm: &str) -> Answer {
    let value = format!("Bearer realm=\"{realm}\",service=\"r\",scope=\"repository:p:pull,push\"");
    Answer { status: 401, headers: vec![("www-authenticate".into(), value)], body: Some(Vec::new()) }
}

#[test]
fn a_token_is_asked_for_once_and_stays_with_its_host() {
    let (server, cdn) = (Server::start(), Server::start());
    let blob = format!("/v2/p/blobs/{}", Digest::of(BYTES));
    let bytes = serde_json::to_vec(&manifest(BYTES, None)).unwrap();
    let token = "/token?service=r&scope=repository%3Ap%3Apull";
    server.on(token, ok(br#"{"token":"t0k"}"#));
    server
        .on("/v2/p/manifests/1", challenge(&server.url("/token")))
        .on("/v2/p/manifests/1 Bearer t0k", ok(&bytes));
    server.on(&format!("{blob} Bearer t0k"), redirect(&cdn.url("/blob")));
    cdn.on("/blob", ok(BYTES));
    assert_eq!(fetch(&source(&server.address, "p:1"), None, &options()).unwrap().bytes, BYTES);
    assert_eq!(cdn.seen(), ["/blob"], "the token does not go to another host");
    assert_eq!(server.seen().iter().filter(|seen| seen.starts_with("/token")).count(), 1);
    // A service that gives nothing useful, is somewhere it must not be, or still refuses.
    server.on(token, ok(b"{}"));
    assert!(matches!(
        fetch(&source(&server.address, "p:1"), None, &options()),
        Err(SourceError::NotAnArtifact { .. })
    ));
    server.on("/v2/p/manifests/1", challenge("http://example.com/token"));
    assert!(matches!(
        fetch(&source(&server.address, "p:1"), None, &options()),
        Err(SourceError::NotAnArtifact { .. })
    ));
    server.on("/v2/p/manifests/1", challenge(&server.url("/token")));
    server.on(token, ok(br#"{"token":"wrong"}"#));
    assert!(matches!(
        fetch(&source(&server.address, "p:1"), None, &options()),
        Err(SourceError::Status { status: 401, .. })
    ));
}
