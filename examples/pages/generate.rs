//! Man pages out of the clap structs: names, synopsis, options and exit codes are the program's own, what a person adds
//! (`man/parts/VERB.man`, sections in roff) follows them.
//!
//! Guarantees: the same tree gives the same bytes; every verb that `pitr --help` lists has a page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use pitr::cli::Cli;

use super::completions;

/// Pages that are written by hand and stand in `man/` already.
const BY_HAND: [&str; 2] = ["pitr.toml(5)", "pitr-checks(5)"];
/// How clap_mangen writes an apostrophe that typesetters leave alone.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";
const MANUAL: &str = "System Administration";

/// Every generated file: its path from the top of the tree, and its text. `top` is where the hand-written parts are.
pub fn files(top: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = BTreeMap::new();
    let names = names(&command);
    add(&command, &names, top, &mut pages)?;
    pages.extend(completions::files()?);
    Ok(pages)
}

/// `pitr(8)`, `pitr-restore(8)` …, in the order of the help.
fn names(command: &Command) -> Vec<String> {
    let below = command.get_subcommands().filter(|verb| !verb.is_hide_set()).flat_map(names);
    std::iter::once(format!("{}(8)", page_name(command))).chain(below).collect()
}

fn page_name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_string()
}

fn add(command: &Command, names: &[String], top: &Path, pages: &mut BTreeMap<PathBuf, String>) -> io::Result<()> {
    pages.insert(format!("man/{}.8", page_name(command)).into(), page(command, names, top)?);
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        add(verb, names, top, pages)?;
    }
    Ok(())
}

fn page(command: &Command, names: &[String], top: &Path) -> io::Result<String> {
    let name = page_name(command);
    let man = Man::new(command.clone()).section("8");
    let mut bytes = Vec::new();
    man.render_name_section(&mut bytes)?;
    man.render_synopsis_section(&mut bytes)?;
    man.render_description_section(&mut bytes)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut bytes)?;
    }
    man.render_options_section(&mut bytes)?;
    // Each of clap_mangen's sections defines the apostrophe anew, and an empty line between two breaks is one too many.
    let (title, date) = (escape(&name.to_uppercase()), released(top)?);
    let title = format!("{APOSTROPHE}.TH {title} 8 \"{date}\" \"pitr {}\" \"{MANUAL}\"\n", env!("CARGO_PKG_VERSION"));
    let sections = String::from_utf8_lossy(&bytes).replace(APOSTROPHE, "").replace(".br\n\n.br\n", ".sp\n");
    let mut text = title + &subsections(command, &sections).replace(".SH Verbs", ".SH VERBS");
    if let Some(after) = command.get_after_help() {
        let after = after.to_string();
        text += &examples(&after);
        text += &exit_status(&after);
    }
    text += &part(&top.join("man/parts").join(format!("{name}.man")))?;
    if command.get_after_help().is_none() {
        text += ".SH EXIT STATUS\nAs every verb; see\n.BR pitr (8).\n";
    }
    text += &see_also(&name, names);
    Ok(text)
}

/// Headings of options as they are in the help, below OPTIONS. clap_mangen makes sections in capitals of them.
fn subsections(command: &Command, page: &str) -> String {
    let headings: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_help_heading()).collect();
    let mut text = String::new();
    for line in page.lines() {
        let heading = line.strip_prefix(".SH ").map(|words| words.trim_matches('"'));
        match heading.and_then(|capitals| headings.iter().find(|h| escape(&h.to_uppercase()) == capitals || h.to_uppercase() == capitals)) {
            Some(heading) => {
                let _ = writeln!(text, ".SS \"{}\"", escape(heading));
            }
            None => {
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
    }
    text
}

/// The day of the newest entry of the packages' changelog.
fn released(top: &Path) -> io::Result<String> {
    let changelog = std::fs::read_to_string(top.join("packaging/changelog.yml"))?;
    let date = changelog.lines().find_map(|line| line.trim().strip_prefix("date: ")?.split('T').next().map(str::to_string));
    date.ok_or_else(|| io::Error::other("packaging/changelog.yml has no date"))
}

/// The lines of the help below `heading`, up to the next empty one.
fn block<'a>(after_help: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    let heading = heading.to_string();
    after_help.lines().skip_while(move |line| *line != heading).skip(1).take_while(|line| !line.is_empty())
}

/// `  command` and below it `      what it does`.
fn examples(after_help: &str) -> String {
    let mut text = String::from(".SH EXAMPLES\n");
    for line in block(after_help, "Examples:") {
        let words = escape(line.trim());
        let _ = if line.starts_with("      ") { writeln!(text, "{words}.") } else { writeln!(text, ".TP\n.B {words}") };
    }
    text
}

/// `  0    words`.
fn exit_status(after_help: &str) -> String {
    let mut text = String::from(".SH EXIT STATUS\n");
    for line in block(after_help, "Exit status:") {
        if let Some((code, words)) = line.trim().split_once(' ') {
            let _ = writeln!(text, ".TP\n.B {code}\n{}.", escape(words.trim()));
        }
    }
    text
}

fn part(file: &Path) -> io::Result<String> {
    match std::fs::read_to_string(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text,
    }
}

fn see_also(name: &str, names: &[String]) -> String {
    let others: Vec<&str> = names.iter().map(String::as_str).chain(BY_HAND).collect();
    let others = others.into_iter().filter(|other| *other != format!("{name}(8)"));
    let lines: Vec<String> = others.map(|other| other.replace('(', " (").replace('-', "\\-")).map(|other| format!(".BR {other}")).collect();
    format!(".SH SEE ALSO\n{}\n", lines.join(",\n"))
}

/// Plain words as roff reads them.
fn escape(words: &str) -> String {
    let words = words.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    if words.starts_with('.') { format!("\\&{words}") } else { words }
}
