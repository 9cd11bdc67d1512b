//! Locks and signatures: what is written comes back, what was tampered with is named.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use ed25519_dalek::SigningKey;
use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{
    Grant, LOCK_FILE, Lock, LockError, LockedPlugin, OperatorPolicy, SignatureError, SignaturePolicy,
    Signatures, sign,
};

fn plugin(id: &str) -> LockedPlugin {
    let grant: Grant = serde_json::from_str(
        r#"{"exec":[{"program":"cargo","args":["test","**"]}],"read":["workspace/**"],"limits":{"memoryBytes":33554432}}"#,
    )
    .unwrap();
    LockedPlugin {
        id: id.parse().unwrap(),
        kind: "block".parse().unwrap(),
        version: "0.4.1".parse().unwrap(),
        contract: "^1.0".parse().unwrap(),
        sha256: Digest::of(b"component"),
        source: "file:plugins/suite.wasm".into(),
        fingerprint: grant.fingerprint(),
        signer: Some("acme-2026".into()),
        approver: "human:alex \"quoted\" \\ back".into(),
        approved_at: 1_795_000_000_000,
        grant,
    }
}

#[test]
fn a_lock_comes_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Lock::read(dir.path()).unwrap(), Lock::default());
    let mut lock = Lock::default();
    for id in ["b/two", "a/one"] {
        assert!(lock.insert(plugin(id)).is_none());
    }
    lock.write(dir.path()).unwrap();
    let read = Lock::read(dir.path()).unwrap();
    assert_eq!(read, lock);
    let ids: Vec<&str> = read.plugins().map(|plugin| plugin.id.as_str()).collect();
    assert_eq!(ids, ["a/one", "b/two"]);
    assert_eq!(lock.remove("a/one").unwrap().id.as_str(), "a/one");
    assert!(lock.remove("a/one").is_none());
    let mut bad = plugin("a/one");
    bad.source = "file:\u{202e}gpj.wasm".into();
    lock.insert(bad);
    assert!(matches!(lock.write(dir.path()), Err(LockError::Invalid(_))));
    assert_eq!(Lock::read(dir.path()).unwrap(), read, "a lock that could not be read back was not written");
}

#[test]
fn tampering_is_named() {
    let mut lock = Lock::default();
    lock.insert(plugin("a/one"));
    let good = lock.to_text();
    Lock::parse(&good, LOCK_FILE).unwrap();
    for (from, to, says) in [
        ("\"workspace/**\"", "\"**\"", "one of them was changed by hand"),
        ("33554432", "33554433", "one of them was changed by hand"),
        ("schemaVersion = 1", "schemaVersion = 2", "this program knows 1"),
        ("schemaVersion = 1", "", "schemaVersion"),
        ("id = \"a/one\"", "id = \"../one\"", "plugin[0].id"),
        ("id = \"a/one\"", "id = \"secret-scan\"", "plugin[0].id"),
        ("id = \"a/one\"", "id = \"a/one\"\nid = \"a/two\"", "duplicate key"),
        ("kind = \"block\"", "kind = \"root\"", "plugin[0].kind"),
        ("approvedAt = 1795000000000", "approvedAt = -1", "approvedAt"),
        ("approver = ", "approver = \"\"\nx = ", "\"x\" is not known"),
        ("sha256 = \"sha256:", "sha256 = \"sha256:00", "plugin[0].sha256"),
        ("[[plugin]]", "[plugin]", "must be a list"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Lock::parse(&good.replacen(from, to, 1), LOCK_FILE).unwrap_err().to_string();
        assert!(error.contains(says), "{from:?} -> {to:?}: {says:?} is not in {error}");
    }
    let twice = format!("{good}{}", good.split_once("\n\n").unwrap().1);
    assert!(Lock::parse(&twice, LOCK_FILE).unwrap_err().to_string().contains("there twice"));
    for garbage in ["\0", "<<<<<<< HEAD", "[[plugin]]\n", "plugin = 3"] {
        assert!(Lock::parse(garbage, LOCK_FILE).is_err(), "{garbage:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(LOCK_FILE), vec![b'#'; 5 << 20]).unwrap();
    assert!(Lock::read(dir.path()).unwrap_err().to_string().contains(LOCK_FILE));
}

#[test]
fn approval_covers_what_is_narrower_only() {
    let locked = plugin("a/one");
    locked.check(&locked.grant).unwrap();
    locked
        .check(&serde_json::from_str(r#"{"read":["workspace/a"],"limits":{"memoryBytes":1}}"#).unwrap())
        .unwrap();
    let wider: Grant =
        serde_json::from_str(r#"{"read":["workspace/**","base/**"],"limits":{"memoryBytes":1}}"#).unwrap();
    let refused = locked.check(&wider).unwrap_err().to_string();
    assert!(refused.contains("read base/**") && refused.contains("`pangolin plugin add a/one`"), "{refused}");
}

fn policy(keys: &[(&str, &SigningKey)]) -> SignaturePolicy {
    use base64::Engine as _;
    let keys: Vec<String> = keys
        .iter()
        .map(|(id, key)| {
            let key = base64::prelude::BASE64_STANDARD.encode(key.verifying_key().as_bytes());
            format!("{{ id = '{id}', key = '{key}' }}")
        })
        .collect();
    let text = format!("allow = 'project'\n[signature]\nkeys = [{}]", keys.join(", "));
    OperatorPolicy::parse(&text, "policy.toml").unwrap().signature
}

#[test]
fn only_a_trusted_key_over_these_bytes_counts() {
    let (ours, theirs) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let (component, other) = (Digest::of(b"a"), Digest::of(b"b"));
    let policy = policy(&[("ours", &ours)]);
    let parse = |text: &str| Signatures::parse(text.as_bytes()).unwrap();
    let check = |text: &str| Signatures::check(Some(&parse(text)), &policy, &component);
    assert_eq!(check(&sign("ours", &ours, &component)).unwrap().as_deref(), Some("ours"));
    let both = sign("theirs", &theirs, &component) + "# second\n\n" + &sign("ours", &ours, &component);
    assert_eq!(check(&both).unwrap().as_deref(), Some("ours"));
    assert!(matches!(check(&sign("theirs", &theirs, &component)), Err(SignatureError::Untrusted { .. })));
    assert!(matches!(check(&sign("ours", &theirs, &component)), Err(SignatureError::Bad { .. })));
    assert!(matches!(check(&sign("ours", &ours, &other)), Err(SignatureError::Bad { .. })));
    assert!(matches!(Signatures::check(None, &policy, &component), Err(SignatureError::Missing { .. })));
    assert_eq!(Signatures::check(None, &SignaturePolicy::None, &component).unwrap(), None);
    assert!(Signatures::check(None, &SignaturePolicy::Keys(Vec::new()), &component).is_err());
    for bad in ["", "\n# nothing\n", "ours", "ours !!!", "o/urs AAAA", "ours AAAA", &"x".repeat(10_000)] {
        assert!(matches!(Signatures::parse(bad.as_bytes()), Err(SignatureError::Malformed(_))), "{bad:?}");
    }
    let many = sign("ours", &ours, &component).repeat(17);
    assert!(Signatures::parse(many.as_bytes()).is_err());
}

#[test]
fn a_policy_is_checked_as_a_whole() {
    let text = "allow = { exec = [{ program = '*' }] }\nids = ['*', 'acme/*', 'a/b/*']\nlimits = { memory = '1TB' }\n\
                signature = { keys = [{ id = 'a b', key = 'AAAA' }] }\nextra = 1";
    let said = OperatorPolicy::parse(text, "policy.toml").unwrap_err().to_string();
    for part in [
        "allow.exec[0].program",
        "ids[0]",
        "ids[2]",
        "limits.memory",
        "signature.keys[0].id",
        "signature.keys[0].key",
        "\"extra\"",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!said.contains("ids[1]"), "{said}");
    let policy = OperatorPolicy::parse("allow = 'project'\nids = ['acme/*', 'b/c']", "p").unwrap();
    let allows = |id: &str| policy.allows_id(&id.parse().unwrap());
    assert_eq!(["acme/x", "acmex/x", "b/c", "b/d", "x"].map(allows), [true, false, true, false, false]);
}
