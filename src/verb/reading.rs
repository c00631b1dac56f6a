//! The WAL that a plan rests on: read from the newest backup that may serve, as the owner, with every record's checksum.

use std::collections::BTreeSet;

use crate::error::{Error, Kind, Result};
use crate::observe::host::Observed;
use crate::observe::names::Door;
use crate::plan::aim;
use crate::plan::damaged::{self, DamagedCopy};
use crate::plan::facts::Server;
use crate::plan::loss::Names;
use crate::plan::restore::Request;
use crate::plan::spaces;
use crate::plan::wal_facts::{Meaning, WalFindings};
use crate::run::owner::{self, Task};
use crate::run::reading::{ChainRequest, ReadRequest};
use crate::run::sources::Directories;
use crate::run::tail::WalIdentity;
use crate::wal::RelationFile;
use crate::wal::called::CalledRelation;

/// Reads what has to be read, from the newest backup that may serve; when that one turns out to end behind the
/// target, or the target is not behind it, from the one before. Where a copy of a segment is damaged and there is another,
/// that one is read instead.
pub fn read_wal(observed: &mut Observed, request: &mut Request) -> Result<Vec<DamagedCopy>> {
    let mut first = None;
    let mut damaged = Vec::new();
    let size = observed.host.cluster.control_file.segment_size;
    while let Some(wanted) = aim::reading(&observed.host, request) {
        let findings = read_chain(observed, &wanted)?;
        if let Some(copy) = damaged::next(&observed.host.wal, &findings, size) {
            damaged::mark(&mut observed.host.wal, [&copy.path]);
            damaged.push(copy);
            continue;
        }
        let older = match aim::meaning(&observed.host, request, &findings) {
            Some(Meaning::BeforeBackup(why)) => Some((why, None)),
            Some(Meaning::NotFound(_)) => Some(("the target is not behind it".to_string(), Some(findings.clone()))),
            _ => None,
        };
        let older = older.or_else(|| without_place(observed, &findings).map(|why| (why, None)));
        let Some((why, unfound)) = older.filter(|_| request.backup.is_none()) else {
            request.findings = Some(findings);
            break;
        };
        first = first.or(unfound);
        request.ruled_out.push((wanted.backup.1, why));
    }
    if let (None, Some(findings)) = (&request.findings, first) {
        // Nowhere: what the newest backup's WAL says is what there is to say.
        request.ruled_out.clear();
        request.findings = Some(findings);
    }
    request.serving = match aim::lost_reading(&observed.host, request) {
        Some(wanted) => Some(read_chain(observed, &wanted)?),
        None => None,
    };
    name(observed, request);
    Ok(damaged)
}

/// Why the backup that was read from cannot serve, where the WAL does not settle what becomes of its tablespaces.
fn without_place(observed: &Observed, findings: &WalFindings) -> Option<String> {
    let entry = observed.host.backups.iter().find(|entry| entry.path == findings.backup)?;
    spaces::untold(&observed.host, entry, &findings.answer)
}

/// Reads every record of the chain with its checksum, as the owner; what is root's alone by a descriptor.
fn read_chain(observed: &Observed, wanted: &aim::Reading) -> Result<WalFindings> {
    let cluster = &observed.host.cluster;
    let others = Directories::default().with_others(&observed.other_wal);
    let segments = wanted.segments.iter().map(|(name, directory, file)| (*name, others.open_path(directory), file.clone()));
    let identity = WalIdentity {
        major: cluster.major,
        system_identifier: cluster.control_file.system_identifier,
        segment_size: cluster.control_file.segment_size,
    };
    let request = ReadRequest {
        chain: ChainRequest { segments: segments.collect(), history: wanted.history.clone(), identity },
        question: wanted.question.clone(),
        backup: wanted.start,
        next_xid: wanted.next_xid,
    };
    let refused = |error: Error| error.with_kind(Kind::Refused);
    let answer = owner::call_trusting(&cluster.owner, None, &observed.trusted, Task::ReadWal(Box::new(request))).map_err(refused)?;
    Ok(WalFindings {
        backup: wanted.backup.1.clone(),
        answer,
        segments: wanted.segments.iter().map(|(name, _, _)| *name).collect(),
        last_is_archived: wanted.last_is_archived,
        hole: wanted.hole,
        elsewhere: Vec::new(),
    })
}

/// Names of what is lost, which of the protected tables the cluster has, and who reads its WAL: of its catalogs where it
/// serves, and of the WAL for what these have no longer.
fn name(observed: &Observed, request: &mut Request) {
    request.guard.absent = request.guard.protected.clone();
    let answers = || request.serving.iter().chain(&request.findings).map(|findings| &findings.answer);
    let lost = answers().flat_map(|answer| {
        let first = answer.first_lost.iter().flat_map(|first| &first.truncated);
        answer.lost.relations.iter().map(|(file, _)| file).chain(first)
    });
    let files: BTreeSet<RelationFile> = lost.filter(|file| !file.is_catalog()).copied().collect();
    let of_wal: Vec<CalledRelation> = answers().flat_map(|answer| &answer.named).cloned().collect();
    let schemas: Vec<(u32, u32, String)> = answers().flat_map(|answer| &answer.schemas).cloned().collect();
    ask_names(observed, request, &files, &of_wal);
    if files.is_empty() {
        return;
    }
    let names = &mut request.names;
    for (database, oid, name) in schemas {
        if !names.schemas.iter().any(|known| (known.0, known.1) == (database, oid)) {
            names.schemas.push((database, oid, name));
        }
    }
    of_wal.iter().for_each(|called| names.add(called));
    // They have served: what is kept of a run names relations.
    names.schemas.clear();
}

fn ask_names(observed: &Observed, request: &mut Request, files: &BTreeSet<RelationFile>, of_wal: &[CalledRelation]) {
    let cluster = &observed.host.cluster;
    if !matches!(cluster.server, Server::Serving { .. }) {
        return;
    }
    let user = request.site.user.clone();
    match Door::find(&cluster.owner, &cluster.data_directory, &user, cluster.control_file.system_identifier) {
        Ok(door) => {
            request.names.readers = door.readers();
            if files.is_empty() {
                return;
            }
            let mut names = Names { readers: std::mem::take(&mut request.names.readers), ..door.names(files) };
            let is_known = |called: &CalledRelation| {
                names.relations.iter().any(|named| (named.database, named.file) == (called.database, called.relation.file))
            };
            let gone: BTreeSet<u32> = of_wal.iter().filter(|called| !is_known(called)).map(|called| called.database).collect();
            if !gone.is_empty() {
                names.schemas = door.schemas(&gone, &names);
            }
            request.guard.absent.retain(|table| door.called(table, None, &names).is_empty());
            request.names = names;
        }
        Err(error) => log::info!("names of relations are not known: {error}"),
    }
}
