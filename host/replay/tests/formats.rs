//! Kept samples replay for ever (`tests/formats`), and the kept lie is found (`tests/fixtures`).

use pangolin_plugin_host::{CacheKey, Compiler, HostOptions, PluginHost};
use pangolin_replay::{Given, ReplayReport, ReplayVerdict, replay};

async fn replayed(bundle: &[u8]) -> ReplayReport {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    let options = HostOptions { compiler: Compiler::InProcess, ..HostOptions::default() };
    let host = PluginHost::with_options(&dir, CacheKey::from_bytes([7; 32]), options).expect("a plugin host");
    replay(bundle, &host, &Given::default(), |_| ()).await.expect("a bundle")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_version_2_replays() {
    let report = replayed(include_bytes!("../../../tests/formats/bundle-v2-growth.json")).await;
    assert_eq!(report.verdict, ReplayVerdict::Agrees, "{report:#?}");
    assert_eq!((report.agreed, report.unrepeatable), (report.steps, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_version_1_has_nothing_to_replay() {
    let report = replayed(include_bytes!("../../../tests/formats/bundle-v1.json")).await;
    assert_eq!(report.verdict, ReplayVerdict::Nothing, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kept_lie_is_found() {
    let report = replayed(include_bytes!("../../../tests/fixtures/replay-differs.json")).await;
    let difference = report.difference.expect("a difference");
    assert_eq!((difference.step, difference.what.item.as_deref()), (0, Some("one")));
    assert_eq!(difference.what.member, "explanation");
}
