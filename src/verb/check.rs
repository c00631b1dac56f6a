//! `check`: whether this host is ready for a recovery, a line for each question.

use crate::cli::CheckArgs;
use crate::error::{Kind, Result};
use crate::observe::backups::Identify;
use crate::observe::discover::{self, Found};
use crate::observe::host::{Observed, Where, host_name, observe};
use crate::observe::names::Door;
use crate::plan::facts::Server;
use crate::plan::host_check::{self, Answer, Archiver, Line, Wishes};
use crate::plan::restore::plan;
use crate::report::check::{self as page, ClusterCheck};
use crate::verb::{Context, act, asked};

/// `pitr check`: exit 6 where a recovery would fail.
pub fn run(context: &Context, args: &CheckArgs) -> Result<u8> {
    let clusters: Vec<ClusterCheck> = chosen(context)?.iter().map(|found| one(context, found, args)).collect();
    let host = host_name();
    if context.json() {
        act::print_json(&page::json(&host, &clusters))?;
    } else {
        act::print_text(&page::text(&host, &clusters, context.width()))?;
    }
    Ok(if page::is_ready(&clusters) { 0 } else { Kind::Check.exit_code() })
}

/// The named cluster, or those of the configuration, or where it has none all of the host.
fn chosen(context: &Context) -> Result<Vec<Found>> {
    if let Some(name) = &context.global.cluster {
        return Ok(vec![discover::choose(&context.config, Some(name))?]);
    }
    let mut all = discover::clusters(&context.config)?;
    if !context.config.clusters.is_empty() {
        all.retain(|found| context.config.clusters.contains_key(&found.name));
    }
    Ok(all)
}

fn one(context: &Context, found: &Found, args: &CheckArgs) -> ClusterCheck {
    let identify = Some(Identify { name: None, before: None });
    let seen = observe(&context.config, found, &Where { identify, ..Where::default() });
    let lines = match seen.and_then(|mut observed| observed.look_at_places(&[]).map(|()| observed)) {
        Ok(observed) => {
            let request = asked::to_latest(found, &observed);
            let planned = plan(&observed.host, &request);
            host_check::lines(&observed.host, &planned, archiver(&observed, &request.site.user).as_ref(), &wishes(found, args))
        }
        Err(error) => {
            let what = format!("the cluster cannot be looked at: {error}");
            vec![Line { id: "cluster".into(), answer: Answer::Fail, what, hint: error.hint }]
        }
    };
    ClusterCheck { name: found.name.clone(), lines }
}

fn wishes(found: &Found, args: &CheckArgs) -> Wishes {
    let config = &found.config;
    Wishes {
        file: (!config.file.as_os_str().is_empty()).then(|| config.file.display().to_string()),
        checks: asked::read_checks(config.checks.iter()).map(|checks| checks.len()).map_err(|e| e.to_string()),
        rpo: config.rpo,
        rto: config.rto,
        backup_age: args.max_backup_age,
    }
}

/// Ages are computed by the server: its clock wrote the times.
const ARCHIVER: &str = "SELECT last_archived_wal, extract(epoch FROM now() - last_archived_time)::bigint, last_failed_wal, \
    extract(epoch FROM now() - last_failed_time)::bigint, \
    last_failed_time IS NOT NULL AND last_failed_time >= coalesce(last_archived_time, '-infinity'), \
    extract(epoch FROM current_setting('archive_timeout')::interval)::bigint, \
    (pg_walfile_name_offset(pg_current_wal_insert_lsn())).file_offset FROM pg_stat_archiver";

fn archiver(observed: &Observed, user: &str) -> Option<Archiver> {
    let cluster = &observed.host.cluster;
    if !matches!(cluster.server, Server::Serving { .. }) {
        return None;
    }
    let door = Door::find(&cluster.owner, &cluster.data_directory, user, cluster.control_file.system_identifier).ok()?;
    let replies = door.ask("postgres", vec![ARCHIVER.to_string()])?;
    let row = replies.first()?.rows.first()?.clone();
    let text = |at: usize| row.get(at).cloned().flatten();
    let number = |at: usize| text(at).and_then(|t| t.parse::<i64>().ok()).and_then(|n| u64::try_from(n).ok());
    let aged = |at: usize| Some((text(at)?, number(at + 1).unwrap_or(0)));
    Some(Archiver {
        archived: aged(0),
        failing: aged(2).filter(|_| text(4).as_deref() == Some("t")),
        timeout: number(5).unwrap_or(0),
        pending: number(6).unwrap_or(0),
    })
}
