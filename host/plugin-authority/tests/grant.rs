//! Effective grants: intersection, cuts, checks, fingerprints, widening.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use pangolin_plugin_authority::{
    Capability, CutBy, Grant, Manifest, OperatorPolicy, ProjectGrant, Request, SecretPlace, diagnose,
    effective, widening,
};
use proptest::prelude::*;

fn manifest(needs: &str) -> Manifest {
    let text = format!(
        "[plugin]\nid = 'acme/x'\nkind = 'block'\ncontract = '^1.0'\nversion = '1.0.0'\n[needs]\n{needs}\n"
    );
    Manifest::from_toml(&text).unwrap()
}

fn project(grant: &str) -> ProjectGrant {
    let value: serde_json::Value = toml::from_str(&format!("[grant]\n{grant}\n")).unwrap();
    ProjectGrant::from_value(&value, "plugins.\"acme/x\"", "/p/pangolin.toml").unwrap()
}

fn grant(rules: &str) -> Grant {
    let value: serde_json::Value = toml::from_str(rules).unwrap();
    serde_json::from_value(value).unwrap()
}

const SUITE: &str = "exec = [{ program = 'cargo', args = ['test', '**'], why = 'runs it' }]";

#[test]
fn the_project_narrows_and_the_cut_says_why() {
    let got = effective(
        &manifest(SUITE),
        &project(
            "exec = [{ program = 'cargo', args = ['test', '--lib'] }, { program = 'sh', args = ['**'] }]",
        ),
        &OperatorPolicy::default(),
    );
    got.grant.allows_exec("cargo", &["test", "--lib"]).unwrap();
    let denied = got.grant.allows_exec("cargo", &["test"]).unwrap_err();
    assert_eq!((denied.capability.as_str(), denied.subject.as_str()), ("exec", "cargo [\"test\"]"));
    assert!(denied.rule.contains("cargo test --lib"), "{denied}");
    assert_eq!(denied.line_to_add.as_deref(), Some("exec = [{ program = \"cargo\", args = [\"test\"] }]"));
    got.grant.allows_exec("sh", &["-c", "id"]).unwrap_err();
    let [cut] = &got.cuts[..] else { panic!("{:?}", got.cuts) };
    assert_eq!(
        (cut.capability, cut.by, cut.file.as_str()),
        (Capability::Exec, CutBy::Project, "/p/pangolin.toml")
    );
    assert_eq!(cut.left, ["cargo test --lib"]);
}

#[test]
fn absent_is_denied_at_every_layer() {
    let all = "exec = [{ program = 'cargo', args = ['test', '**'] }]";
    let none =
        effective(&manifest(SUITE), &ProjectGrant::absent("pangolin.toml"), &OperatorPolicy::default());
    assert!(none.grant.rules().is_empty());
    assert!(none.cuts[0].rule.contains("[plugins.\"acme/x\".grant] is missing"), "{:?}", none.cuts);
    let unasked = effective(&manifest(""), &project(all), &OperatorPolicy::default());
    assert!(unasked.grant.rules().is_empty() && unasked.cuts.is_empty());
    let strict = OperatorPolicy::parse("[allow]\nnet = [{ host = 'x.dev' }]", "/etc/p.toml").unwrap();
    let cut = effective(&manifest(SUITE), &project(all), &strict);
    assert!(cut.grant.rules().is_empty());
    assert_eq!((cut.cuts[0].by, cut.cuts[0].file.as_str()), (CutBy::Operator, "/etc/p.toml"));
    let lax = OperatorPolicy::parse("allow = 'project'", "/etc/p.toml").unwrap();
    assert!(effective(&manifest(SUITE), &project(all), &lax).cuts.is_empty());
    assert!(
        OperatorPolicy::parse("ids = ['acme/*']", "/etc/p.toml").unwrap_err().to_string().contains("allow")
    );
}

#[test]
fn an_intersection_that_no_rule_can_say_is_cut_and_never_rounded_up() {
    let asked = manifest("read = [{ path = 'workspace/*/a', why = 'w' }]");
    let got = effective(&asked, &project("read = ['workspace/b/*']"), &OperatorPolicy::default());
    assert!(got.grant.rules().is_empty());
    assert!(got.cuts[0].rule.contains("neither contains the other"), "{:?}", got.cuts);
}

#[test]
fn hosts_methods_ports_and_schemes_are_intersected() {
    let asked = manifest("net = [{ host = '*.acme.dev', methods = ['GET', 'POST'], why = 'w' }]");
    let got = effective(
        &asked,
        &project("net = [{ host = 'api.acme.dev', methods = ['GET', 'PUT'] }]"),
        &OperatorPolicy::default(),
    );
    got.grant.allows_net("api.acme.dev", 443, "https", "GET").unwrap();
    for (host, port, scheme, method) in [
        ("acme.dev", 443, "https", "GET"),
        ("x.acme.dev", 443, "https", "GET"),
        ("api.acme.dev.evil.com", 443, "https", "GET"),
        ("evil-api.acme.dev", 443, "https", "GET"),
        ("api.acme.dev.", 443, "https", "GET"),
        ("API.acme.dev", 443, "https", "GET"),
        ("api.acme.dev", 80, "http", "GET"),
        ("api.acme.dev", 8443, "https", "GET"),
        ("api.acme.dev", 443, "http", "GET"),
        ("api.acme.dev", 443, "https", "POST"),
        ("api.acme.dev", 443, "https", "PUT"),
        ("*.acme.dev", 443, "https", "GET"),
        ("", 443, "https", "GET"),
    ] {
        assert!(
            got.grant.allows_net(host, port, scheme, method).is_err(),
            "{method} {scheme}://{host}:{port}"
        );
    }
    let below = grant("net = [{ host = '*.acme.dev' }]");
    below.allows_net("a.b.acme.dev", 443, "https", "GET").unwrap();
    below.allows_net("acme.dev", 443, "https", "GET").unwrap_err();
    below.allows_net("xacme.dev", 443, "https", "GET").unwrap_err();
    below.allows_net(".acme.dev", 443, "https", "GET").unwrap_err();
}

#[test]
fn paths_cannot_escape_their_rule() {
    let grant = grant("read = ['workspace/src/**', 'changes.json']\nwrite = ['reports/*.json']");
    for path in
        ["workspace/src/a", "workspace/src/a/b.rs", "changes.json", "workspace/src/ü", "workspace/src/.git"]
    {
        grant.allows_read(path).unwrap();
    }
    for path in [
        "workspace/src/../secret",
        "workspace/src/..",
        "/workspace/src/a",
        "workspace//src/a",
        "workspace/src/./a",
        "workspace/src/",
        "workspace/srcx/a",
        "changes.json/x",
        "",
        "..",
        "workspace/src/a\0b",
        "workspace\\src\\a",
        "./changes.json",
        "Workspace/src/a",
    ] {
        let denied = grant.allows_read(path).unwrap_err();
        assert_eq!(denied.capability, "read");
    }
    grant.allows_write("reports/a.json").unwrap();
    for path in ["reports/a/b.json", "reports/a.json.sh", "reports", "a.json"] {
        grant.allows_write(path).unwrap_err();
    }
    assert_eq!(grant.allows_write("../x").unwrap_err().line_to_add, None);
}

#[test]
fn secrets_reach_one_place_for_one_receiver() {
    let grant = grant(
        "secret = [{ name = 'T', place = 'header:Authorization', to = 'api.acme.dev' }, { name = 'E', place = 'env:GH_TOKEN', to = 'gh' }]",
    );
    let header = |name: &str| SecretPlace::Header(name.to_owned());
    grant.allows_secret("T", &header("authorization"), "api.acme.dev").unwrap();
    grant.allows_secret("E", &SecretPlace::Env("GH_TOKEN".into()), "gh").unwrap();
    grant.allows_secret("T", &header("X-Other"), "api.acme.dev").unwrap_err();
    grant.allows_secret("T", &header("Authorization"), "evil.dev").unwrap_err();
    grant.allows_secret("T", &SecretPlace::Env("GH_TOKEN".into()), "gh").unwrap_err();
    grant.allows_secret("E", &SecretPlace::Env("gh_token".into()), "gh").unwrap_err();
    grant.allows_secret("E", &SecretPlace::Env("GH_TOKEN".into()), "sh").unwrap_err();
}

#[test]
fn the_fingerprint_is_of_the_authority_not_of_its_spelling() {
    let one = grant(
        "read = ['a/**', 'b']\nexec = [{ program = 'x', args = ['1'] }, { program = 'x', args = ['**'] }]",
    );
    let same = grant("exec = [{ program = 'x', args = ['**'] }]\nread = ['b', 'a/**', 'a/c', 'b']");
    assert_eq!(one.fingerprint(), same.fingerprint());
    assert_ne!(one.fingerprint(), grant("read = ['a/**']").fingerprint());
    // Pinned: a change of the form would silently make every approved plugin inert.
    assert_eq!(
        Grant::default().fingerprint().to_string(),
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
    let text = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<Grant>(&text).unwrap(), one);
}

#[test]
fn widening_names_what_is_new() {
    let old = grant("read = ['a/**']\nlimits = { memoryBytes = 100 }");
    assert!(widening(&old, &grant("read = ['a/b']\nlimits = { memoryBytes = 99 }")).is_covered());
    let wider =
        widening(&old, &grant("read = ['**']\nexec = [{ program = 'sh' }]\nlimits = { memoryBytes = 101 }"));
    let what: Vec<&str> = wider.wider.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(what, ["exec", "read", "limits"]);
    // Without a word about it the host's default applies, which is not less.
    assert!(!widening(&old, &grant("read = ['a/**']")).is_covered());
}

#[test]
fn the_diagnosis_names_the_first_layer_that_says_no() {
    let asked = manifest(SUITE);
    let request = |args: &[&str]| Request::Exec {
        program: "cargo".into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
    };
    let strict =
        OperatorPolicy::parse("[allow]\nexec = [{ program = 'cargo', args = ['test', '--lib'] }]", "/etc/p")
            .unwrap();
    let some = project("exec = [{ program = 'cargo', args = ['test', '*'] }]");
    let by = |project: &ProjectGrant, operator: &OperatorPolicy, args: &[&str]| {
        let diagnosis = diagnose(&asked, project, operator, &request(args));
        (diagnosis.by, diagnosis.line_to_add)
    };
    assert_eq!(by(&some, &strict, &["fmt"]).0, Some("manifest"));
    assert_eq!(by(&ProjectGrant::absent("p"), &strict, &["test"]).0, Some("project"));
    let (who, line) = by(&some, &strict, &["test", "--doc"]);
    assert_eq!(
        (who, line.as_deref()),
        (Some("operator"), Some("exec = [{ program = \"cargo\", args = [\"test\", \"--doc\"] }]"))
    );
    assert_eq!(by(&some, &strict, &["test", "--lib"]), (None, None));
    assert_eq!(by(&some, &OperatorPolicy::default(), &["test", "*"]), (None, None));
    assert_eq!(
        by(&project("read = ['x']"), &strict, &["test", "a*b"]),
        (Some("project"), None),
        "no rule can say a*b"
    );
}

#[test]
fn a_denied_listing_is_diagnosed_as_everything_below_it() {
    let asked = manifest("read = [{ path = 'workspace/**', why = 'reads' }]");
    let by = |rules: &str, subject: &str| {
        let request = Request::parse("read", subject).unwrap();
        let diagnosis = diagnose(&asked, &project(rules), &OperatorPolicy::default(), &request);
        (diagnosis.by, diagnosis.line_to_add)
    };
    let line = Some("read = [\"workspace/src/**\"]".to_owned());
    assert_eq!(by("read = ['workspace/docs/**']", "workspace/src/**"), (Some("project"), line.clone()));
    // Files right in it are not everything below it.
    assert_eq!(by("read = ['workspace/src/*']", "workspace/src/**"), (Some("project"), line));
    assert_eq!(by("read = ['workspace/**']", "workspace/src/**"), (None, None));
    // What it never asked for.
    assert_eq!(by("read = ['**']", "**").0, Some("manifest"));
    // Any other star is one of a name, and no rule can say that.
    assert_eq!(by("read = ['x']", "workspace/a*b"), (Some("project"), None));
    assert_eq!(by("read = ['x']", "workspace/a*b/**"), (Some("project"), None));
}

#[test]
fn denials_can_be_read_back() {
    for request in [
        Request::Exec { program: "a".into(), args: vec!["b c".into(), "\"".into()] },
        Request::Net { host: "[::1]".into(), port: 1, scheme: "http".into(), method: "GET".into() },
        Request::Secret { name: "N".into(), place: SecretPlace::Env("V".into()), to: "p".into() },
        Request::Read { path: "a b".into() },
        Request::Write { path: "x".into() },
    ] {
        assert_eq!(
            Request::parse(request.capability().as_str(), &request.to_string()).as_ref(),
            Some(&request)
        );
    }
    assert_eq!(Request::parse("gpu", "x"), None);
}

/// A second, slow and obvious matcher: by trying every way to split.
fn slow(pattern: &[&str], text: &[&str]) -> bool {
    fn token(pattern: &[char], text: &[char]) -> bool {
        match pattern.first() {
            None => text.is_empty(),
            Some('*') => (0..=text.len()).any(|n| token(&pattern[1..], &text[n..])),
            Some(c) => text.first() == Some(c) && token(&pattern[1..], &text[1..]),
        }
    }
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    match pattern.first() {
        None => text.is_empty(),
        Some(&"**") => (0..=text.len()).any(|n| slow(&pattern[1..], &text[n..])),
        Some(one) => {
            text.first().is_some_and(|t| token(&chars(one), &chars(t))) && slow(&pattern[1..], &text[1..])
        }
    }
}

fn tokens() -> impl Strategy<Value = Vec<String>> {
    let token = prop_oneof![Just("**".to_owned()), "[ab]{1,3}", "[ab]{0,2}[*][ab]{0,2}", "[*]a[*]"];
    proptest::collection::vec(token, 1..5)
}

fn args() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[ab]{1,4}", 0..5)
}

fn exec(args: &[String]) -> String {
    format!("exec = [{{ program = 'p', args = {} }}]", serde_json::to_string(args).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn matching_agrees_with_the_slow_matcher(pattern in tokens(), text in args()) {
        let parts: Vec<&str> = pattern.iter().map(String::as_str).collect();
        let text: Vec<&str> = text.iter().map(String::as_str).collect();
        prop_assert_eq!(grant(&exec(&pattern)).allows_exec("p", &text).is_ok(), slow(&parts, &text));
    }

    #[test]
    fn an_effective_grant_allows_nothing_that_a_layer_denies(
        asked in tokens(), granted in tokens(), allowed in tokens(), text in args()
    ) {
        let need = format!("exec = [{{ program = 'p', args = {}, why = 'w' }}]", serde_json::to_string(&asked).unwrap());
        let operator = OperatorPolicy::parse(&format!("[allow]\n{}", exec(&allowed)), "o").unwrap();
        let got = effective(&manifest(&need), &project(&exec(&granted)), &operator).grant;
        if got.allows_exec("p", &text).is_ok() {
            for layer in [&asked, &granted, &allowed] {
                prop_assert!(grant(&exec(layer)).allows_exec("p", &text).is_ok());
            }
        }
    }

    #[test]
    fn what_widening_calls_covered_is_covered(old in tokens(), new in tokens(), text in args()) {
        let (old, new) = (grant(&exec(&old)), grant(&exec(&new)));
        if widening(&old, &new).is_covered() && new.allows_exec("p", &text).is_ok() {
            prop_assert!(old.allows_exec("p", &text).is_ok());
        }
    }

    #[test]
    fn paths_match_like_arguments(pattern in tokens(), text in proptest::collection::vec("[ab]{1,4}", 1..20)) {
        let rule = format!("read = [{}]", serde_json::to_string(&pattern.join("/")).unwrap());
        let parts: Vec<&str> = pattern.iter().map(String::as_str).collect();
        let segments: Vec<&str> = text.iter().map(String::as_str).collect();
        prop_assert_eq!(grant(&rule).allows_read(&text.join("/")).is_ok(), slow(&parts, &segments));
    }
}
