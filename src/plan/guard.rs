//! What the administrator set limits to: tables whose rows must not vanish unasked, how long a recovery may take, how
//! much it may lose. Pure.
//!
//! Guarantees: rows of a protected table are discarded only after `--accept protected:NAME`, also where it cannot be
//! told whether there are any.

use super::loss::{Loss, LostRows};
use super::planned::Reason;
use super::recovery::Consequence;

/// The limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// `schema.table`, each once.
    pub protected: Vec<String>,
    /// Those that the catalogs do not have now: their rows are known by file numbers only.
    pub absent: Vec<String>,
    /// Longest recovery, in seconds.
    pub rto: Option<u64>,
    /// Largest loss, in seconds.
    pub rpo: Option<u64>,
}

impl Guard {
    /// A reason for each protected table whose rows would vanish. `loss` is `None` where it is not known; with
    /// `partial` more may be lost than it says.
    pub fn reasons(&self, loss: Option<&Loss>, partial: bool) -> Vec<Reason> {
        self.protected.iter().filter_map(|name| self.reason(name, loss, partial)).collect()
    }

    fn reason(&self, name: &str, loss: Option<&Loss>, partial: bool) -> Option<Reason> {
        let vanishing: u64 = loss.iter().flat_map(|loss| &loss.relations).filter(|rows| is(rows, name)).map(vanish).sum();
        // A file without a name may be the table's, where the catalogs no longer have it.
        let unnamed = || loss.is_some_and(|loss| loss.relations.iter().any(|rows| rows.is_unnamed() && vanish(rows) > 0));
        let what = if vanishing > 0 {
            format!("{vanishing} rows of the protected table {name} would vanish")
        } else if loss.is_none() || partial {
            format!("what is discarded is not known in full: rows of the protected table {name} may be among it")
        } else if self.absent.iter().any(|absent| absent == name) && unnamed() {
            format!("rows of tables without a name would vanish: those of the protected table {name} may be among them")
        } else {
            return None;
        };
        let id = format!("protected:{name}");
        let hint = format!("Save them first, or let them go: --accept {}.", super::target::shell_word(&id));
        Some(Reason::judgement(&id, what, hint))
    }

    /// Warnings: more is lost, or it takes longer, than was set.
    pub fn warnings(&self, loss: Option<&Loss>, seconds: Option<u64>) -> Vec<Consequence> {
        let words = |seconds| crate::config::duration::in_words(seconds);
        let over = |limit: Option<u64>, value: Option<u64>| limit.zip(value).filter(|(limit, value)| value > limit);
        let rpo = over(self.rpo, loss.map(Loss::seconds)).map(|(limit, value)| Consequence {
            id: "rpo".into(),
            text: format!("commits of {} are discarded; rpo is {}", words(value), words(limit)),
        });
        let rto = over(self.rto, seconds).map(|(limit, value)| Consequence {
            id: "rto".into(),
            text: format!("it takes about {}; rto is {}", words(value), words(limit)),
        });
        rpo.into_iter().chain(rto).collect()
    }
}

/// Rows that are there now and would not be: what was deleted comes back instead.
fn vanish(rows: &LostRows) -> u64 {
    rows.inserted + rows.updated
}

/// Rows of the table, or of a partition of it.
fn is(rows: &LostRows, name: &str) -> bool {
    let same = |found: &str| found == name || plain(found).as_deref() == Some(name);
    same(&rows.name) || rows.part_of.as_deref().is_some_and(same)
}

/// A name as a person writes it in the configuration, of one that the server quoted.
fn plain(quoted: &str) -> Option<String> {
    if !quoted.contains('"') {
        return None;
    }
    let mut name = String::new();
    let mut characters = quoted.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if characters.peek() == Some(&'"') => name.extend(characters.next()),
            '"' => {}
            other => name.push(other),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(name: &str, inserted: u64, deleted: u64, part_of: Option<&str>) -> LostRows {
        let part_of = part_of.map(str::to_string);
        LostRows { database: "shop".into(), name: name.into(), inserted, deleted, part_of, ..LostRows::default() }
    }

    fn ids(protected: &[&str], absent: &[&str], lost: Option<Vec<LostRows>>, partial: bool) -> Vec<String> {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let guard = Guard { protected: owned(protected), absent: owned(absent), ..Guard::default() };
        let loss = lost.map(|relations| Loss { transactions: 1, relations, ..Loss::default() });
        let reasons = guard.reasons(loss.as_ref(), partial);
        assert!(reasons.iter().all(|reason| reason.judgement));
        reasons.into_iter().map(|reason| reason.id).collect()
    }

    #[test]
    fn rows_of_protected_tables_vanish_only_when_that_is_accepted() {
        let audit = ["public.audit"];
        assert_eq!(ids(&audit, &[], Some(vec![rows("public.audit", 1, 0, None)]), false), ["protected:public.audit"]);
        assert!(ids(&audit, &[], Some(vec![rows("public.other", 1, 0, None)]), false).is_empty());
        assert!(ids(&audit, &[], Some(vec![rows("public.audit", 0, 3, None)]), false).is_empty(), "deleted rows come back");
        assert_eq!(ids(&audit, &[], Some(vec![rows("public.audit_1", 1, 0, Some("public.audit"))]), false).len(), 1, "a partition");
        assert_eq!(ids(&["app.Odd \"one\""], &[], Some(vec![rows("app.\"Odd \"\"one\"\"\"", 1, 0, None)]), false).len(), 1);
    }

    #[test]
    fn what_cannot_be_told_must_be_accepted_too() {
        let audit = ["public.audit"];
        assert_eq!(ids(&audit, &[], None, false).len(), 1);
        assert_eq!(ids(&audit, &[], Some(vec![]), true).len(), 1);
        assert!(ids(&audit, &[], Some(vec![]), false).is_empty());
        let unnamed = || Some(vec![rows("file 20000", 1, 0, None)]);
        assert_eq!(ids(&audit, &audit, unnamed(), false).len(), 1);
        assert!(ids(&audit, &[], unnamed(), false).is_empty(), "it has its name, and this is another table");
    }

    #[test]
    fn warnings_compare_with_what_was_set() {
        let guard = Guard { rto: Some(60), rpo: Some(300), ..Guard::default() };
        let at = |second: i64| jiff::Timestamp::from_second(second).ok();
        let loss = |seconds| Loss { from: at(0), to: at(seconds), ..Loss::default() };
        let ids = |seconds, takes| -> Vec<String> { guard.warnings(Some(&loss(seconds)), takes).into_iter().map(|c| c.id).collect() };
        assert!(ids(300, Some(60)).is_empty() && ids(300, None).is_empty());
        assert_eq!(ids(301, Some(61)), ["rpo", "rto"]);
        assert!(Guard::default().warnings(Some(&loss(9999)), Some(9999)).is_empty());
    }
}
