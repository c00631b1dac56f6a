//! How far a phase is: a bar on a terminal, a line every few seconds elsewhere, or nothing.
//!
//! Guarantees: it never fails and never blocks the work for long; everything goes to standard error; no thread is
//! started (the coordinator forks). Others who write there do it by [`beside`], which takes the bar away meanwhile.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::{Out, escape, human_bytes, human_count, human_duration, locale_is_utf8};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The bar that is on the screen.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Does `write`, which prints whole lines on standard error, with the bar taken away meanwhile.
pub fn beside<T>(write: impl FnOnce() -> T) -> T {
    let bar = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn show(bar: Option<ProgressBar>) {
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar that is drawn again and again.
    Bar,
    /// Plain lines.
    Lines,
    /// Not at all.
    Silent,
}

impl ProgressMode {
    /// What suits standard error, unless `silent` (`--no-progress`, `-q`) was asked for.
    pub fn detect(silent: bool) -> ProgressMode {
        use std::io::IsTerminal;
        match (silent, std::io::stderr().is_terminal()) {
            (true, _) => ProgressMode::Silent,
            (false, true) => ProgressMode::Bar,
            (false, false) => ProgressMode::Lines,
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things of this name, in the plural ("segments").
    Count(&'static str),
}

impl Unit {
    fn amount(self, done: u64) -> String {
        match self {
            Unit::Bytes => human_bytes(done),
            Unit::Count(name) => format!("{} {name}", human_count(done)),
        }
    }
}

/// Shows one phase after the other.
pub struct Progress {
    mode: ProgressMode,
    unicode: bool,
    out: Out,
    phase: Option<Phase>,
}

struct Phase {
    name: String,
    total: Option<u64>,
    unit: Unit,
    done: u64,
    begun: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows progress on standard error.
    pub fn new(mode: ProgressMode) -> Progress {
        Progress { mode, unicode: locale_is_utf8(), out: Out::stderr(), phase: None }
    }

    /// Begins a phase; one that is still open ends. `total` is in `unit`, if it is known.
    pub fn start(&mut self, phase: &str, total: Option<u64>, unit: Unit) {
        self.start_at(Instant::now(), phase, total, unit);
    }

    /// `done` of the total is done; `detail` is the file or position at work.
    pub fn update(&mut self, done: u64, detail: &str) {
        self.update_at(Instant::now(), done, detail);
    }

    /// Ends the phase.
    pub fn finish(&mut self) {
        self.finish_at(Instant::now());
    }

    fn start_at(&mut self, now: Instant, phase: &str, total: Option<u64>, unit: Unit) {
        self.finish_at(now);
        let name = printable(phase, self.unicode);
        let bar = (self.mode == ProgressMode::Bar).then(|| bar(&name, total, self.unicode));
        if bar.is_some() {
            show(bar.clone());
        }
        self.phase = Some(Phase { name, total, unit, done: 0, begun: now, said: now, bar });
    }

    fn update_at(&mut self, now: Instant, done: u64, detail: &str) {
        let Some(phase) = &mut self.phase else { return };
        phase.done = done;
        let detail = printable(detail, self.unicode);
        match self.mode {
            ProgressMode::Silent => {}
            ProgressMode::Bar => {
                if let Some(bar) = &phase.bar {
                    bar.set_message(line(phase, now, &detail));
                    bar.set_position(done);
                }
            }
            ProgressMode::Lines if now.duration_since(phase.said) >= LINE_EVERY => {
                phase.said = now;
                self.out.line(&line(phase, now, &detail));
            }
            ProgressMode::Lines => {}
        }
    }

    fn finish_at(&mut self, now: Instant) {
        let Some(phase) = self.phase.take() else { return };
        if let Some(bar) = &phase.bar {
            show(None);
            bar.finish_and_clear();
        }
        // Nothing that could be counted was done: the step's own line says enough.
        if self.mode != ProgressMode::Silent && phase.done > 0 {
            let took = human_duration(now.duration_since(phase.begun));
            self.out.line(&format!("{}: {} in {took}", phase.name, phase.unit.amount(phase.done)));
        }
    }
}

impl Drop for Progress {
    /// An error on the way must not leave half a bar on the screen.
    fn drop(&mut self) {
        if let Some(bar) = self.phase.take().and_then(|phase| phase.bar) {
            show(None);
            bar.finish_and_clear();
        }
    }
}

/// `text` as this terminal can show it.
fn printable(text: &str, unicode: bool) -> String {
    let safe = escape(text);
    if unicode { safe.into_owned() } else { safe.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect() }
}

/// `extract: 1.2 GiB of 3.4 GiB (35%), 120 MiB/s, 18 s left: base/5/1259`
fn line(phase: &Phase, now: Instant, detail: &str) -> String {
    let elapsed = now.duration_since(phase.begun);
    let rate = per_second(phase.done, elapsed);
    let mut text = format!("{}: {}", phase.name, phase.unit.amount(phase.done));
    if let Some(total) = phase.total.filter(|total| *total > 0) {
        let percent = u128::from(phase.done) * 100 / u128::from(total);
        text += &format!(" of {} ({}%)", phase.unit.amount(total), percent.min(100));
    }
    if rate > 0 {
        text += &format!(", {}/s", phase.unit.amount(rate));
        if let Some(left) = phase.total.and_then(|total| total.checked_sub(phase.done)).filter(|left| *left > 0) {
            text += &format!(", {} left", human_duration(Duration::from_secs(left.div_ceil(rate))));
        }
    }
    if detail.is_empty() { text } else { format!("{text}: {detail}") }
}

/// Units a second, rounded down.
fn per_second(done: u64, elapsed: Duration) -> u64 {
    match elapsed.as_millis() {
        0 => 0,
        millis => u64::try_from(u128::from(done) * 1000 / millis).unwrap_or(u64::MAX),
    }
}

fn bar(name: &str, total: Option<u64>, unicode: bool) -> ProgressBar {
    // The style comes first: every change of the bar may draw it.
    let style = ProgressStyle::with_template(template(total)).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = if unicode { style.progress_chars("█▉▊▋▌▍▎▏ ") } else { style.progress_chars("=> ").tick_chars("|/-\\ ") };
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10)).with_style(style).with_message(name.to_string())
}

/// The words are those of [`line`], cut to the terminal's width.
fn template(total: Option<u64>) -> &'static str {
    if total.is_some() { "[{bar:24}] {wide_msg}" } else { "{spinner} {wide_msg}" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::Kept;

    fn progress(mode: ProgressMode, kept: &Kept) -> Progress {
        Progress { mode, unicode: false, out: Out::new(Box::new(kept.clone()), "standard error", false), phase: None }
    }

    #[test]
    fn a_line_every_five_seconds_and_one_at_the_end() {
        let (kept, begun) = (Kept::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut progress = progress(ProgressMode::Lines, &kept);
        progress.start_at(begun, "extract", Some(1000 << 20), Unit::Bytes);
        for second in 1..=10 {
            progress.update_at(at(second), second * (20 << 20), "base/5/12\x1b[2J");
        }
        progress.update_at(at(12), 1000 << 20, "");
        progress.finish_at(at(14));
        progress.finish_at(at(15));
        assert_eq!(
            kept.lines(),
            [
                "extract: 100 MiB of 1000 MiB (10%), 20 MiB/s, 45 s left: base/5/12\\x1b[2J",
                "extract: 200 MiB of 1000 MiB (20%), 20 MiB/s, 40 s left: base/5/12\\x1b[2J",
                "extract: 1000 MiB in 14 s",
            ]
        );
    }

    #[test]
    fn without_a_total_and_beyond_it() {
        let (kept, begun) = (Kept::default(), Instant::now());
        let mut progress = progress(ProgressMode::Lines, &kept);
        progress.start_at(begun, "replay", None, Unit::Count("segments"));
        progress.update_at(begun + Duration::from_secs(6), 3000, "0/5");
        progress.start_at(begun + Duration::from_secs(7), "check", Some(0), Unit::Count("files"));
        progress.update_at(begun + Duration::from_secs(13), 0, "");
        progress.start_at(begun + Duration::from_secs(14), "copy", Some(2), Unit::Count("files"));
        progress.update_at(begun + Duration::from_secs(20), 5, "");
        assert_eq!(
            kept.lines(),
            [
                "replay: 3,000 segments, 500 segments/s: 0/5",
                "replay: 3,000 segments in 7 s",
                "check: 0 files",
                "copy: 5 files of 2 files (100%)",
            ]
        );
    }

    #[test]
    fn plain_locales_get_plain_text() {
        assert_eq!(printable("é\u{1b}東", false), "?\\x1b?");
        assert_eq!(printable("é\u{1b}東", true), "é\\x1b東");
    }

    #[test]
    fn silence_is_silent() {
        let kept = Kept::default();
        let mut progress = progress(ProgressMode::Silent, &kept);
        progress.start("extract", Some(5), Unit::Bytes);
        progress.update_at(Instant::now() + Duration::from_secs(60), 3, "x");
        progress.finish();
        progress.update(9, "after the end");
        assert_eq!(kept.lines(), Vec::<String>::new());
        assert_eq!(ProgressMode::detect(true), ProgressMode::Silent);
    }

    #[test]
    fn the_bar_follows_and_its_templates_are_sound() {
        for total in [None, Some(0), Some(10)] {
            assert!(ProgressStyle::with_template(template(total)).is_ok());
            for unicode in [false, true] {
                let bar = bar("extract", total, unicode);
                bar.set_position(20);
                assert_eq!((bar.position(), bar.length()), (20, total));
                bar.finish_and_clear();
            }
        }
        let kept = Kept::default();
        let mut progress = progress(ProgressMode::Bar, &kept);
        progress.start("extract", Some(10), Unit::Count("files"));
        progress.update(4, "a");
        let bar = progress.phase.as_ref().unwrap().bar.as_ref().unwrap();
        assert_eq!(bar.position(), 4);
        assert!(bar.message().starts_with("extract: 4 files of 10 files (40%)"), "{}", bar.message());
        assert!(SHOWN.lock().unwrap().is_some());
        assert_eq!(beside(|| 5), 5);
        progress.finish();
        assert!(SHOWN.lock().unwrap().is_none());
        assert_eq!(kept.lines(), ["extract: 4 files in 0 s"]);
    }
}
