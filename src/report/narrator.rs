//! Tells the steps of a run while they happen: one line a step on standard error, a bar below it on a terminal.
//!
//! Guarantees: nothing with `-q`; a bar is cleared before the next line; a remark is said at once and stands in the
//! report too, so that `-q` loses nothing.

use super::progress::{self, Progress, ProgressMode, Unit};
use super::terminal::{Out, escape};
use crate::run::executor::Narrator;
use crate::run::owner;

/// The narrator of a verb that acts.
pub struct StepNarrator {
    out: Out,
    quiet: bool,
    progress: Progress,
    /// Number and count of the step, as its bar is called.
    step: String,
    /// A bar was begun, with this total.
    bar: Option<Option<u64>>,
}

impl StepNarrator {
    /// Speaks on standard error. `quiet`: not at all (`-q`); `no_progress`: steps without bars.
    pub fn new(quiet: bool, no_progress: bool) -> StepNarrator {
        StepNarrator::speaking(Out::stderr(), quiet, Progress::new(ProgressMode::detect(quiet || no_progress)))
    }

    fn speaking(out: Out, quiet: bool, progress: Progress) -> StepNarrator {
        StepNarrator { out, quiet, progress, step: String::new(), bar: None }
    }

    /// The last step ended: its bar goes.
    pub fn finish(&mut self) {
        if self.bar.take().is_some() {
            self.progress.finish();
        }
    }

    fn say(&mut self, words: &str) {
        if !self.quiet {
            let StepNarrator { out, .. } = self;
            progress::beside(|| out.line(words));
        }
    }
}

impl Narrator for StepNarrator {
    fn step(&mut self, number: usize, of: usize, text: &str) {
        self.finish();
        self.step = heading(number, of);
        let line = format!("{} {}", self.step, escape(text));
        self.say(&line);
    }

    fn progress(&mut self, progress: owner::Progress) {
        // A total that becomes known later is worth a new bar.
        if self.bar != Some(progress.total) {
            self.bar = Some(progress.total);
            self.progress.start(&self.step, progress.total, Unit::Bytes);
        }
        self.progress.update(progress.done, "");
    }

    fn remark(&mut self, text: &str) {
        let line = format!("note: {}", escape(text));
        self.say(&line);
    }
}

/// `[ 6/14]`: as wide for every step of a run.
fn heading(number: usize, of: usize) -> String {
    let digits = of.to_string().len();
    format!("[{number:>digits$}/{of}]")
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::report::fixtures::Kept;

    fn told(quiet: bool) -> String {
        let kept = Kept::default();
        let out = Out::new(Box::new(kept.clone()), "standard error", false);
        let mut narrator = StepNarrator::speaking(out, quiet, Progress::new(ProgressMode::Silent));
        narrator.step(5, 14, "copy WAL that the archive lacks");
        narrator.step(6, 14, "unpack base\x1b.tar beside /srv/main");
        narrator.progress(owner::Progress { done: 1, total: None });
        narrator.progress(owner::Progress { done: 2, total: Some(4) });
        assert_eq!(narrator.bar, Some(Some(4)));
        narrator.remark("two\nlines");
        narrator.step(14, 14, "done");
        assert_eq!(narrator.bar, None);
        narrator.finish();
        kept.text()
    }

    #[test]
    fn a_line_for_each_step() {
        assert_eq!(
            told(false),
            "[ 5/14] copy WAL that the archive lacks\n[ 6/14] unpack base\\x1b.tar beside /srv/main\nnote: two\\nlines\n[14/14] done\n"
        );
        assert_eq!(told(true), "");
        assert_eq!((heading(3, 9), heading(3, 100)), ("[3/9]".into(), "[  3/100]".into()));
    }
}
