//! `verify`: backups, WAL, or both.

use crate::cli::{VerifyArgs, VerifyVerb};
use crate::error::{Kind, Result};
use crate::report::{verify_backups as backup_page, verify_wal as wal_page};
use crate::verb::{Context, act, verify_backups, verify_wal};

/// `pitr verify`: exit 6 when anything is missing or damaged.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<u8> {
    match &args.verb {
        Some(VerifyVerb::Backups(args)) => {
            let proofs = verify_backups::prove(context, args.name.as_deref(), &args.backups)?;
            let document = || backup_page::json(&proofs);
            finish(context, proofs.are_whole(), document, &|width| backup_page::text(&proofs, width))
        }
        Some(VerifyVerb::Wal(args)) => {
            let proof = verify_wal::prove(context, &args.wal)?;
            finish(context, proof.is_whole(), || wal_page::json(&proof), &|width| wal_page::text(&proof, width))
        }
        None => both(context),
    }
}

fn both(context: &Context) -> Result<u8> {
    let proofs = verify_backups::prove(context, None, &[])?;
    let wal = verify_wal::prove(context, &[])?;
    let document = || serde_json::json!({"schema": 1, "backups": backup_page::json(&proofs), "wal": wal_page::json(&wal)});
    let text = |width| format!("{}\n\n{}", backup_page::text(&proofs, width), wal_page::text(&wal, width));
    finish(context, proofs.are_whole() && wal.is_whole(), document, &text)
}

fn finish(context: &Context, whole: bool, document: impl Fn() -> serde_json::Value, text: &dyn Fn(usize) -> String) -> Result<u8> {
    if context.json() {
        act::print_json(&document())?;
    } else {
        act::print_text(&text(context.width()))?;
    }
    Ok(if whole { 0 } else { Kind::Check.exit_code() })
}
