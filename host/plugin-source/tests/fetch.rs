//! Files and addresses: what comes, and what is refused.

mod support;

use std::{path::Path, time::Duration};

use pangolin_core::ids::Digest;
use pangolin_plugin_source::{Options, Source, SourceError, current_digest, fetch};
use support::{Answer, Server, ok, redirect};

const BYTES: &[u8] = b"\0asm component";

fn options() -> Options {
    Options { bytes_max: 1000, timeout: Duration::from_secs(20), with_signature: true }
}

fn parse(text: &str) -> Result<Source, SourceError> {
    Source::parse(text, Path::new("/base"))
}

fn get(url: &str) -> Result<Vec<u8>, SourceError> {
    fetch(&parse(url)?, Some(&Digest::of(BYTES)), &options()).map(|fetched| fetched.bytes)
}

#[test]
fn sources_are_read_and_nonsense_is_named() {
    for text in [
        "./x.wasm",
        "/abs/x.wasm",
        "file:x.wasm",
        "file:///x.wasm",
        "https://a.dev/x.wasm?y=1",
        "oci://a.dev/b/c:1.0",
        "oci://127.0.0.1:5000/b:latest",
    ] {
        parse(text).unwrap();
    }
    assert_eq!(parse("file:x.wasm").unwrap().to_string(), "/base/x.wasm");
    assert_eq!(parse("oci://r.dev/a/b:1").unwrap().to_string(), "oci://r.dev/a/b:1");
    let digest = Digest::of(b"");
    assert_eq!(
        parse(&format!("oci://r.dev/a@{digest}")).unwrap().to_string(),
        format!("oci://r.dev/a@{digest}")
    );
    for text in [
        "",
        "http://a.dev/x.wasm",
        "ftp://a.dev/x",
        "https://user:pw@a.dev/x",
        "https://a.dev/x#y",
        "https://",
        "oci://a.dev",
        "oci://a.dev/b",
        "oci://a.dev/../b:1",
        "oci://a.dev/B:1",
        "oci://a.dev/b:",
        "oci://a.dev/b@sha256:00",
        "oci://u@a.dev/b:1",
        "oci://a.dev/b:1/../../c",
        "a\nb",
        "file:",
    ] {
        assert!(matches!(parse(text), Err(SourceError::Invalid { .. })), "{text:?}");
    }
}

#[test]
fn files_come_with_their_signature_and_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.wasm");
    let source = Source::File(path.clone());
    assert!(matches!(fetch(&source, None, &options()), Err(SourceError::File { .. })));
    std::fs::write(&path, BYTES).unwrap();
    let fetched = fetch(&source, None, &options()).unwrap();
    assert_eq!(
        (fetched.bytes.as_slice(), fetched.digest, fetched.signature),
        (BYTES, Digest::of(BYTES), None)
    );
    std::fs::write(dir.path().join("x.wasm.sig"), "k AAAA").unwrap();
    assert_eq!(fetch(&source, None, &options()).unwrap().signature.unwrap(), b"k AAAA");
    let error = fetch(&source, Some(&Digest::of(b"other")), &options()).unwrap_err();
    assert!(matches!(error, SourceError::WrongDigest { .. }), "{error}");
    std::fs::write(&path, vec![0; 1001]).unwrap();
    assert!(matches!(fetch(&source, None, &options()), Err(SourceError::TooLarge { .. })));
    let directory = fetch(&Source::File(dir.path().to_owned()), None, &options()).unwrap_err();
    assert!(matches!(directory, SourceError::File { .. }), "a directory, and so a pipe, is no component");
}

#[test]
fn an_address_needs_its_digest() {
    let server = Server::start();
    server.on("/x.wasm", ok(BYTES));
    let source = parse(&server.url("/x.wasm")).unwrap();
    assert!(matches!(fetch(&source, None, &options()), Err(SourceError::NeedsDigest { .. })));
    assert!(server.seen().is_empty(), "nothing was asked for before that was clear");
    assert_eq!(fetch(&source, Some(&Digest::of(BYTES)), &options()).unwrap().bytes, BYTES);
    assert!(matches!(
        fetch(&source, Some(&Digest::of(b"")), &options()),
        Err(SourceError::WrongDigest { .. })
    ));
    assert_eq!(current_digest(&source, &options()).unwrap(), Digest::of(BYTES));
    server.on("/x.wasm.sig", ok(b"k AAAA"));
    assert_eq!(fetch(&source, Some(&Digest::of(BYTES)), &options()).unwrap().signature.unwrap(), b"k AAAA");
    server.on("/x.wasm.sig", ok(&[b'x'; 9000]));
    assert!(matches!(
        fetch(&source, Some(&Digest::of(BYTES)), &options()),
        Err(SourceError::TooLarge { .. })
    ));
}

#[test]
fn what_a_server_may_do_is_bounded() {
    let server = Server::start();
    server.on("/big", ok(&[0; 1001]));
    server.on("/endless", Answer { status: 200, headers: Vec::new(), body: None });
    server.on(
        "/lies",
        Answer { status: 200, headers: vec![("x".into(), "y".into())], body: Some(vec![1; 1001]) },
    );
    for path in ["/big", "/endless", "/lies"] {
        assert!(matches!(get(&server.url(path)), Err(SourceError::TooLarge { .. })), "{path}");
    }
    assert!(matches!(get(&server.url("/none")), Err(SourceError::Status { status: 404, .. })));
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    assert!(matches!(get(&format!("http://{closed}/x")), Err(SourceError::Transfer { .. })));
    // A server that accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let source = parse(&format!("http://{}/x", silent.local_addr().unwrap())).unwrap();
    let short = Options { timeout: Duration::from_millis(300), ..options() };
    assert!(matches!(fetch(&source, Some(&Digest::of(BYTES)), &short), Err(SourceError::Transfer { .. })));
}

#[test]
fn redirects_are_few_and_never_lead_somewhere_weaker() {
    let server = Server::start();
    server.on("/x", ok(BYTES)).on("/once", redirect("/x")).on("/loop", redirect("/loop"));
    assert_eq!(get(&server.url("/once")).unwrap(), BYTES);
    assert!(matches!(get(&server.url("/loop")), Err(SourceError::Redirect { .. })));
    assert_eq!(server.seen().iter().filter(|seen| *seen == "/loop").count(), 6);
    for to in ["http://example.com/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", ""] {
        server.on("/away", redirect(to));
        let error = get(&server.url("/away"));
        assert!(matches!(error, Err(SourceError::Redirect { .. })), "{to:?}: {error:?}");
    }
}
