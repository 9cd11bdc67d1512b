//! `pangolin plugin add https://…` against a real TLS server with an authority of its own.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use pangolin_core::ids::Digest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::harness::{Output, Place};

/// An authority, and a server whose certificate is for `name`. It answers every request with `body`.
struct Server {
    address: SocketAddr,
    authority: String,
}

fn serve(name: &str, body: Vec<u8>) -> Server {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(count @ 1..) => request.extend_from_slice(&part[..count]),
                    // A client that does not trust us hangs up.
                    _ => break,
                }
            }
            let found = !request.starts_with(b"GET /flow.wasm.sig");
            let (status, body) =
                if found { ("200 OK", body.as_slice()) } else { ("404 Not Found", &b""[..]) };
            let head =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    Server { address, authority: issuer.pem() }
}

fn add(place: &Place, server: &Server, host: &str, trusted: &str, digest: Option<&Digest>) -> Output {
    let authority = place.write("authority.pem", trusted);
    let url = format!("https://{host}:{}/flow.wasm", server.address.port());
    let digest = digest.map(ToString::to_string);
    let mut arguments = vec!["plugin", "add", &url, "--yes", "--approver", "human:t"];
    if let Some(digest) = &digest {
        arguments.extend(["--sha256", digest]);
    }
    let output = place.command(&arguments).env("SSL_CERT_FILE", authority).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_component_comes_over_tls_from_a_server_with_a_private_authority() {
    let place = Place::new();
    place.run(&["init", "--namespace", "test"]).code(0);
    let bytes = crate::plugin_edges::flow();
    let digest = Digest::of(&bytes);
    let (ours, theirs) = (serve("localhost", bytes.clone()), serve("localhost", bytes.clone()));
    let misnamed = serve("elsewhere.example", bytes);
    let locked = || place.path().join("pangolin.lock").exists();

    add(&place, &ours, "localhost", &ours.authority, None).code(2).says(&["needs --sha256"]);
    let other = Digest::of(b"another component");
    let wrong = add(&place, &ours, "localhost", &ours.authority, Some(&other)).code(1);
    wrong.says(&[&digest.to_string(), &other.to_string(), "nothing was installed"]);
    // Neither an unknown authority nor a certificate for another name.
    for (server, trusted) in [(&ours, &theirs.authority), (&misnamed, &misnamed.authority)] {
        let refused = add(&place, server, "localhost", trusted, Some(&digest)).code(1);
        assert!(refused.stderr.to_lowercase().contains("certificate"), "{}", refused.stderr);
        assert!(!locked());
    }
    let added = add(&place, &ours, "localhost", &ours.authority, Some(&digest)).code(0);
    assert_eq!(added.stdout, format!("added acme/flow 1.0.0  {digest}\n"));
    assert!(locked());
}
