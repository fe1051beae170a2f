//! The command line: options that every verb has, the verbs in groups, and what is said about a wrong one.

use crate::screen::say;
use crate::verbs::{GROUPS, Verb};
use clap::builder::StyledStr;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Submits jobs to pushpulld, shows what becomes of them, and tells the daemon what to do.
#[derive(Parser)]
#[command(
    name = "pushpullctl",
    version,
    disable_help_subcommand = true,
    help_template = "{about}\n\n{usage-heading} {usage}\n{before-help}{options}{after-help}",
    before_help = verbs_by_group(),
    after_help = AFTER_HELP,
    subcommand_required = true,
)]
pub struct Cli {
    /// Prints JSON for programs: one document, or a line for each thing of many.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,
    /// Looks for the daemon's sockets in this directory.
    #[arg(long, global = true, value_name = "DIR", help_heading = EVERYWHERE)]
    pub runtime_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Verb,
}

/// The heading of what every verb has.
const EVERYWHERE: &str = "With every verb";

const AFTER_HELP: &str = "\
SELECT is one or more of 17, 3-9, 3,5, @3 (a batch), @NAME (the newest of that name), @last (the newest batch), all.

Exit status: 0 done; 1 a job that was waited for failed; 2 usage or a bad file; 3 no daemon; 4 not found; 5 refused; 6 an I/O error or a bug; 124 wait ran out of time; 130, 143 interrupted.";

/// The verbs under their headings, each with the first sentence of its help.
fn verbs_by_group() -> StyledStr {
    let root = Verb::augment_subcommands(clap::Command::new("pushpullctl"));
    let mut text = String::new();
    for (heading, verbs) in GROUPS {
        write!(text, "\n{heading}:\n").expect("a String takes every write");
        for verb in *verbs {
            let about = root.find_subcommand(verb).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            writeln!(text, "  {verb:<12} {about}").expect("a String takes every write");
        }
    }
    StyledStr::from(text)
}

/// Prints what clap has to say, be it help or an error; the exit status.
pub fn explain(error: &clap::Error) -> u8 {
    let options = std::env::args_os().skip(1).take_while(|word| word != "--");
    let wants_json = options.into_iter().any(|word| word == "--json");
    if error.use_stderr() && wants_json {
        say(&usage_json(error));
    } else {
        // Nobody is left to be told that this failed.
        let _ = error.print();
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ => 2,
    }
}

fn usage_json(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|paragraph| paragraph.trim().replace("\n  ", " "));
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let hint: Vec<String> = paragraphs.collect();
    json!({"error": {"code": "usage", "message": message, "hint": hint.join(". ")}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"pushpullctl").chain(words))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_stands_in_one_group_and_has_a_sentence() {
        let root = Verb::augment_subcommands(clap::Command::new("x"));
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        let mut known: Vec<&str> = root.get_subcommands().map(clap::Command::get_name).collect();
        grouped.sort_unstable();
        known.sort_unstable();
        assert_eq!(grouped, known);
        for verb in root.get_subcommands() {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.starts_with(char::is_uppercase), "{}: {about:?}", verb.get_name());
            for option in verb.get_arguments() {
                let help = option.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with(char::is_uppercase), "{} {}", verb.get_name(), option.get_id());
            }
        }
    }

    #[test]
    fn the_common_options_stand_anywhere_before_the_command() {
        let cli = parse(&["status", "--json", "--runtime-dir", "/x"]).expect("good words");
        assert!(cli.json);
        assert_eq!(cli.runtime_dir, Some(PathBuf::from("/x")));
        assert!(!parse(&["add", "--", "grep", "--json"]).expect("good words").json);
    }

    #[test]
    fn a_mistyped_verb_is_answered_with_the_nearest() {
        let error = parse(&["statsu"]).err().expect("no verb");
        assert!(error.to_string().contains("'status'"), "{error}");
        let json: serde_json::Value = serde_json::from_str(&usage_json(&error)).expect("JSON");
        assert_eq!(json["error"]["code"], "usage");
        assert!(json["error"]["message"].as_str().expect("text").contains("statsu"));
    }

    #[test]
    fn wrong_values_are_usage_errors() {
        for words in [
            &["add", "--priority", "1001", "--", "x"][..],
            &["add", "--timeout", "5x", "--", "x"],
            &["add", "--pool", "No", "--", "x"],
            &["add"],
            &["add", "--data", "1", "--", "x"],
            &["submit"],
            &["submit", "f", "--raw", "--lines"],
            &["frobnicate"],
            &[],
        ] {
            let error = parse(words).err().unwrap_or_else(|| panic!("{words:?}"));
            assert!(error.use_stderr(), "{words:?}");
        }
        assert!(parse(&["add", "--priority", "-1000", "--", "x"]).is_ok());
    }
}
