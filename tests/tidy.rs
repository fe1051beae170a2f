//! The rules of the code that a machine can check.
//!
//! Each rule is a function from a file to its offences, and each is shown to find one, so that none of them passes
//! by being blind. They read text and know no Rust: a rule is worth having here only if it can be told from lines.

use std::fs;
use std::path::{Path, PathBuf};

/// What a folder of `src` may name of the crate. `config` stands beside `wire`: it reads its durations with it and
/// gives it its limits.
const LAYERS: [(&str, &[&str]); 7] = [
    ("model", &[]),
    ("config", &["model", "wire"]),
    ("wire", &["config", "model"]),
    ("store", &["model"]),
    ("engine", &["config", "model", "store", "wire"]),
    ("shell", &["config", "engine", "model", "store", "wire", "worker"]),
    ("worker", &["config", "model", "wire"]),
];

/// Clocks, threads, sockets, files, environment, randomness, and maps whose order changes from run to run.
const IMPURE: [&str; 17] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::{",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "rand::",
    "nix::",
    "libc::",
    "zmq::",
    "rusqlite::",
];

/// The engine speaks of what the store is told and answers, never to a store.
const STORES: [&str; 4] = ["store::Store", "dyn Store", "MemoryStore", "SqliteStore"];

const UNFINISHED: [&str; 3] = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];

const SLEEPS: [&str; 5] = [
    concat!("thread::", "sleep"),
    concat!("time.", "sleep"),
    concat!("nano", "sleep"),
    concat!("setTime", "out("),
    concat!("Atomics.", "wait("),
];

const FILE_LINES_MAX: usize = 600;

/// A text file of the project.
struct File {
    /// Below the project's directory, with slashes.
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    fn is_program(&self) -> bool {
        self.is_rust() && (self.path.starts_with("src/") || self.path.starts_with("ctl/"))
    }

    /// The folder of `src` that it belongs to, be it `src/wire/mod.rs` or `src/wire.rs`.
    fn layer(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        let name = inner.split('/').next()?;
        Some(name.strip_suffix(".rs").unwrap_or(name))
    }

    /// Its lines with their numbers, without those that are comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().filter_map(|(at, line)| {
            let is_comment = line.trim_start().starts_with("//");
            (!is_comment).then_some((at + 1, line))
        })
    }

    /// One offence for each line of code that has one of `words`.
    fn lines_with(&self, words: &[&str]) -> Vec<String> {
        self.code()
            .filter_map(|(at, line)| {
                let word = words.iter().find(|word| line.contains(**word))?;
                Some(format!("{}:{at}: {word}", self.path))
            })
            .collect()
    }
}

#[test]
fn layers_name_only_what_is_below_them() {
    check(layer_offences);
    assert_caught(layer_offences, "src/wire/record.rs", "use crate::engine::Engine;\n");
    assert_caught(layer_offences, "src/model/job.rs", "use crate::{wire::record, model::Job};\n");
    assert_caught(
        layer_offences,
        "src/wire/job.rs",
        "use crate::{\n    model::Job,\n    store::Store,\n};\n",
    );
    assert_caught(layer_offences, "src/store.rs", "    let x = crate::shell::run();\n");
    assert_caught(layer_offences, "ctl/main.rs", "use pushpull::engine::Engine;\n");
}

#[test]
fn the_engine_is_pure() {
    check(purity_offences);
    assert_caught(purity_offences, "src/engine/mod.rs", "use std::time::Instant;\n");
    assert_caught(purity_offences, "src/engine/pool.rs", "use std::collections::HashMap;\n");
    assert_caught(purity_offences, "src/engine/pool.rs", "use crate::store::MemoryStore;\n");
}

#[test]
fn every_file_says_at_its_top_what_it_is_for() {
    check(header_offences);
    assert_caught(header_offences, "src/engine/mod.rs", "use std::time::Duration;\n");
    assert_caught(header_offences, "ctl/main.rs", "//!\n");
}

#[test]
fn no_file_is_longer_than_a_stranger_can_read() {
    check(length_offences);
    assert_caught(length_offences, "src/main.rs", &"\n".repeat(FILE_LINES_MAX + 1));
}

#[test]
fn nothing_is_left_open() {
    check(unfinished_offences);
    assert_caught(unfinished_offences, "ctl/main.rs", concat!("    todo", "!()\n"));
}

#[test]
fn no_test_sleeps() {
    check(sleep_offences);
    assert_caught(sleep_offences, "tests/e2e/main.rs", concat!("thread::", "sleep(moment);\n"));
    let inline = concat!("fn a() {}\n#[cfg(test)]\nmod tests {\n    std::thread::", "sleep(moment);\n}\n");
    assert_caught(sleep_offences, "src/main.rs", inline);
}

#[test]
fn no_line_ends_in_spaces() {
    check(space_offences);
    assert_caught(space_offences, "README.md", "a line \n");
    assert_caught(space_offences, "README.md", "no end of line");
}

#[test]
fn links_between_documents_lead_somewhere() {
    check(link_offences);
    assert_caught(link_offences, "README.md", "see [the manual](man/nothing.7).\n");
}

fn layer_offences(file: &File) -> Vec<String> {
    let (root, allowed): (&str, &[&str]) = match file.layer() {
        Some(name) => match LAYERS.iter().find(|(layer, _)| *layer == name) {
            Some((_, allowed)) => ("crate::", allowed),
            None => return Vec::new(),
        },
        None if file.path.starts_with("ctl/") => ("pushpull::", &["config", "model", "shell", "wire"]),
        None => return Vec::new(),
    };
    let code: Vec<&str> = file.code().map(|(_, line)| line).collect();
    named(&code.join("\n"), root)
        .into_iter()
        .filter(|name| LAYERS.iter().any(|(layer, _)| layer == name))
        .filter(|name| !allowed.contains(name) && Some(*name) != file.layer())
        .map(|name| format!("{}: {root}{name}", file.path))
        .collect()
}

/// The modules that code names directly below `root`: `crate::wire::x` and `crate::{wire::x, model}`.
fn named<'a>(code: &'a str, root: &str) -> Vec<&'a str> {
    let word = |text: &'a str| {
        let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        &text[..end]
    };
    let mut names = Vec::new();
    for (at, _) in code.match_indices(root) {
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let group = group.split(';').next().unwrap_or_default();
                names.extend(group.split([',', '{']).map(|item| word(item.trim_start())));
            }
            None => names.push(word(rest)),
        }
    }
    names
}

fn purity_offences(file: &File) -> Vec<String> {
    if file.layer() != Some("engine") {
        return Vec::new();
    }
    let mut offences = file.lines_with(&IMPURE);
    offences.extend(file.lines_with(&STORES));
    for (at, line) in file.code() {
        if line.contains("std::time") && !line.contains("std::time::Duration") {
            offences.push(format!("{}:{at}: of std::time, only Duration", file.path));
        }
    }
    offences
}

fn header_offences(file: &File) -> Vec<String> {
    if !file.is_program() {
        return Vec::new();
    }
    let first = file.text.lines().next().unwrap_or_default();
    let is_prose = first.strip_prefix("//! ").is_some_and(|prose| prose.len() > 10);
    let is_document = first.starts_with("#![doc = include_str!(");
    if is_prose || is_document { Vec::new() } else { vec![format!("{}:1: no //! header", file.path)] }
}

fn length_offences(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let is_long = file.is_program() && lines > FILE_LINES_MAX;
    if is_long { vec![format!("{}: {lines} lines", file.path)] } else { Vec::new() }
}

fn unfinished_offences(file: &File) -> Vec<String> {
    if file.is_rust() { file.lines_with(&UNFINISHED) } else { Vec::new() }
}

fn sleep_offences(file: &File) -> Vec<String> {
    if file.path.starts_with("tests/") {
        return file.lines_with(&SLEEPS);
    }
    match file.text.find("#[cfg(test)]\nmod ") {
        Some(at) if file.is_program() => File::new(&file.path, &file.text[at..]).lines_with(&SLEEPS),
        _ => Vec::new(),
    }
}

fn space_offences(file: &File) -> Vec<String> {
    let mut offences: Vec<String> = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(at, _)| format!("{}:{}: spaces at the end", file.path, at + 1))
        .collect();
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        offences.push(format!("{}: no end of line at the end", file.path));
    }
    offences
}

/// Links of Markdown files at the top to files beside them.
fn link_offences(file: &File) -> Vec<String> {
    let is_document = Path::new(&file.path).extension().is_some_and(|extension| extension == "md");
    if !is_document || file.path.contains('/') {
        return Vec::new();
    }
    let targets = file.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|target| !target.contains("://") && !target.is_empty() && !root().join(target).exists())
        .map(|target| format!("{}: {target} is not there", file.path))
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with all offences of all files.
fn check(rule: fn(&File) -> Vec<String>) {
    let mut files = Vec::new();
    collect(root(), &mut files);
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the project's files are not found");
    let offences: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

/// Fails if the rule finds nothing in a file that breaks it.
fn assert_caught(rule: fn(&File) -> Vec<String>, path: &str, text: &str) {
    assert!(!rule(&File::new(path, text)).is_empty(), "the rule is blind to {path}: {text}");
}

/// All text files below `directory`, but for what is built or is not ours.
fn collect(directory: &Path, files: &mut Vec<File>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .expect("the project's directories can be read")
        .map(|entry| entry.expect("a directory's entries can be read").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_symlink() || matches!(name, ".git" | "target" | "node_modules" | "corpus") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if let Some(text) = text_of(&path, name) {
            let below = path.strip_prefix(root()).expect("it was found below the root");
            files.push(File { path: below.display().to_string(), text });
        }
    }
}

/// The text of a file that people write.
fn text_of(path: &Path, name: &str) -> Option<String> {
    let kinds = ["rs", "toml", "md", "json", "py", "js", "sh", "1", "5", "7", "8", "txt", "service"];
    let kind = path.extension().and_then(|extension| extension.to_str());
    let is_ours = kind.is_some_and(|kind| kinds.contains(&kind)) || matches!(name, "run" | "LICENSE");
    if is_ours { fs::read_to_string(path).ok() } else { None }
}
