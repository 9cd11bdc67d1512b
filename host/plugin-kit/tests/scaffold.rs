//! New projects: what they hold, and that they replace nothing.

use std::fs;

use pangolin_plugin_authority::{Kind, Manifest, PluginId};
use pangolin_plugin_kit::{Language, LanguageError, Project, ProjectError, Scaffold, ScaffoldError};

fn all() -> impl Iterator<Item = (Language, Kind)> {
    Language::ALL.into_iter().flat_map(|language| Kind::ALL.map(|kind| (language, kind)))
}

#[test]
fn every_kind_in_every_language_is_a_project() {
    for (language, kind) in all() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("made/on/the/way");
        let written = Scaffold::new("my-plugin", None, kind, language).unwrap().write(&at).unwrap();
        let project = Project::open(&at, None).unwrap();
        assert_eq!((project.language, project.manifest.kind), (language, kind));
        assert_eq!((project.manifest.id.as_str(), project.name()), ("local/my-plugin", "my-plugin"));
        for path in written {
            let text = fs::read_to_string(&path).unwrap();
            // The bindings' own syntax has double braces too, so look for ours only.
            for mark in
                ["{{part-", "{{name}}", "{{id}}", "{{kind}}", "{{contract}}", "{{package}}", "{{word}}"]
            {
                assert!(!text.contains(mark), "{language} {kind}: {} still has {mark}", path.display());
            }
        }
        for file in ["README.md", ".gitignore", "pangolin-plugin.toml"] {
            assert!(at.join(file).is_file(), "{language} {kind} has no {file}");
        }
        assert!(at.join("fixtures").read_dir().unwrap().next().is_some(), "{language} {kind} has no fixture");
        assert!(at.join("wit").is_dir(), "{language} {kind} has no wit/");
    }
}

#[test]
fn the_to_do_is_marked_in_the_source() {
    for (language, kind) in all() {
        let files = Scaffold::new("my-plugin", None, kind, language).unwrap().files().unwrap();
        let marked: Vec<_> = files.iter().filter(|(_, text)| text.contains("TODO(my-plugin):")).collect();
        assert!(!marked.is_empty(), "{language} {kind}");
        assert!(marked.iter().all(|(path, _)| !path.starts_with("vendor/") && !path.starts_with("wit/")));
    }
}

#[test]
fn the_newest_contract_is_what_the_manifest_asks_for() {
    for (language, kind) in all() {
        let files = Scaffold::new("my-plugin", None, kind, language).unwrap().files().unwrap();
        let manifest = Manifest::from_toml(&files["pangolin-plugin.toml"]).unwrap();
        let contract = pangolin_plugin_authority::host_contract(kind);
        assert!(
            manifest.contract.matches(&contract.newest),
            "{language} {kind}: {} is not served, the host has {}",
            manifest.contract,
            contract.newest
        );
    }
}

#[test]
fn nothing_is_replaced_and_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("README.md"), "mine").unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(dir.path().join("src/lib.rs"), "mine too").unwrap();
    let scaffold = Scaffold::new("my-plugin", None, Kind::Pattern, Language::Rust).unwrap();
    let error = scaffold.write(dir.path()).unwrap_err();
    let ScaffoldError::Exists(taken) = &error else { panic!("{error}") };
    assert_eq!(*taken, [dir.path().join("README.md"), dir.path().join("src/lib.rs")]);
    assert!(error.to_string().contains("README.md") && error.to_string().contains("nothing was written"));
    assert_eq!(fs::read_to_string(dir.path().join("README.md")).unwrap(), "mine");
    assert!(!dir.path().join("Cargo.toml").exists());
    // A file that is not in the way is no problem.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("notes.txt"), "mine").unwrap();
    scaffold.write(other.path()).unwrap();
}

#[test]
fn a_dangling_link_is_in_the_way_too() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join("Cargo.toml")).unwrap();
    let scaffold = Scaffold::new("my-plugin", None, Kind::Block, Language::Rust).unwrap();
    assert!(matches!(scaffold.write(dir.path()), Err(ScaffoldError::Exists(_))));
}

#[test]
fn names_and_ids_are_checked() {
    let new = |name: &str, id: Option<&str>| {
        Scaffold::new(name, id.map(|id| PluginId::new(id).unwrap()), Kind::Pattern, Language::C)
    };
    for bad in ["", "A", "1a", "-a", "a-", "a--b", "a_b", "a/b", "../a", "ä", &"a".repeat(65)] {
        assert!(matches!(new(bad, None), Err(ScaffoldError::Name(_))), "{bad:?}");
    }
    assert_eq!(new("a1-b", Some("acme/other")).unwrap().id().as_str(), "acme/other");
    let error = new("a", Some("pipeline")).unwrap_err();
    assert!(matches!(&error, ScaffoldError::Reserved(_)));
    assert!(error.to_string().contains("local/pipeline"), "{error}");
}

#[test]
fn an_unknown_language_lists_the_known_ones() {
    assert_eq!("cobol".parse::<Language>(), Err(LanguageError("cobol".into())));
    let text = "go".parse::<Language>().unwrap_err().to_string();
    assert!(text.contains("rust, js, py and c"), "{text}");
    assert_eq!("python".parse(), Ok(Language::Python));
}

#[test]
fn a_directory_that_is_no_project_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let error = Project::open(dir.path(), None).unwrap_err();
    assert!(matches!(error, ProjectError::NoManifest(_)));
    let files = Scaffold::new("a", None, Kind::Pattern, Language::C).unwrap().files().unwrap();
    fs::write(dir.path().join("pangolin-plugin.toml"), &files["pangolin-plugin.toml"]).unwrap();
    let error = Project::open(dir.path(), None).unwrap_err();
    assert!(matches!(error, ProjectError::NoLanguage(_)) && error.to_string().contains("--lang"), "{error}");
    for marker in ["Cargo.toml", "package.json"] {
        fs::write(dir.path().join(marker), "").unwrap();
    }
    let error = Project::open(dir.path(), None).unwrap_err();
    assert!(error.to_string().contains("Cargo.toml and package.json"), "{error}");
    assert_eq!(Project::open(dir.path(), Some(Language::Rust)).unwrap().language, Language::Rust);
    fs::write(dir.path().join("pangolin-plugin.toml"), "[plugin]\nid = 1\n").unwrap();
    let error = Project::open(dir.path(), None).unwrap_err();
    let ProjectError::Manifest { source, .. } = &error else { panic!("{error}") };
    assert!(source.findings.len() > 2, "{source}");
}
