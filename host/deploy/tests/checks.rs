//! The exported files are what the code makes, and outside checkers accept the template or their finding is explained.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use pangolin_deploy::{exported, template};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn exported_files_are_what_the_code_makes() {
    let files = [
        ("infra/template.json", template::export()),
        ("infra/rights.md", exported::rights()),
        ("docs/aws-cost.md", exported::cost()),
    ];
    for (path, expected) in files {
        let found = fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(found == expected, "{path} is out of date: cargo run -p pangolin-deploy --example export");
    }
}

#[test]
fn the_template_fits_into_a_request() {
    let size = template::body().len();
    assert!(size <= 51_200, "CloudFormation takes 51,200 bytes in a request, the template has {size}");
}

#[test]
fn every_statement_has_its_reason_and_no_role_may_do_everything() {
    let template = template::template();
    let mut roles = BTreeSet::new();
    for grant in template.grants() {
        assert!(roles.insert(grant.role), "{} twice", grant.role);
        for allow in &grant.allows {
            let name = format!("{}.{}", grant.role, allow.sid);
            assert!(allow.reason.len() > 15, "{name} has no reason");
            assert!(
                allow.actions.iter().all(|action| !action.contains('*')),
                "{name}: an action with a star"
            );
            let everywhere = allow.resources.iter().any(|it| it == "*");
            // Actions that know no resource, and one that knows the cluster as a condition.
            let may = ["RegistryLogin", "FindTasks", "DescribeImages"].contains(&allow.sid);
            assert!(!everywhere || may, "{name} is for every resource");
        }
    }
    let task =
        template.grants().iter().find(|grant| grant.role == "TaskRole").expect("it is in the template");
    assert!(task.allows.is_empty(), "tasks hold URLs and no rights");
    assert!(template.get("TaskRole").is_some_and(|role| role["Properties"].get("Policies").is_none()));
}

/// A checker, or `None` after a line that says what was skipped.
fn checker(name: &str) -> Option<PathBuf> {
    let variable = format!("PANGOLIN_{}", name.to_uppercase().replace('-', "_"));
    let places = [
        env::var_os(&variable).map(PathBuf::from),
        Some(root().join("target/tools/cfn-checks/bin").join(name)),
        Some(root().join("target/tools/checkers/bin").join(name)),
    ];
    let found = places.into_iter().flatten().find(|path| path.exists());
    if found.is_none() {
        let how = format!(
            "set {variable}, or: python3 -m venv target/tools/cfn-checks && target/tools/cfn-checks/bin/pip install cfn-lint==1.58.0 checkov==3.3.30"
        );
        let required = env::var("PANGOLIN_REQUIRE_EMULATORS").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not installed; {how}");
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("SKIPPED template against {name}: not installed; {how}");
        }
    }
    found
}

/// What is accepted: `checker`, `id`, `resources`, `why`.
fn accepted(checker: &str) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(root().join("infra/accepted-findings.json")).expect("the list is there");
    let all: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut accepted = BTreeSet::new();
    for entry in all["accepted"].as_array().expect("it has entries") {
        let id = entry["id"].as_str().expect("an entry has an id");
        assert!(
            entry["why"].as_str().is_some_and(|why| why.len() > 30),
            "{id} is accepted without explanation"
        );
        if entry["checker"] == checker {
            for resource in entry["resources"].as_array().expect("an entry names resources") {
                let resource = resource.as_str().expect("a name").to_owned();
                assert!(accepted.insert((id.to_owned(), resource.clone())), "{id} on {resource} twice");
            }
        }
    }
    accepted
}

fn compare(checker: &str, found: &BTreeSet<(String, String)>) {
    let accepted = accepted(checker);
    let unexplained: Vec<_> = found.difference(&accepted).collect();
    assert!(
        unexplained.is_empty(),
        "{checker} finds: {unexplained:?}; repair, or explain in infra/accepted-findings.json"
    );
    let unused: Vec<_> = accepted.difference(found).collect();
    assert!(unused.is_empty(), "accepted but not found by {checker}: {unused:?}; take it out");
}

/// The template as it is when there is code: checkov leaves out what is not there by default, and the functions are not.
fn with_code() -> String {
    let mut template = template::template().to_json();
    for parameter in ["CodeInbox", "CodeTick", "CodeTaskEvents"] {
        template["Parameters"][parameter]["Default"] = Value::from("code/example.zip");
    }
    template.to_string()
}

fn run(program: &Path, arguments: &[&str]) -> Value {
    let place = tempfile::tempdir().expect("a directory can be made");
    let file = place.path().join("template.json");
    fs::write(&file, with_code()).expect("it can be written");
    let output = Command::new(program)
        .args(arguments)
        .arg(&file)
        .current_dir(place.path())
        .env_remove("AWS_PROFILE")
        .output()
        .expect("the checker starts");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn cfn_lint_finds_nothing_unexplained() {
    let Some(program) = checker("cfn-lint") else { return };
    let answer = run(&program, &["--format", "json", "--template"]);
    let found = answer.as_array().expect("a list").iter().map(|finding| {
        let id = finding["Rule"]["Id"].as_str().unwrap_or_default().to_owned();
        let path = &finding["Location"]["Path"];
        (id, path[1].as_str().unwrap_or("(template)").to_owned())
    });
    compare("cfn-lint", &found.collect());
}

#[test]
fn checkov_finds_nothing_unexplained() {
    let Some(program) = checker("checkov") else { return };
    let arguments =
        ["--skip-download", "--quiet", "--compact", "--framework", "cloudformation", "-o", "json", "-f"];
    let answer = run(&program, &arguments);
    let passed = answer["summary"]["passed"].as_u64().unwrap_or_default();
    assert!(passed > 50, "checkov looked at {passed} things only: {answer}");
    let found = answer["results"]["failed_checks"].as_array().expect("a list").iter().map(|finding| {
        let resource = finding["resource"].as_str().unwrap_or_default();
        let resource = resource.rsplit_once('.').map_or(resource, |(_, id)| id);
        (finding["check_id"].as_str().unwrap_or_default().to_owned(), resource.to_owned())
    });
    compare("checkov", &found.collect());
}
