//! `runs`: what the journals of this host tell.

use crate::error::Result;
use crate::observe::host::host_name;
use crate::observe::runs;
use crate::plan::account::Account;
use crate::report::runs::{self as page, RunRow};
use crate::verb::{Context, act};

/// `pitr runs`: all of all clusters, or of `--cluster`, newest first.
pub fn run(context: &Context) -> Result<u8> {
    let state = &context.config.state_directory;
    let mut rows = Vec::new();
    for known in runs::all(state)?.into_iter().rev() {
        let account = known.ledger.as_ref().map_err(Clone::clone).and_then(|_| retell(context, &known.id));
        let elsewhere = |account: &Account| !context.is_meant(&account.recovery.cluster);
        if account.as_ref().is_ok_and(elsewhere) {
            continue;
        }
        let held = known.ledger.iter().flat_map(|ledger| runs::held(state, &known.id, ledger));
        let keeps = held.map(|(path, bytes)| (path.display().to_string(), bytes)).collect();
        rows.push(RunRow { id: known.id, account, keeps });
    }
    if context.json() {
        act::print_json(&page::json(&host_name(), &rows))?;
    } else {
        act::print_text(&page::text(&rows, context.width()))?;
    }
    Ok(0)
}

fn retell(context: &Context, id: &str) -> std::result::Result<Account, String> {
    let entries = runs::entries(&context.config.state_directory, id).map_err(|e| e.to_string())?;
    Account::of(id, &entries).ok_or_else(|| "it has no plan: the run did nothing".to_string())
}
