//! What ships carries its manifest inside, like everybody's plugin.

use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{Kind, inspect, reconcile};

#[test]
fn every_shipped_component_holds_a_manifest_that_fits_it_and_has_the_digest_of_the_build() {
    let mut seen = 0;
    for (word, id) in pangolin_builtin_plugins::ids() {
        let (kind, bytes) = match word {
            "adapter" => (Kind::RuntimeAdapter, pangolin_builtin_plugins::adapter(id)),
            "block" => (Kind::Block, pangolin_builtin_plugins::block(id)),
            "pattern" => (Kind::Pattern, pangolin_builtin_plugins::pattern(id)),
            other => panic!("{other}"),
        };
        let inspection = inspect(bytes.unwrap()).unwrap();
        let digest = Digest::of(bytes.unwrap());
        assert_eq!(pangolin_builtin_plugins::digest(word, id), Some(*digest.as_bytes()), "{word} {id}");
        let manifest = inspection.manifest.clone().unwrap_or_else(|| panic!("{word} {id} has no manifest"));
        assert_eq!((manifest.id.as_str(), manifest.kind), (id, kind));
        assert_eq!(inspection.kind, Some(kind), "{id}");
        let fits = reconcile(&manifest, &inspection).unwrap_or_else(|problems| panic!("{id}: {problems:?}"));
        assert!(fits.warnings.is_empty(), "{id}: {:?}", fits.warnings);
        seen += 1;
    }
    assert_eq!(seen, 10);
}
