//! `report`: one run, told from its journal.

use crate::cli::{Output, ReportArgs};
use crate::error::{Error, Kind, Result};
use crate::observe::runs;
use crate::plan::account::Account;
use crate::report::account as page;
use crate::verb::{Context, act};

/// `pitr report [RUN]`.
pub fn run(context: &Context, args: &ReportArgs) -> Result<u8> {
    let account = match &args.run {
        Some(id) => named(context, id)?,
        None => newest(context)?,
    };
    match context.global.output {
        Output::Text => act::print_text(&page::text(&account, context.width()))?,
        Output::Json => act::print_json(&page::json(&account))?,
        Output::Html => act::print_text(&page::html(&account))?,
        Output::Md => act::print_text(&page::markdown(&account))?,
    }
    Ok(0)
}

fn named(context: &Context, id: &str) -> Result<Account> {
    let state = &context.config.state_directory;
    if !runs::all(state)?.iter().any(|known| known.id == id) {
        return Err(Error::usage(format!("there is no run {id}")).hint("`pitr runs` lists them."));
    }
    let entries =
        runs::entries(state, id).map_err(|e| Error::new(Kind::Hands, format!("the journal of run {id} cannot be read")).cause(e))?;
    Account::of(id, &entries).ok_or_else(|| Error::new(Kind::Refused, format!("run {id} has no plan in its journal: it did nothing")))
}

/// The newest run of the cluster that is meant, or of all. One whose journal cannot be read is not passed over in silence.
fn newest(context: &Context) -> Result<Account> {
    for known in runs::all(&context.config.state_directory)?.into_iter().rev() {
        let account = match named(context, &known.id) {
            Ok(account) => account,
            Err(error) => {
                log::warn!("{error}");
                continue;
            }
        };
        if context.is_meant(&account.recovery.cluster) {
            return Ok(account);
        }
    }
    Err(Error::usage("there is no run to report").hint("`pitr runs` lists them."))
}
