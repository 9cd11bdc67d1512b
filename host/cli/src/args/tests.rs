//! The whole command line as one snapshot: a change of any flag or sentence shows up in review.

use clap::CommandFactory as _;

use super::*;

fn reference(command: &mut Command, path: &str, out: &mut String) {
    let path = if path.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{path} {}", command.get_name())
    };
    out.push_str(&format!("## {path}\n\n{}\n\n", command.render_help().to_string().trim_end()));
    for verb in command.get_subcommands_mut().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
    {
        reference(verb, &path, out);
    }
}

// With AWS there are the verbs of the next test besides.
#[cfg(not(feature = "aws"))]
#[test]
fn the_command_line_is_this() {
    let mut command = Cli::command().term_width(110);
    command.debug_assert_and_build();
    let mut text = String::new();
    reference(&mut command, "", &mut text);
    insta::assert_snapshot!("cli-reference", text);
}

#[cfg(feature = "aws")]
#[test]
fn the_command_line_of_deploy_is_this() {
    let mut command = Cli::command().term_width(110);
    command.debug_assert_and_build();
    let mut text = String::new();
    let deploy = command.find_subcommand_mut("deploy").expect("it is there");
    reference(deploy, "pangolin", &mut text);
    // They are the same for every verb, and the other test has them.
    let own = text.split("\n\n").filter(|paragraph| !paragraph.starts_with("Global options:"));
    let text = own.collect::<Vec<_>>().join("\n\n");
    insta::assert_snapshot!("deploy-reference", text);
}

trait DebugAssert {
    fn debug_assert_and_build(&mut self);
}

impl DebugAssert for Command {
    fn debug_assert_and_build(&mut self) {
        self.clone().debug_assert();
        self.build();
    }
}

#[test]
fn targets_name_a_run_or_an_item_and_nothing_else() {
    let target: Target = "fanout-1/edit-alpha".parse().unwrap();
    assert_eq!(
        (target.run.as_str(), target.item.as_ref().map(|item| item.as_str())),
        ("fanout-1", Some("edit-alpha"))
    );
    assert_eq!("fanout-1".parse::<Target>().unwrap().item, None);
    for bad in ["", "/", "a/", "/b", "a/b/c", "../x"] {
        assert!(bad.parse::<Target>().is_err(), "{bad:?}");
    }
    assert!("fanout-1".parse::<ItemTarget>().unwrap_err().contains("fanout-1/<item>"));
}

#[test]
fn a_malformed_pair_is_not_repeated_in_the_message() {
    let parse = |text: &str| {
        PairParser.parse_ref(&Command::new("x"), None, OsStr::new(text)).map_err(|e| e.to_string())
    };
    for bad in ["s3cret", "=s3cret"] {
        assert!(!parse(bad).unwrap_err().contains("s3cret"));
    }
    assert_eq!(parse("A=b=c").unwrap().value, "b=c");
}
