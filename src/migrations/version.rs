//! Versions as people type them.

use super::reading::Mark;
use super::{Tool, Typed};

/// How well a word fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// It is the beginning.
    Beginning,
    /// It is the same.
    Same,
}

/// Whether `typed` means the migration of `mark`, in the words of `tool`.
pub fn fit(tool: &Tool, typed: &str, mark: &Mark) -> Option<Fit> {
    let typed = typed.trim();
    if typed.is_empty() {
        return None;
    }
    let words = || std::iter::once(mark.version.as_str()).chain(mark.aliases.iter().map(String::as_str));
    if words().any(|word| word == typed) {
        return Some(Fit::Same);
    }
    match tool.typed {
        Typed::Number => {
            let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.trim_start_matches('0').to_string());
            // `000123_flatten_names`, as the file is called.
            let leading: String = typed.trim_start_matches('V').chars().take_while(char::is_ascii_digit).collect();
            let rest = typed.trim_start_matches('V').get(leading.len()..).unwrap_or_default();
            let whole = !leading.is_empty() && (rest.is_empty() || rest.starts_with(['_', '-', '.']));
            (whole && number(&leading) == number(&mark.version)).then_some(Fit::Same)
        }
        Typed::Dotted => {
            let typed = typed.strip_prefix('V').unwrap_or(typed);
            let same = parts(typed).is_some() && parts(typed) == parts(&mark.version);
            same.then_some(Fit::Same).or_else(|| beginning(typed, mark.name.as_deref().unwrap_or_default()))
        }
        Typed::Text => words().find_map(|word| beginning(typed, word)),
        // Behind the application's name only: `0007` alone could be of any.
        Typed::App => {
            let (app, _) = typed.split_once(['.', '/', ' '])?;
            words()
                .filter(|word| word.len() > app.len() + 1)
                .find_map(|word| beginning(typed, word).filter(|_| typed.len() > app.len() + 1))
        }
    }
}

fn beginning(typed: &str, word: &str) -> Option<Fit> {
    (typed.len() >= 2 && word.starts_with(typed)).then_some(Fit::Beginning)
}

/// `1.02.0` and `1.2` are one version: numbers, and zeros at the end mean nothing.
fn parts(version: &str) -> Option<Vec<u128>> {
    let mut parts: Vec<u128> = version.split(['.', '_']).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    while parts.last() == Some(&0) {
        parts.pop();
    }
    Some(parts)
}

/// Positions of the marks that `typed` means: those that are the same, else those that begin so.
pub fn find<'a>(tool: &Tool, typed: &str, marks: impl Iterator<Item = &'a Mark>) -> Vec<usize> {
    let fits: Vec<(usize, Fit)> = marks.enumerate().filter_map(|(index, mark)| Some((index, fit(tool, typed, mark)?))).collect();
    let best = fits.iter().map(|(_, fit)| *fit).max();
    fits.into_iter().filter(|(_, fit)| Some(*fit) == best).map(|(index, _)| index).collect()
}

/// The versions that are most like `typed`, at most `most`.
pub fn nearest<'a>(typed: &str, marks: impl Iterator<Item = &'a Mark>, most: usize) -> Vec<String> {
    let distance = |mark: &Mark| match (typed.parse::<u64>(), mark.version.parse::<u64>()) {
        (Ok(a), Ok(b)) => usize::try_from(a.abs_diff(b)).unwrap_or(usize::MAX),
        _ => {
            let words = std::iter::once(&mark.version).chain(&mark.aliases).chain(&mark.name);
            words.map(|word| strsim::damerau_levenshtein(typed, word)).min().unwrap_or(usize::MAX)
        }
    };
    let mut all: Vec<(usize, String)> = marks.map(|mark| (distance(mark), mark.version.clone())).collect();
    all.sort();
    all.dedup_by(|a, b| a.1 == b.1);
    all.into_iter().take(most).map(|(_, version)| version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::tool;

    fn found(id: &str, typed: &str, marks: &[Mark]) -> Vec<usize> {
        find(tool(id).unwrap(), typed, marks.iter())
    }

    #[test]
    fn numbers_without_their_zeros() {
        let marks = ["12", "123", "124"].map(Mark::done);
        assert_eq!(found("golang-migrate", "123", &marks), [1]);
        assert_eq!(found("golang-migrate", "000123", &marks), [1]);
        assert_eq!(found("golang-migrate", "000123_flatten_names.up.sql", &marks), [1]);
        assert_eq!(found("golang-migrate", "1", &marks), Vec::<usize>::new());
        assert_eq!(found("golang-migrate", "123x", &marks), Vec::<usize>::new());
        assert_eq!(found("golang-migrate", "", &marks), Vec::<usize>::new());
        assert_eq!(nearest("125", marks.iter(), 2), ["124", "123"]);
    }

    #[test]
    fn dots_and_beginnings() {
        let marks = ["1.2", "1.10", "1.2.1"].map(Mark::done);
        assert_eq!(found("flyway", "1.02", &marks), [0]);
        assert_eq!(found("flyway", "V1.2.0", &marks), [0]);
        let marks = ["ae1027a6acf", "ae9f"].map(Mark::done);
        assert_eq!(found("alembic", "ae1", &marks), [0]);
        assert_eq!(found("alembic", "ae", &marks), [0, 1], "which one is for the person to say");
    }

    #[test]
    fn django_wants_the_application() {
        let marks = ["shop.0007_names", "auth.0007_alter"].map(|name| Mark::done(name).also(name.replacen('.', "/", 1)));
        assert_eq!(found("django", "shop.0007", &marks), [0]);
        assert_eq!(found("django", "auth/0007_alter", &marks), [1]);
        assert_eq!(found("django", "0007", &marks), Vec::<usize>::new());
        assert_eq!(found("django", "shop.", &marks), Vec::<usize>::new());
        assert_eq!(nearest("shop.0008_names", marks.iter(), 1), ["shop.0007_names"]);
    }
}
