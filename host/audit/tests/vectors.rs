//! Vectors made by others; see `vectors/README.md`.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_audit::{
    canon,
    checkpoint::Checkpoint,
    merkle::{verify_consistency, verify_inclusion},
    note::{Note, NoteError, VerifierKey},
};
use pangolin_core::ids::Digest;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(folder(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every JSON file below a folder, with its path.
fn json_files(name: &str) -> Vec<(String, Value)> {
    let mut pending = vec![folder(name)];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(&path).expect("vector folder") {
            let path = entry.expect("vector folder entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&path).expect("vector file");
                found.push((path.display().to_string(), serde_json::from_str(&text).expect("vector JSON")));
            }
        }
    }
    found
}

/// A hash of a vector; `None` when it is not 32 bytes long (then no proof with it can be valid).
fn hash(value: &Value) -> Option<Digest> {
    let bytes = STANDARD.decode(value.as_str()?).expect("vector base64");
    bytes.try_into().ok().map(Digest::from_bytes)
}

/// Like [`hash`] for roots: some vectors use a short text as a root that nobody looks into. Its digest stands for it:
/// equal ones stay equal and it is still the root of nothing.
fn root(value: &Value) -> Digest {
    hash(value).unwrap_or_else(|| Digest::of(value.to_string().as_bytes()))
}

fn proof(value: &Value) -> Option<Vec<Digest>> {
    match value {
        Value::Null => Some(Vec::new()),
        list => list.as_array().expect("vector proof").iter().map(hash).collect(),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("vector number")
}

#[test]
fn inclusion_proofs_of_transparency_dev() {
    let vectors = json_files("merkle/inclusion");
    assert_eq!(vectors.len(), 98);
    for (path, vector) in vectors {
        let valid = (|| {
            let (leaf, root) = (hash(&vector["leafHash"])?, root(&vector["root"]));
            let proof = proof(&vector["proof"])?;
            verify_inclusion(&leaf, number(&vector["leafIdx"]), number(&vector["treeSize"]), &proof, &root)
                .ok()
        })()
        .is_some();
        assert_eq!(valid, vector["wantErr"] == false, "{path}: {}", vector["desc"]);
    }
}

#[test]
fn consistency_proofs_of_transparency_dev() {
    let vectors = json_files("merkle/consistency");
    assert_eq!(vectors.len(), 98);
    for (path, vector) in vectors {
        let valid = (|| {
            let (old, new) = (root(&vector["root1"]), root(&vector["root2"]));
            let proof = proof(&vector["proof"])?;
            verify_consistency(number(&vector["size1"]), number(&vector["size2"]), &old, &new, &proof).ok()
        })()
        .is_some();
        assert_eq!(valid, vector["wantErr"] == false, "{path}: {}", vector["desc"]);
    }
}

#[test]
fn canonical_json_of_cyberphone() {
    for name in ["arrays", "french", "structures", "unicode", "values", "weird"] {
        let input: Value =
            serde_json::from_str(&read(&format!("jcs/input/{name}.json"))).expect("vector JSON");
        let output = read(&format!("jcs/output/{name}.json"));
        let ours = canon::to_vec(&input).expect("canonical form");
        assert_eq!(String::from_utf8_lossy(&ours), output, "{name}");
        canon::check(output.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let input = read(&format!("jcs/input/{name}.json"));
        assert!(canon::check(input.as_bytes()).is_err(), "{name}: the input is not canonical");
    }
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("vector hex");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("vector hex")).collect()
}

/// A verifier key of raw bytes; `None` when they are refused as a key.
fn key(public: &[u8]) -> Option<VerifierKey> {
    let mut hashed = b"vector\n\x01".to_vec();
    hashed.extend_from_slice(public);
    let id = &Digest::of(&hashed).hex()[..8];
    let mut material = vec![1];
    material.extend_from_slice(public);
    format!("vector+{id}+{}", STANDARD.encode(material)).parse().ok()
}

#[test]
fn ed25519_of_wycheproof() {
    let file: Value = serde_json::from_str(&read("wycheproof/ed25519_test.json")).expect("vector JSON");
    let mut count = 0;
    for group in file["testGroups"].as_array().expect("groups") {
        let key = key(&hex(&group["publicKey"]["pk"]));
        for test in group["tests"].as_array().expect("tests") {
            let accepted =
                key.as_ref().is_some_and(|key| key.accepts(&hex(&test["msg"]), &hex(&test["sig"])));
            assert_eq!(accepted, test["result"] == "valid", "test {}: {}", test["tcId"], test["comment"]);
            count += 1;
        }
    }
    assert_eq!(count, 151);
}

#[test]
fn ed25519_of_cctv_pins_the_strict_rule() {
    let vectors: Value = serde_json::from_str(&read("cctv/ed25519vectors.json")).expect("vector JSON");
    let vectors = vectors.as_array().expect("vectors");
    assert_eq!(vectors.len(), 914);
    for vector in vectors {
        let flags: Vec<&str> = vector["flags"]
            .as_array()
            .map_or(Vec::new(), |list| list.iter().filter_map(Value::as_str).collect());
        let allowed = ["low_order_component_A", "low_order_component_R"];
        let expected = flags.iter().all(|flag| allowed.contains(flag));
        let message = vector["msg"].as_str().expect("message").as_bytes();
        let accepted =
            key(&hex(&vector["key"])).is_some_and(|key| key.accepts(message, &hex(&vector["sig"])));
        assert_eq!(accepted, expected, "vector {} with flags {flags:?}", vector["number"]);
    }
}

#[test]
fn signed_note_example_of_c2sp() {
    let text = read("c2sp/signed-note-example.note");
    let vkey = read("c2sp/signed-note-example.vkey");
    let key: VerifierKey = vkey.trim().parse().expect("example key");
    assert_eq!(key.to_string(), vkey.trim());
    let note = Note::parse(&text).expect("example note");
    assert_eq!(note.text(), "This is an example message.\n");
    assert_eq!(note.to_string(), text);
    assert_eq!(note.verify(std::slice::from_ref(&key)).expect("example signature"), [&key]);
    let altered = Note::parse(&text.replace("example message", "other message")).expect("altered note");
    assert_eq!(altered.verify(&[key]), Err(NoteError::BadSignature("example.com/foo".to_owned())));
    let poem = read("c2sp/quasimodo.note");
    let poem = Note::parse(&poem).expect("a note with an empty line in its text");
    assert!(poem.text().ends_with("ed è subito sera.\n"), "{}", poem.text());
}

#[test]
fn checkpoint_example_of_c2sp() {
    let text = read("c2sp/checkpoint-example.note");
    let note = Note::parse(&text).expect("example note");
    let checkpoint: Checkpoint = note.text().parse().expect("example checkpoint");
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.to_string(), note.text());
}
