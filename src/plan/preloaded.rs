//! Which preloaded libraries a private server that may open loads. Pure.
//!
//! Background workers begin to act as soon as recovery ends: a scheduler would run its jobs on a cluster that nobody
//! has switched to (pitfalls B7). Replay and checks run with every configured library, since some extensions refuse
//! queries without theirs; what opens, opens with those alone that are known not to act, and with those that the WAL
//! itself cannot be replayed without.

use serde::{Deserialize, Serialize};

use crate::pg::version;

/// `shared_preload_libraries`, parted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preloaded {
    /// Those that do not act: as they are written in the setting.
    pub stay: Vec<String>,
    /// Those that may: left out where a private server opens.
    pub go: Vec<String>,
}

impl Preloaded {
    /// Parts the value of `shared_preload_libraries`: a list with commas, names in double quotes where they need them
    /// (manual, "Shared Library Preloading").
    pub fn of(value: &str) -> Preloaded {
        let (stay, go) = pieces(value).into_iter().partition(|piece| version::HARMLESS_LIBRARIES.contains(&plain(piece).as_str()));
        Preloaded { stay, go }
    }

    /// Names of those that are left out, for a person.
    pub fn names(&self) -> String {
        self.go.iter().map(|piece| plain(piece)).collect::<Vec<_>>().join(", ")
    }
}

/// Elements of the list, each as it is written; a comma within double quotes parts nothing.
fn pieces(value: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    for letter in value.chars() {
        quoted ^= letter == '"';
        match all.last_mut() {
            Some(piece) if letter != ',' || quoted => piece.push(letter),
            _ => all.push(String::new()),
        }
    }
    all.iter().map(|piece| piece.trim().to_string()).filter(|piece| !piece.is_empty()).collect()
}

/// A library's name without quotes, path and suffix.
fn plain(piece: &str) -> String {
    let name = piece.trim_matches('"');
    let name = name.rsplit('/').next().unwrap_or(name);
    name.strip_suffix(".so").unwrap_or(name).to_string()
}

/// Which library a resource manager of the WAL needs: PostgreSQL names the manager's number alone, so that one after
/// the other is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    all: Vec<String>,
    found: Vec<String>,
    left: Vec<String>,
    trying: Option<(u8, String)>,
}

impl Search {
    /// Among `all`, of which `found` are known to be needed.
    pub fn new(all: &[String], found: Vec<String>) -> Search {
        Search { all: all.to_vec(), left: Vec::new(), found, trying: None }
    }

    /// What to load next, now that replay stopped at resource manager `id`; `None` when no library brings it.
    pub fn next(&mut self, id: u8) -> Option<Vec<String>> {
        match self.trying.take() {
            // It did not help.
            Some((last, _)) if last == id => {}
            tried => {
                self.found.extend(tried.map(|(_, library)| library));
                self.left = self.all.iter().filter(|library| !self.found.contains(library)).cloned().collect();
            }
        }
        if self.left.is_empty() {
            return None;
        }
        let library = self.left.remove(0);
        self.trying = Some((id, library.clone()));
        Some([self.found.clone(), vec![library]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn what_may_act_is_told_from_what_does_not() {
        for (value, stay, go) in [
            ("", &[] as &[&str], &[] as &[&str]),
            ("pg_stat_statements, auto_explain", &["pg_stat_statements", "auto_explain"], &[]),
            ("pg_stat_statements,pg_cron", &["pg_stat_statements"], &["pg_cron"]),
            ("$libdir/auto_explain.so, \"odd,name\" ,", &["$libdir/auto_explain.so"], &["\"odd,name\""]),
        ] {
            assert_eq!(Preloaded::of(value), Preloaded { stay: list(stay), go: list(go) }, "{value}");
        }
        assert_eq!(Preloaded::of("'x', /opt/lib/pg_cron.so").names(), "'x', pg_cron");
    }

    #[test]
    fn libraries_are_tried_until_replay_goes_on() {
        let mut search = Search::new(&list(&["a", "b", "c"]), vec![]);
        assert_eq!(search.next(128), Some(list(&["a"])));
        assert_eq!(search.next(128), Some(list(&["b"])));
        // 128 was b's; now another manager is missing, and a is tried again.
        assert_eq!(search.next(129), Some(list(&["b", "a"])));
        assert_eq!(search.next(129), Some(list(&["b", "c"])));
        assert_eq!(search.next(129), None);
        assert_eq!(Search::new(&[], vec![]).next(128), None);
    }
}
