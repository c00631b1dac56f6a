//! What became of each version: when it was applied, by which commits, whether it stands.

use std::collections::BTreeMap;

use super::begin::{Begin, begin};
use super::reading::{Fields, Mark, State};
use super::{Class, Tool};
use crate::pg::Lsn;
use crate::wal::acts::{Act, Brief};
use crate::wal::rows::Happened;
use crate::wal::tuple::{Column, Row};

/// How the commit that begins a migration is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Row and work are one transaction.
    Together,
    /// By the mark that says "begun".
    Mark,
    /// It is the first of what committed shortly before the row.
    Before,
    /// It is not: one of these, or another.
    Undecided(Vec<Brief>),
    /// No work behind it, and why it seems so.
    WithoutWork(String),
    /// It was applied before the WAL that is there.
    Unseen,
}

/// Whether a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Applied,
    /// It was taken back.
    Reverted,
    /// It was begun and not finished.
    Unfinished,
    /// It failed.
    Failed,
}

/// One application of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What its row said.
    pub mark: Mark,
    /// The commit that a recovery has to exclude.
    pub begin: Option<Brief>,
    /// The commit of the row that says it is done.
    pub recorded: Option<Brief>,
    /// How the beginning is known.
    pub how: How,
    /// Versions whose rows the same commit wrote.
    pub with: Vec<String>,
    /// Transactions between beginning and end that may belong to it.
    pub belongs: Vec<Brief>,
    /// Whether it stands.
    pub standing: Standing,
}

impl Applied {
    fn new(mark: Mark, how: How) -> Applied {
        let standing = match mark.state {
            State::Begun => Standing::Unfinished,
            State::Failed => Standing::Failed,
            State::Reverted => Standing::Reverted,
            State::Done | State::WithoutWork | State::Setup => Standing::Applied,
        };
        Applied { mark, begin: None, recorded: None, how, with: Vec::new(), belongs: Vec::new(), standing }
    }

    /// Where a recovery has to stop before.
    pub fn lsn(&self) -> Option<Lsn> {
        self.begin.as_ref().map(|brief| brief.lsn)
    }
}

/// What the WAL tells of a history table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Applications, oldest first; those that the WAL does not hold come first.
    pub applied: Vec<Applied>,
    /// Row changes whose values could not be read.
    pub unread: u64,
}

/// Reads the history of a table of `tool`: its acts in the WAL, and the rows that it has now, where a server was asked.
pub fn trace(tool: &'static Tool, columns: &[Column], acts: &[Act], live: Option<&[Row]>) -> Told {
    let mut trace = Trace { tool, columns, told: Told::default(), present: BTreeMap::new(), order: Vec::new() };
    if tool.class == Class::OneRowBracket {
        trace.one_row_bracket(acts);
    } else {
        for act in acts {
            trace.act(act);
        }
    }
    trace.finish(live)
}

struct Trace<'a> {
    tool: &'static Tool,
    columns: &'a [Column],
    told: Told,
    /// Keys that rows stand for, with the application that made them.
    present: BTreeMap<String, Option<usize>>,
    /// Keys of a one-row table in the order in which they were seen.
    order: Vec<String>,
}

impl Trace<'_> {
    fn mark(&mut self, row: Option<&Row>) -> Option<Mark> {
        let Some(row) = row else {
            self.told.unread += 1;
            return None;
        };
        (self.tool.read)(&Fields::new(self.columns, row)).filter(|mark| mark.state != State::Setup)
    }

    /// Everything but golang-migrate's own way.
    fn act(&mut self, act: &Act) {
        let mut news: Vec<(Mark, Lsn)> = Vec::new();
        let mut many = false;
        for (lsn, happened) in &act.changes {
            match happened {
                // A rewrite writes rows again that were there.
                Happened::Inserted { .. } | Happened::Emptied if act.rewritten => {}
                Happened::Inserted { row, many: copied } => {
                    many |= *copied;
                    if let Some(mark) = self.mark(row.as_ref()) {
                        self.came(act, mark, *lsn, &mut news);
                    }
                }
                Happened::Updated { old, new } => {
                    let old = old.as_ref().and_then(|old| self.mark(Some(old)));
                    if let Some(new) = self.mark(new.as_ref()) {
                        self.changed(act, old, new, *lsn, &mut news);
                    }
                }
                Happened::Deleted { row } => {
                    if let Some(mark) = self.mark(row.as_ref()) {
                        self.went(&mark.key);
                    }
                }
                Happened::Emptied => {
                    let keys: Vec<String> = self.present.keys().cloned().collect();
                    keys.iter().for_each(|key| self.went(key));
                }
            }
        }
        self.settle(act, news, many);
    }

    fn came(&mut self, act: &Act, mark: Mark, lsn: Lsn, news: &mut Vec<(Mark, Lsn)>) {
        if mark.state == State::Reverted {
            let version = mark.version.clone();
            if let Some(applied) = self.told.applied.iter_mut().rev().find(|a| a.mark.version == version) {
                applied.standing = Standing::Reverted;
            }
        } else if self.present.contains_key(&mark.key) {
            self.same(act, &mark);
        } else {
            news.push((mark, lsn));
        }
    }

    fn changed(&mut self, act: &Act, old: Option<Mark>, new: Mark, lsn: Lsn, news: &mut Vec<(Mark, Lsn)>) {
        let old_key = old.as_ref().map(|mark| mark.key.clone());
        if old_key.as_ref() == Some(&new.key) || self.present.contains_key(&new.key) {
            self.present.entry(new.key.clone()).or_insert(None);
            return self.same(act, &new);
        }
        if self.tool.class != Class::OneRow {
            // An old row that was not seen: only a row that is begun by now can be news.
            let known = old.is_some() || new.state == State::Done;
            self.present.insert(new.key.clone(), None);
            return if known { self.same(act, &new) } else { news.push((new, lsn)) };
        }
        let place = |key: &String| self.order.iter().rposition(|known| known == key);
        if let Some(old) = &old_key
            && place(old).is_none()
        {
            self.order.push(old.clone());
        }
        let place = |key: &String| self.order.iter().rposition(|known| known == key);
        // Back to what stood there before: the old version was taken back.
        let back = place(&new.key).is_some_and(|before| old_key.as_ref().and_then(place).is_none_or(|now| before < now))
            || matches!((new.version.parse::<i64>(), old.as_ref().map(|o| o.version.parse::<i64>())), (Ok(n), Some(Ok(o))) if n < o);
        if let Some(old) = &old_key {
            self.present.remove(old);
        }
        if back {
            let behind = place(&new.key).map_or(0, |at| at + 1);
            let gone: Vec<String> = self.order.split_off(behind.min(self.order.len()));
            for key in gone.iter().chain(&old_key) {
                if let Some(applied) = self.told.applied.iter_mut().rev().find(|a| a.mark.key == *key) {
                    applied.standing = Standing::Reverted;
                }
            }
            self.present.insert(new.key.clone(), None);
            return;
        }
        self.order.push(new.key.clone());
        news.push((new, lsn));
    }

    /// A row that was there says something else.
    fn same(&mut self, act: &Act, mark: &Mark) {
        let Some(index) = self.present.get(&mark.key).copied().flatten() else { return };
        let Some(applied) = self.told.applied.get_mut(index) else { return };
        if applied.standing == Standing::Unfinished {
            applied.belongs.extend(act.since.ddl.iter().chain(&act.since.plain).cloned());
            applied.belongs.sort_by_key(|brief| brief.lsn);
        }
        if mark.state == State::Done && applied.mark.state == State::Begun {
            applied.recorded = Some(act.by.clone());
        }
        applied.standing = Applied::new(mark.clone(), How::Unseen).standing;
        applied.mark = mark.clone();
    }

    fn went(&mut self, key: &str) {
        let index = self.present.remove(key).flatten();
        if let Some(applied) = index.and_then(|index| self.told.applied.get_mut(index)) {
            applied.standing = Standing::Reverted;
        }
    }

    /// New rows of one transaction.
    fn settle(&mut self, act: &Act, news: Vec<(Mark, Lsn)>, many: bool) {
        let Some(first) = news.first().map(|(_, lsn)| *lsn) else { return };
        let versions: Vec<String> = news.iter().map(|(mark, _)| mark.version.clone()).collect();
        let bracket = self.tool.class == Class::Bracket;
        let begun = |mark: &Mark| bracket && mark.state != State::WithoutWork;
        let found = begin(self.tool, act, news.len(), first, many);
        for (mark, _) in news {
            let with = versions.iter().filter(|version| **version != mark.version).cloned().collect();
            let mut applied = Applied { with, ..Applied::new(mark.clone(), How::Together) };
            applied.begin = Some(act.by.clone());
            applied.recorded = (mark.state != State::Begun).then(|| act.by.clone());
            match &found {
                _ if mark.state == State::WithoutWork => {
                    applied.how = How::WithoutWork("its row says that it was not run".into());
                }
                _ if begun(&mark) => applied.how = if mark.state == State::Begun { How::Mark } else { How::Together },
                Begin::Together => {}
                Begin::Before(brief, belongs) => {
                    (applied.begin, applied.how, applied.belongs) = (Some(brief.clone()), How::Before, belongs.clone());
                }
                Begin::Undecided(candidates) => {
                    (applied.begin, applied.how) = (None, How::Undecided(candidates.clone()));
                }
                Begin::WithoutWork(why) => applied.how = How::WithoutWork((*why).to_string()),
            }
            self.present.insert(mark.key, Some(self.told.applied.len()));
            self.told.applied.push(applied);
        }
    }

    /// golang-migrate: each act leaves one row `(version, dirty)` or none.
    fn one_row_bracket(&mut self, acts: &[Act]) {
        let mut clean: Option<Mark> = None;
        let mut begun: Option<(Mark, &Act)> = None;
        for act in acts.iter().filter(|act| !act.rewritten) {
            let row = act.changes.iter().rev().find_map(|(_, happened)| match happened {
                Happened::Inserted { row, .. } | Happened::Updated { new: row, .. } => Some(row.as_ref()),
                _ => None,
            });
            let mark = match row {
                Some(row) => match self.mark(row) {
                    Some(mark) => mark,
                    None => continue,
                },
                // Nothing is left: taken down to the beginning.
                None => {
                    self.take_back(clean.take().as_ref());
                    begun = None;
                    continue;
                }
            };
            match (mark.state, begun.take()) {
                // Tried again: the first attempt since the last clean state counts.
                (State::Begun, Some((before, first))) if before.key == mark.key => begun = Some((before, first)),
                (State::Begun, before) => {
                    if let Some((before, first)) = before {
                        self.push_bracket(&before, first, None);
                    }
                    begun = Some((mark, act));
                }
                (_, Some((before, first))) if before.key == mark.key => {
                    // The recorded version of a step down is the one before.
                    let number = |mark: &Mark| mark.version.parse::<i64>().unwrap_or_default();
                    if clean.as_ref().is_some_and(|clean| number(clean) > number(&mark)) {
                        self.take_back(clean.as_ref());
                    } else {
                        self.push_bracket(&mark, first, Some(act));
                    }
                    clean = Some(mark);
                }
                (_, before) => {
                    if let Some((before, first)) = before {
                        self.push_bracket(&before, first, None);
                    }
                    let how = if act.since.hole && clean.is_none() {
                        How::Unseen
                    } else {
                        How::WithoutWork("its row was written without a mark before it (force)".into())
                    };
                    let known = How::Unseen == how;
                    let mut applied = Applied::new(mark.clone(), how);
                    applied.recorded = Some(act.by.clone());
                    applied.begin = (!known).then(|| act.by.clone());
                    self.told.applied.push(applied);
                    clean = Some(mark);
                }
            }
        }
        if let Some((mark, first)) = begun {
            self.push_bracket(&mark, first, None);
        }
    }

    fn push_bracket(&mut self, mark: &Mark, first: &Act, last: Option<&Act>) {
        let mut applied = Applied::new(mark.clone(), How::Mark);
        applied.begin = Some(first.by.clone());
        if let Some(last) = last {
            applied.recorded = Some(last.by.clone());
            applied.belongs = last.since.ddl.iter().chain(&last.since.plain).filter(|b| b.lsn > first.by.lsn).cloned().collect();
            applied.belongs.sort_by_key(|brief| brief.lsn);
        }
        self.told.applied.push(applied);
    }

    fn take_back(&mut self, mark: Option<&Mark>) {
        let Some(key) = mark.map(|mark| mark.key.clone()) else { return };
        if let Some(applied) = self.told.applied.iter_mut().rev().find(|applied| applied.mark.key == key) {
            applied.standing = Standing::Reverted;
        }
    }

    /// What stands now, where a server was asked: rows that the WAL does not tell of, and applications without a row.
    fn finish(mut self, live: Option<&[Row]>) -> Told {
        let Some(rows) = live else { return self.told };
        let marks: Vec<Mark> = rows
            .iter()
            .filter_map(|row| (self.tool.read)(&Fields::new(self.columns, row)))
            .filter(|mark| !matches!(mark.state, State::Setup | State::Reverted))
            .collect();
        let one_row = matches!(self.tool.class, Class::OneRow | Class::OneRowBracket);
        if !one_row {
            for applied in &mut self.told.applied {
                if !marks.iter().any(|mark| mark.key == applied.mark.key) {
                    applied.standing = Standing::Reverted;
                }
            }
        }
        let unseen = marks.into_iter().filter(|mark| !self.told.applied.iter().any(|applied| applied.mark.key == mark.key));
        let mut all: Vec<Applied> = unseen.map(|mark| Applied::new(mark, How::Unseen)).collect();
        all.append(&mut self.told.applied);
        Told { applied: all, unread: self.told.unread }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
