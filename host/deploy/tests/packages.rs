//! Archives of functions: complete, and of the release that deploys.

use std::{fs, io::Write as _, path::Path};

use pangolin_deploy::{Architecture, DeployError, LABEL_FILE, Label, Packages, Release};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const FUNCTIONS: [&str; 3] = ["inbox", "tick", "task-events"];

fn release() -> Release {
    Release { version: "1.2.3".to_owned(), native_code: "engine 1, aarch64-linux".to_owned() }
}

fn archive(dir: &Path, function: &str, label: Option<&Label>) {
    let path = dir.join(format!("{function}-arm64.zip"));
    let mut zip = ZipWriter::new(fs::File::create(path).expect("a file"));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut add = |name: &str, bytes: &[u8]| {
        zip.start_file(name, options).expect("a file in it");
        zip.write_all(bytes).expect("written");
    };
    add("bootstrap", b"#!/bin/sh\nexit 1\n");
    if let Some(label) = label {
        add(LABEL_FILE, &label.to_bytes());
    }
    zip.finish().expect("finished");
}

/// Reads archives of which `changed` says something else about itself; answers what is wrong.
fn problems(changed: &str, label: Option<Label>) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    for function in FUNCTIONS {
        let usual = match function {
            "tick" => Label::of(function, Architecture::Arm64, &release()),
            _ => Label::plain(function, Architecture::Arm64, "1.2.3"),
        };
        let label = if function == changed { label.clone() } else { Some(usual) };
        archive(dir.path(), function, label.as_ref());
    }
    match Packages::read(dir.path(), Architecture::Arm64, &release()) {
        Ok(_) => Vec::new(),
        Err(DeployError::Packages { architecture, problems }) => {
            assert_eq!(architecture, "arm64");
            problems
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn archives_of_the_same_release_are_taken() {
    assert_eq!(problems("none of them", None), Vec::<String>::new());
}

#[test]
fn archives_of_another_release_are_refused_and_both_are_named() {
    let arm = Architecture::Arm64;
    let older = Release { version: "1.2.2".to_owned(), native_code: "engine 0, aarch64-linux".to_owned() };
    let found = problems("tick", Some(Label::of("tick", arm, &older)));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|it| it.contains("tick-arm64.zip ")), "{found:#?}");
    assert!(found[0].ends_with("is of release 1.2.2, this program is 1.2.3"), "{found:#?}");
    let code =
        "loads native code for engine 0, aarch64-linux, this program makes it for engine 1, aarch64-linux";
    assert!(found[1].ends_with(code), "{found:#?}");
    // One that loads no native code has a version all the same.
    let found = problems("inbox", Some(Label::plain("inbox", arm, "1.2.2")));
    assert!(matches!(&found[..], [one] if one.contains("inbox-arm64.zip is of release 1.2.2")), "{found:#?}");
    // The archive of another function or processor under this name.
    let found = problems("tick", Some(Label::of("inbox", Architecture::X86_64, &release())));
    assert!(found[0].ends_with("is the code of inbox") && found[1].ends_with("is for x86_64"), "{found:#?}");
}

#[test]
fn an_archive_that_does_not_say_what_it_is_is_refused() {
    let found = problems("task-events", None);
    assert!(matches!(&found[..], [one] if one.contains("does not say of which release")), "{found:#?}");
    let newer = Label { schema_version: 9, ..Label::plain("task-events", Architecture::Arm64, "1.2.3") };
    let found = problems("task-events", Some(newer));
    assert!(matches!(&found[..], [one] if one.contains("format 9 is not known")), "{found:#?}");
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("tick-arm64.zip"), "no zip").expect("written");
    let error = Packages::read(dir.path(), Architecture::Arm64, &release()).expect_err("nothing is there");
    let text = error.to_string();
    for part in
        ["inbox-arm64.zip is missing", "tick-arm64.zip cannot be read", "task-events-arm64.zip is missing"]
    {
        assert!(text.contains(part), "{text}");
    }
}
