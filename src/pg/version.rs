//! What differs between PostgreSQL's majors, as rows of one table.
//!
//! The private server's settings are here: what must never reach production from it, by name and major. Sources:
//! guc.c / guc_tables.c of each major; every row was tried with `postgres -C NAME` on the majors we run.

/// Majors this program can recover. Others are refused.
pub const SUPPORTED: &[u32] = &[13, 14, 15, 16, 17, 18];

/// Whether `major` can be recovered.
pub fn is_supported(major: u32) -> bool {
    SUPPORTED.contains(&major)
}

/// A setting of the private server: name, value, first and last major that know it.
struct Row(&'static str, &'static str, u32, u32);

const ALWAYS: u32 = 0;
const STILL: u32 = u32::MAX;

/// Everything that could leave the private server, act in it, or hide what it says (pitfalls B1 to B6).
const PRIVATE: &[Row] = &[
    Row("external_pid_file", "", ALWAYS, STILL), // or it overwrites and then removes production's
    Row("listen_addresses", "", ALWAYS, STILL),
    Row("unix_socket_group", "", ALWAYS, STILL),
    Row("unix_socket_permissions", "0700", ALWAYS, STILL),
    Row("ssl", "off", ALWAYS, STILL),
    Row("logging_collector", "off", ALWAYS, STILL), // on: writes into production's logs, hides the stop line
    Row("log_destination", "stderr", ALWAYS, STILL),
    Row("log_min_messages", "info", ALWAYS, STILL),
    Row("log_error_verbosity", "default", ALWAYS, STILL), // verbose: an SQLSTATE before each message hides the stop line
    Row("log_line_prefix", "%m [%p] ", ALWAYS, STILL),
    Row("log_statement", "none", ALWAYS, STILL),
    Row("lc_messages", "C", ALWAYS, STILL),
    Row("log_startup_progress_interval", "1s", 15, STILL),
    Row("archive_command", "", ALWAYS, STILL), // '' keeps every .ready mark and stops at once
    Row("archive_library", "", 15, STILL),     // FATAL on 13 and 14
    Row("archive_cleanup_command", "", ALWAYS, STILL),
    Row("recovery_end_command", "", ALWAYS, STILL),
    Row("synchronous_standby_names", "", ALWAYS, STILL),
    Row("max_logical_replication_workers", "0", ALWAYS, STILL),
    Row("primary_conninfo", "", ALWAYS, STILL),
    Row("primary_slot_name", "", ALWAYS, STILL),
    Row("promote_trigger_file", "", 13, 15),
    Row("recovery_min_apply_delay", "0", ALWAYS, STILL),
    Row("hot_standby", "on", ALWAYS, STILL), // off turns pause into shutdown
    Row("max_standby_archive_delay", "-1", ALWAYS, STILL),
    Row("default_transaction_isolation", "read committed", ALWAYS, STILL),
    Row("default_transaction_read_only", "off", ALWAYS, STILL),
    Row("default_transaction_deferrable", "off", ALWAYS, STILL),
    Row("stats_temp_directory", "pg_stat_tmp", ALWAYS, 14), // Debian's is shared with production
    Row("huge_pages", "try", ALWAYS, STILL),
    Row("io_method", "worker", 18, STILL), // io_uring: FATAL where the limits of a run are below those of the unit
    Row("restart_after_crash", "off", ALWAYS, STILL),
    Row("fsync", "on", ALWAYS, STILL),
    Row("full_page_writes", "on", ALWAYS, STILL),
    Row("zero_damaged_pages", "off", ALWAYS, STILL),
    Row("ignore_invalid_pages", "off", ALWAYS, STILL),
    Row("event_triggers", "off", 17, STILL),
    Row("summarize_wal", "off", 17, STILL),
    Row("sync_replication_slots", "off", 17, STILL),
    Row("statement_timeout", "0", ALWAYS, STILL),
    Row("lock_timeout", "0", ALWAYS, STILL),
    Row("idle_in_transaction_session_timeout", "0", ALWAYS, STILL),
    Row("idle_session_timeout", "0", 14, STILL),
    Row("transaction_timeout", "0", 17, STILL),
    Row("db_user_namespace", "off", ALWAYS, 16), // on: the bootstrap role is postgres@
    Row("session_preload_libraries", "", ALWAYS, STILL),
    Row("local_preload_libraries", "", ALWAYS, STILL),
    Row("autovacuum", "off", ALWAYS, STILL), // nothing but recovery writes until the cluster is public
];

/// Settings of a private server of `major`, in the order in which they are given.
pub fn private_settings(major: u32) -> Vec<(&'static str, &'static str)> {
    PRIVATE
        .iter()
        .filter(|Row(_, _, since, until)| (*since..=*until).contains(&major))
        .map(|Row(name, value, _, _)| (*name, *value))
        .collect()
}

/// Settings that hot standby demands to be at least the primary's (manual, Hot Standby, Administrator's Overview).
pub const FLOORS: &[&str] =
    &["max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction"];

/// The settings that `observe` reads by `postgres -C`, known to every supported major.
pub const OBSERVED: &[&str] = &[
    "config_file",
    "hba_file",
    "ident_file",
    "data_directory",
    "port",
    "unix_socket_directories",
    "archive_mode",
    "archive_command",
    "shared_preload_libraries",
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "max_wal_size",
    "synchronous_standby_names",
    "ssl",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_dh_params_file",
];

/// `archive_library` exists from 15 on.
pub fn knows_archive_library(major: u32) -> bool {
    major >= 15
}

/// Preloaded libraries whose workers, if any, only read: they may stay for the private promotion (pitfalls B7).
pub const HARMLESS_LIBRARIES: &[&str] = &["pg_stat_statements", "auto_explain"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_gets_only_settings_it_knows() {
        let names = |major| private_settings(major).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert!(!names(14).contains(&"archive_library"));
        assert!(names(14).contains(&"stats_temp_directory"));
        assert!(names(15).contains(&"archive_library") && !names(15).contains(&"stats_temp_directory"));
        assert!(names(15).contains(&"promote_trigger_file") && !names(16).contains(&"promote_trigger_file"));
        assert!(names(16).contains(&"db_user_namespace") && !names(17).contains(&"db_user_namespace"));
        assert!(!names(16).contains(&"event_triggers") && names(17).contains(&"event_triggers"));
    }
}
