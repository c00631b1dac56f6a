//! Completions for bash, zsh and fish: clap_complete's for verbs and flags, ours (`parts/known.*`) for what only the host
//! knows: names of clusters and backups, ids of runs.
//!
//! Guarantees: hidden verbs are not offered; a verb that takes `RUN` completes runs, one that takes `--backup` backups,
//! whatever it is called.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};
use clap_complete::{Shell, generate};
use pitr::cli::Cli;

/// The three files, by path from the top of the tree.
pub fn files() -> io::Result<BTreeMap<PathBuf, String>> {
    let command = visible(&Cli::command());
    let runs = verbs_with(&command, is_run);
    let backups = verbs_with(&command, |argument| argument.get_long() == Some("backup"));
    let bash = format!("{}{}", bash(&command), include_str!("parts/known.bash").replace("@RUN_VERBS@", &runs.join(" | ")));
    let fish = include_str!("parts/known.fish").replace("@RUN_VERBS@", &runs.join(" ")).replace("@BACKUP_VERBS@", &backups.join(" "));
    let fish = format!("{}{fish}", made(Shell::Fish, &command));
    let files = [("pitr.bash", bash), ("_pitr", zsh(&command)?), ("pitr.fish", fish)];
    Ok(files.into_iter().map(|(name, text)| (format!("packaging/completions/{name}").into(), text)).collect())
}

/// The command without its hidden verbs, which clap_complete would offer.
fn visible(command: &Command) -> Command {
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(visible);
    if command.get_subcommands().all(|verb| !verb.is_hide_set()) {
        return command.clone().disable_help_subcommand(true);
    }
    let about = command.get_about().cloned().unwrap_or_default();
    let bare = Command::new("pitr").about(about).version(env!("CARGO_PKG_VERSION")).args(command.get_arguments().cloned());
    bare.disable_help_subcommand(true).subcommands(verbs)
}

fn is_run(argument: &Arg) -> bool {
    argument.is_positional() && argument.get_value_names().is_some_and(|names| names.iter().any(|name| name == "RUN"))
}

fn verbs_with(command: &Command, has: fn(&Arg) -> bool) -> Vec<String> {
    command.get_subcommands().filter(|verb| verb.get_arguments().any(has)).map(|verb| verb.get_name().to_string()).collect()
}

fn made(shell: Shell, command: &Command) -> String {
    let mut bytes = Vec::new();
    generate(shell, &mut command.clone(), "pitr", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Without the registration at its end: ours wraps the function.
fn bash(command: &Command) -> String {
    let text = made(Shell::Bash, command);
    let end = text.rfind("\nif [[ \"${BASH_VERSINFO[0]}\"").unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).to_string()
}

/// The actions of three arguments are ours; our functions stand before the dispatch at the end.
fn zsh(command: &Command) -> io::Result<String> {
    let mut text = String::new();
    for line in made(Shell::Zsh, command).lines() {
        let action = if line.starts_with("'--cluster=") {
            "_pitr_clusters"
        } else if line.starts_with("'--backup=") {
            "_pitr_backups"
        } else if line.starts_with("'::run -- ") || line.starts_with("':run -- ") {
            "_pitr_runs"
        } else {
            "_default"
        };
        text += &line.replace(":_default'", &format!(":{action}'"));
        text.push('\n');
    }
    let Some(end) = text.rfind("\nif [ \"$funcstack[1]\"") else {
        return Err(io::Error::other("clap_complete's file for zsh ends in another way"));
    };
    text.insert_str(end, include_str!("parts/known.zsh"));
    Ok(text)
}
