//! Manifests: what is read, what is refused, and that everything is said at once.

use pangolin_plugin_authority::{Kind, Manifest};
use proptest::prelude::*;

const GOOD: &str = r#"
[plugin]
id = "acme/suite"
kind = "block"
contract = "^1.0"
version = "0.4.1"

[limits]
fuel = "base=2M, per-item=5k"
memory = "32MiB"
wall = "5s"

[needs]
exec = [{ program = "cargo", args = ["test", "**"], why = "runs the suite" }]
net = [{ host = "api.acme.dev", methods = ["GET"], why = "fetches rules" }]
secret = [{ name = "ACME_TOKEN", place = "header:Authorization", to = "api.acme.dev", why = "auth" }]
read = [{ path = "workspace/src/**", why = "looks at sources" }]
write = [{ path = "reports/**", why = "leaves a report" }]
"#;

#[test]
fn a_manifest_survives_the_way_into_json_and_back() {
    let manifest = Manifest::from_toml(GOOD).unwrap();
    assert_eq!((manifest.id.as_str(), manifest.kind), ("acme/suite", Kind::Block));
    assert_eq!(manifest.limits.fuel_base, Some(2_000_000));
    assert_eq!(manifest.limits.fuel_per_item, Some(5_000));
    assert_eq!(manifest.limits.memory_bytes, Some(32 << 20));
    assert_eq!(manifest.limits.wall_ms, Some(5_000));
    assert_eq!(manifest.needs.lines().len(), 5);
    let json = manifest.to_json();
    pangolin_audit::canon::check(&json).unwrap();
    assert_eq!(Manifest::from_json(&json).unwrap(), manifest);
    assert!(String::from_utf8(json).unwrap().contains("\"schemaVersion\":1"));
}

#[test]
fn every_finding_is_reported_at_once_with_its_key() {
    let text = r#"
typo = 1
[plugin]
id = "Acme/Süite"
kind = "blok"
contract = "*"
version = "one"
[limits]
fuel = "plenty"
memory = "32MB"
[needs]
exec = [{ program = "c*rgo" }, { program = "a/b", args = ["x**"], why = " " }]
net = [{ host = "*.com", methods = ["get"], ports = [0], why = "w" }, { host = "API.acme.dev", why = "w" }]
secret = [{ name = "1X", place = "cookie:x", to = "h", why = "w" }]
read = ["src/**", { path = "../x", why = "w" }, { path = "/etc/passwd", why = "w" }]
gpu = []
"#;
    let error = Manifest::from_toml(text).unwrap_err();
    let said = error.to_string();
    for part in [
        "\"typo\" is not known here",
        "plugin.id:",
        "plugin.kind: \"blok\" is not a kind",
        "plugin.contract: must not be *",
        "plugin.version:",
        "limits.fuel:",
        "limits.memory: \"32MB\"",
        "needs.exec[0].why: is missing",
        "needs.exec[0].program:",
        "needs.exec[1].program:",
        "needs.exec[1].args[0]:",
        "needs.exec[1].why: must not be empty",
        "needs.net[0].host:",
        "needs.net[0].methods[0]:",
        "needs.net[0].ports[0]:",
        "needs.net[1].host:",
        "needs.secret[0].name:",
        "needs.secret[0].place:",
        "needs.read[0]: must be a table",
        "needs.read[1].path:",
        "needs.read[2].path:",
        "needs: \"gpu\" is not known",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn ids_cannot_leave_a_directory_or_look_like_others() {
    let with = |id: &str| Manifest::from_toml(&GOOD.replace("acme/suite", id));
    for id in [
        "../x",
        "acme/../x",
        "acme/x/y",
        "/x",
        "acme/",
        "Acme/x",
        "аcme/x",
        "acme/x\u{200b}",
        "acme/x y",
        "-a/x",
        "a/x-",
        "",
    ] {
        assert!(with(id).is_err(), "{id:?}");
    }
    let long = format!("a/{}", "b".repeat(65));
    assert!(with(&long).is_err());
    for id in ["acme/x", "a1/b-2", "secret-scan"] {
        assert_eq!(with(id).unwrap().id.as_str(), id);
    }
}

#[test]
fn a_reason_cannot_deceive_the_reader() {
    for why in ["ok\\u202Eevil", "a\\u200Bb", "a\\u001B[2J", "two\\nlines", "\\U000E0041"] {
        let error = Manifest::from_toml(&GOOD.replace("runs the suite", why)).unwrap_err();
        assert!(error.to_string().contains("needs.exec[0].why"), "{why}: {error}");
    }
}

#[test]
fn the_embedded_form_is_strict() {
    let good = String::from_utf8(Manifest::from_toml(GOOD).unwrap().to_json()).unwrap();
    for (bad, says) in [
        (good.replace("{\"limits\"", "{ \"limits\""), "canonical"),
        (good.replace("\"schemaVersion\":1", "\"schemaVersion\":2"), "newer"),
        (good.replace("\"kind\":\"block\"", "\"kind\":\"block\",\"kind\":\"block\""), "canonical"),
        (good.replace("\"version\":\"0.4.1\"", "\"version\":\"0.4.1\",\"x\":1"), "\"x\" is not known"),
        (String::new(), "JSON"),
        ("null".to_owned(), "table"),
    ] {
        let error = Manifest::from_json(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{says:?} is not in {error}");
    }
    assert!(Manifest::from_json(&vec![b'['; 100_000]).unwrap_err().to_string().contains("limit"));
    assert!(Manifest::from_json(&vec![b'['; 60_000]).is_err());
    assert!(Manifest::from_toml(&"a = [".repeat(10_000)).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", at in 0..400_usize) {
        drop(Manifest::from_toml(&text));
        drop(Manifest::from_json(text.as_bytes()));
        let mut cut = GOOD.to_owned();
        let at = (at..).find(|at| cut.is_char_boundary(*at)).unwrap().min(cut.len());
        cut.insert_str(at, &text);
        if let Ok(manifest) = Manifest::from_toml(&cut) {
            prop_assert_eq!(&Manifest::from_json(&manifest.to_json()).unwrap(), &manifest);
        }
    }
}
