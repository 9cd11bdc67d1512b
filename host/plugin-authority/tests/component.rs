//! Components: embedding, inspection, reconciliation; and what hostile files do.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use pangolin_plugin_authority::{
    ComponentError, Kind, MANIFEST_SECTION, Manifest, Mismatch, embed, extract, host_contract, inspect,
    reconcile,
};
use proptest::prelude::*;

/// A block whose imports and exports are instances with these names; enough for everything that does not run.
fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let mut text = String::from("(component\n");
    for name in imports {
        text.push_str(&format!("(import \"{name}\" (instance))\n"));
    }
    for (index, name) in exports.iter().enumerate() {
        text.push_str(&format!("(instance $i{index})\n(export \"{name}\" (instance $i{index}))\n"));
    }
    text.push(')');
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn manifest(kind: &str, contract: &str, needs: &str) -> Manifest {
    Manifest::from_toml(&format!(
        "[plugin]\nid = 'acme/x'\nkind = '{kind}'\ncontract = '{contract}'\nversion = '1.0.0'\n[needs]\n{needs}\n"
    ))
    .unwrap()
}

const STAGE: &str = "pangolin:block/stage@1.0.0";
const EXEC: &str = "pangolin:block/exec@1.0.0";
const RUN: &str = "pangolin:block/run@1.0.0";
const SH: &str = "exec = [{ program = 'sh', args = ['**'], why = 'w' }]";

#[test]
fn what_is_embedded_comes_back_and_is_part_of_the_digest() {
    let bare = component(&[STAGE], &[RUN]);
    assert!(matches!(extract(&bare), Err(ComponentError::NoManifest)));
    let manifest = manifest("block", "^1.0", "read = [{ path = 'workspace/**', why = 'w' }]");
    let with = embed(&bare, &manifest).unwrap();
    assert_eq!(extract(&with).unwrap(), manifest);
    assert_ne!(inspect(&bare).unwrap().digest, inspect(&with).unwrap().digest);
    assert!(matches!(embed(&with, &manifest), Err(ComponentError::AlreadyEmbedded)));
    // Still a component for everybody else.
    assert_eq!(inspect(&with).unwrap().kind, Some(Kind::Block));
}

#[test]
fn forged_sections_are_named() {
    let bare = component(&[STAGE], &[RUN]);
    let good = manifest("block", "^1.0", "").to_json();
    let with = |sections: &[&[u8]]| {
        let mut bytes = bare.clone();
        for data in sections {
            let section = wasm_encoder::CustomSection { name: MANIFEST_SECTION.into(), data: (*data).into() };
            wasm_encoder::ComponentSection::append_to_component(&section, &mut bytes);
        }
        inspect(&bytes)
    };
    assert!(with(&[&good]).unwrap().manifest.is_some());
    assert!(matches!(with(&[&good, &good]), Err(ComponentError::SeveralManifests { count: 2 })));
    assert!(matches!(with(&[b"{}"]), Err(ComponentError::Manifest(_))));
    assert!(matches!(with(&[b""]), Err(ComponentError::Manifest(_))));
    assert!(matches!(with(&[b"\xff\xfe"]), Err(ComponentError::Manifest(_))));
    let big = vec![b' '; (64 << 10) + 1];
    assert!(matches!(with(&[&big]), Err(ComponentError::ManifestTooLarge { .. })));
    // What a nested component says about itself does not count.
    let nested = wat::parse_str(format!(
        "(component (component (@custom \"{MANIFEST_SECTION}\" \"{{}}\")) (core module (@custom \"{MANIFEST_SECTION}\" \"x\")))"
    ))
    .unwrap();
    assert!(matches!(extract(&nested), Err(ComponentError::NoManifest)));
}

#[test]
fn an_inspection_says_what_the_imports_can_do() {
    let found =
        inspect(&component(&["pangolin:base/log@1.0.0", STAGE, EXEC, "wasi:io/streams@0.2.6"], &[RUN]))
            .unwrap();
    assert_eq!((found.kind, found.world), (Some(Kind::Block), Some("block-full")));
    assert!(found.foreign.is_empty());
    assert!(
        found.abilities.iter().any(|words| words.contains("start granted programs")),
        "{:?}",
        found.abilities
    );
    let found = inspect(&component(&[STAGE], &[RUN])).unwrap();
    assert_eq!(found.world, Some("block"));
    let found = inspect(&component(&["wasi:filesystem/types@0.2.6", "pangolin:pattern/graph@1.0.0"], &[RUN]))
        .unwrap();
    let foreign: Vec<String> = found.foreign.iter().map(|import| import.name()).collect();
    assert_eq!(foreign, ["pangolin:pattern/graph@1.0.0", "wasi:filesystem/types@0.2.6"]);
    let found = inspect(&component(&[], &["pangolin:pattern/decide@1.0.0", RUN])).unwrap();
    assert_eq!(found.kind, None, "two kinds at once are none");
}

#[test]
fn manifest_and_binary_must_fit() {
    let full = inspect(&component(&[STAGE, EXEC], &[RUN])).unwrap();
    let plain = inspect(&component(&[STAGE], &[RUN])).unwrap();
    let problems = reconcile(&manifest("block", "^1.0", ""), &full).unwrap_err();
    assert!(matches!(problems[..], [Mismatch::Silent { capability: "exec", .. }]), "{problems:?}");
    let fine = reconcile(&manifest("block", "^1.0", SH), &full).unwrap();
    assert!(fine.warnings.is_empty() && fine.manifest.needs.exec().len() == 1);
    let dropped = reconcile(&manifest("block", "^1.0", SH), &plain).unwrap();
    assert!(
        dropped.manifest.needs.is_empty() && dropped.warnings[0].contains("dropped"),
        "{:?}",
        dropped.warnings
    );
    let problems = reconcile(&manifest("pattern", "^1.0", ""), &plain).unwrap_err();
    assert!(problems[0].to_string().contains("exports what a block exports"), "{problems:?}");
    // The cause alone, whatever else does not fit the wrong contract.
    for contract in ["^1.0", "^7.0"] {
        let problems = reconcile(&manifest("runtime-adapter", contract, ""), &full).unwrap_err();
        assert!(matches!(problems[..], [Mismatch::Kind { .. }]), "{problems:?}");
    }
    let problems = reconcile(&manifest("block", "^2.0", ""), &plain).unwrap_err();
    assert!(problems.iter().any(|p| matches!(p, Mismatch::BuiltAgainst { .. })), "{problems:?}");
    assert!(problems.iter().any(|p| matches!(p, Mismatch::Contract { .. })), "{problems:?}");
    let foreign = inspect(&component(&["wasi:sockets/tcp@0.2.6"], &[RUN])).unwrap();
    let problems = reconcile(&manifest("block", "^1.0", ""), &foreign).unwrap_err();
    assert!(problems[0].to_string().contains("wasi:sockets/tcp"), "{problems:?}");
    // Two names of one interface: the second one is no contract's, whatever it looks like.
    let odd = inspect(&component(&["pangolin:block/exec"], &[RUN])).unwrap();
    assert!(reconcile(&manifest("block", "^1.0", SH), &odd).is_err());
}

#[test]
fn the_served_contracts_are_those_of_the_wit_folders() {
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    for kind in Kind::ALL {
        let contract = host_contract(kind);
        let prefix = contract.package.replace(':', "-") + "@";
        let newest = std::fs::read_dir(wit)
            .unwrap()
            .filter_map(|entry| {
                entry.unwrap().file_name().to_str()?.strip_prefix(&prefix)?.parse::<semver::Version>().ok()
            })
            .max();
        assert_eq!(newest.as_ref(), Some(&contract.newest), "{}", contract.package);
    }
}

#[test]
fn files_that_are_no_components_are_named() {
    assert!(matches!(inspect(b""), Err(ComponentError::Malformed { .. })));
    assert!(matches!(inspect(b"MZ not wasm at all"), Err(ComponentError::Malformed { .. })));
    assert!(matches!(inspect(&wat::parse_str("(module)").unwrap()), Err(ComponentError::CoreModule)));
    let whole = component(&[STAGE], &[RUN]);
    for end in 0..whole.len() {
        if let Ok(found) = inspect(&whole[..end]) {
            // A cut at a section's end can be a smaller component; it is never more than it was.
            assert!(found.imports.len() <= 1 && found.exports.len() <= 1);
        }
    }
    let mut deep = component(&[], &[]);
    for _ in 0..3000 {
        let mut outer = wasm_encoder::Component::new();
        outer.section(&wasm_encoder::RawSection { id: 4, data: &deep });
        deep = outer.finish();
    }
    assert!(inspect(&deep).unwrap().imports.is_empty());
    let many: Vec<String> = (0..2000).map(|n| format!("a:b/c{n}@1.0.0")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(inspect(&component(&many, &[])), Err(ComponentError::Malformed { .. })));
    assert!(matches!(inspect(&vec![0; (64 << 20) + 1]), Err(ComponentError::TooLarge { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_bytes_make_the_reader_panic(
        mut tail in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), to in any::<u8>()
    ) {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.append(&mut tail);
        drop(inspect(&bytes));
        let mut whole = embed(&component(&[STAGE, EXEC], &[RUN]), &manifest("block", "^1.0", SH)).unwrap();
        let at = at.index(whole.len());
        whole[at] = to;
        drop(inspect(&whole));
        drop(extract(&whole));
    }
}
