//! Flags as a person would type them again: for the command that a plan ends with.

use std::path::PathBuf;

use super::Global;
use super::act::{ConfigFrom, SourceFlags};
use crate::plan::target::{TimelineRequest, shell_word};

impl SourceFlags {
    /// What was typed besides the target and decides what is done, each after a space.
    pub fn typed(&self, global: &Global) -> String {
        let mut text = String::new();
        let mut add = |flag: &str, value: &str| {
            // A value that looks like a flag has to hang on its own.
            let separator = if value.starts_with('-') { '=' } else { ' ' };
            text += &format!(" {flag}{separator}{}", shell_word(value));
        };
        let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        if self.timeline != TimelineRequest::Current {
            add("--timeline", &self.timeline.to_string());
        }
        self.as_cluster.iter().for_each(|name| add("--as", name));
        self.backup.iter().for_each(|name| add("--backup", name));
        paths(&self.places.backups).iter().for_each(|path| add("--backups", path));
        paths(&self.places.wal).iter().for_each(|path| add("--wal", path));
        self.tablespaces.iter().for_each(|(oid, place)| add("--tablespace", &format!("{oid}={}", place.display())));
        self.accept.iter().for_each(|id| add("--accept", id));
        if self.config_from == ConfigFrom::Backup {
            add("--config-from", "backup");
        }
        paths(&self.checks).iter().for_each(|path| add("--checks", path));
        self.migrations.tool.iter().for_each(|tool| add("--tool", tool));
        self.migrations.history_table.iter().for_each(|table| add("--history-table", table));
        self.migrations.dir.iter().for_each(|path| add("--dir", &path.display().to_string()));
        self.dump_before.iter().for_each(|path| add("--dump-before", &path.display().to_string()));
        self.dump_database.iter().for_each(|name| add("--dump-database", name));
        self.reason.iter().for_each(|reason| add("--reason", reason));
        global.config.iter().for_each(|path| add("--config", &path.display().to_string()));
        global.cluster.iter().for_each(|name| add("--cluster", name));
        text
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Verb};

    #[test]
    fn the_command_of_a_plan_has_every_flag_that_decides_it() {
        let line = " --timeline 3 --as 16-main --backup base-1.tar.gz --backups /b --wal /w --wal /v --tablespace 16384=/ts --accept no-manifest --config-from backup \
                    --checks /c.sql --tool golang-migrate --history-table app.m --dir /m --dump-before /d --dump-database app --reason=--why --config /etc/x.toml --cluster 15-main";
        let read = |line: &str| {
            let cli = Cli::try_parse_from(format!("pitr plan --to-latest{line}").split_whitespace()).unwrap();
            let Verb::Plan(args) = cli.verb else { panic!() };
            args.source.typed(&cli.global)
        };
        assert_eq!(read(line), line);
        assert_eq!(read(""), "");
    }
}
