//! `backups`: what there is, and what each is good for.

use crate::cli::PlaceFlags;
use crate::error::Result;
use crate::observe::discover;
use crate::observe::host::observe;
use crate::plan::planned::Reason;
use crate::report::backups::{self, BackupRow, other_cluster};
use crate::verb::{Context, act, asked};

/// `pitr backups`.
pub fn run(context: &Context, places: &PlaceFlags) -> Result<u8> {
    let found = discover::choose(&context.config, context.global.cluster.as_deref())?;
    let observed = observe(&context.config, &found, &asked::at(places))?;
    let own = observed.host.cluster.control_file.system_identifier;
    let rows: Vec<BackupRow> = observed
        .host
        .backups
        .iter()
        .map(|entry| {
            let foreign = entry.foreign_to(own);
            let reasons = foreign.map(|id| Reason::fact("other-cluster", other_cluster(id), "Choose another backup."));
            let bare = !entry.has_manifest && !entry.checksummed;
            let manifest = bare.then(|| {
                Reason::judgement(
                    "no-manifest",
                    "neither a manifest nor a checksum vouches for its files",
                    "To use it all the same: --accept no-manifest.",
                )
            });
            BackupRow { entry: entry.clone(), reasons: reasons.into_iter().chain(manifest).collect() }
        })
        .collect();
    if context.json() {
        act::print_json(&backups::json(&observed.host.name, &found.name, &rows))?;
    } else {
        act::print_text(&backups::text(&rows, context.width()))?;
    }
    for problem in observed.backup_problems {
        log::warn!("{problem}");
    }
    Ok(0)
}
