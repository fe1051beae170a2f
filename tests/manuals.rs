//! The manuals name what the programs have, and nothing else.
//!
//! What the programs have is read from their `--help` and from the tables in the source, so a new option, verb,
//! setting or operation fails here until its manual knows it, and one that is gone until its manual has forgotten
//! it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn pushpulld_and_its_manual_have_the_same_options() {
    let help = help(env!("CARGO_BIN_EXE_pushpulld"), &[]);
    assert_same("pushpulld.8", &long_options(&help), &documented_options(&manual("pushpulld.8")));
}

#[test]
fn pushpullctl_and_its_manual_have_the_same_verbs_and_options() {
    let program = env!("CARGO_BIN_EXE_pushpullctl");
    let top = help(program, &[]);
    let verbs = verbs(&top);
    let page = manual("pushpullctl.1");
    assert_same("pushpullctl.1", &verbs, &documented_verbs(&page));

    let mut options = long_options(&top);
    for verb in &verbs {
        options.extend(long_options(&help(program, &[verb])));
    }
    options.remove("version");
    assert_same("pushpullctl.1", &options, &documented_options(&page));
}

#[test]
fn settings_and_their_manual_have_the_same_keys() {
    let source = text_of("src/config/parse.rs");
    let mut keys = words_of_table(&source, "DAEMON_KEYS");
    keys.extend(words_of_table(&source, "POOL_KEYS"));
    keys.remove("pools");
    let page = manual("pushpulld.toml.5");
    assert_same("pushpulld.toml.5", &keys, &items(section(&page, "SETTINGS"), ".It Ic "));
}

#[test]
fn operations_and_their_manual_have_the_same_names() {
    let operations = words_of_table(&text_of("src/wire/request.rs"), "OPERATIONS");
    let page = manual("pushpull-control.7");
    let documented = items(section(&page, "OPERATIONS"), ".It Cm ");
    assert_same("pushpull-control.7", &operations, &documented);
}

#[test]
fn manuals_refer_to_manuals_that_are_there() {
    let foreign = ["systemd 1", "systemd-journald 8", "jq 1"];
    for path in pages() {
        let page = fs::read_to_string(&path).expect("a manual is text");
        for line in page.lines().filter_map(|line| line.strip_prefix(".Xr ")) {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, number, ..] = words[..] else {
                panic!("{}: .Xr {line} has no section", path.display());
            };
            let is_ours = root().join("man").join(format!("{name}.{number}")).exists();
            assert!(
                is_ours || foreign.contains(&format!("{name} {number}").as_str()),
                "{}: there is no {name}({number})",
                path.display()
            );
        }
    }
}

#[test]
#[ignore = "needs mandoc"]
fn manuals_are_well_formed() {
    let output = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(pages())
        .output()
        .expect("mandoc is installed where ignored tests are run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What `--help` of a program, or of one of its verbs, prints.
fn help(program: &str, verb: &[&str]) -> String {
    let output = Command::new(program).args(verb).arg("--help").output().expect("the program starts");
    assert!(output.status.success(), "{program} {verb:?} --help: {}", output.status);
    String::from_utf8(output.stdout).expect("help is text")
}

/// `--name` where a help text lists options: at the start of a line, alone or after `-n, `.
fn long_options(help: &str) -> BTreeSet<String> {
    help.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split("--").nth(1))
        .map(|rest| name_at_start(rest).to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// `.Fl -name` anywhere in a manual; `.Fl -` alone is the end of the options.
fn documented_options(page: &str) -> BTreeSet<String> {
    page.split("Fl -")
        .skip(1)
        .map(|rest| name_at_start(rest).to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The verbs in a help text: each stands on a line of its own, indented by two spaces and followed by as many.
fn verbs(help: &str) -> BTreeSet<String> {
    let list = help.split("\nOptions:").next().unwrap_or_default();
    list.lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with([' ', '-'])))
        .filter_map(|line| line.split_once("  ").map(|(verb, _)| verb.to_owned()))
        .filter(|verb| verb != "help")
        .collect()
}

/// The verbs that have a paragraph: `.It Cm verb` or `.It Xo Cm verb`.
fn documented_verbs(page: &str) -> BTreeSet<String> {
    let verbs = page.split(".Sh SUBMITTING\n").nth(1).and_then(|rest| rest.split(".Sh SELECTIONS\n").next());
    let verbs = verbs.expect("the manual has its sections of verbs");
    verbs
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm ").or(line.strip_prefix(".It Xo Cm ")))
        .map(|rest| name_at_start(rest).to_owned())
        .collect()
}

/// The sections whose names begin with `name`.
fn section<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let sections: Vec<&str> = page.split("\n.Sh ").filter(|section| section.starts_with(name)).collect();
    assert!(!sections.is_empty(), "the manual has no section {name}");
    sections
}

/// What is listed in these sections: every word of a line that begins with `begin`, up to a macro or a parenthesis.
fn items(sections: Vec<&str>, begin: &str) -> BTreeSet<String> {
    let lines = sections.into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix(begin));
    lines
        .flat_map(|line| line.split(' ').take_while(|word| !matches!(*word, "Pq" | "Po")))
        .filter(|word| *word != ",")
        .map(str::to_owned)
        .collect()
}

/// The strings of the array constant `name` in Rust source.
fn words_of_table(source: &str, name: &str) -> BTreeSet<String> {
    let table = source.split(&format!("const {name}: ")).nth(1).expect("the table is there");
    let array = table.split("= [").nth(1).and_then(|rest| rest.split(']').next()).expect("it is an array");
    array.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn name_at_start(text: &str) -> &str {
    let end = text.find(|c: char| c != '-' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    &text[..end]
}

fn assert_same(page: &str, real: &BTreeSet<String>, documented: &BTreeSet<String>) {
    assert!(!real.is_empty(), "nothing to compare {page} with");
    let missing: Vec<_> = real.difference(documented).collect();
    let stale: Vec<_> = documented.difference(real).collect();
    assert!(missing.is_empty() && stale.is_empty(), "{page} lacks {missing:?} and still has {stale:?}");
}

fn manual(name: &str) -> String {
    text_of(&format!("man/{name}"))
}

fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("man")).expect("the manuals are there");
    entries.map(|entry| entry.expect("the directory can be read").path()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
