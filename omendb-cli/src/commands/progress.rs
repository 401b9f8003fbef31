//! How far a long command is: a bar on a terminal, a line now and then elsewhere, nothing for programs.

use crate::output::{count, rate};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of a command over rows; the share done is measured by whatever unit is known beforehand (bytes, rows).
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    verb: &'static str,
    start: Instant,
    last_line: Instant,
    first_rows: u64,
}

impl Progress {
    /// Starts the clock. `total` units are ahead; `rows` rows were done before.
    pub fn start(verb: &'static str, total: u64, rows: u64, silent: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !silent).then(|| {
            let bar = ProgressBar::new(total.max(1));
            let template = "{prefix} {bar:30} {percent:>3} %  {msg}  {elapsed} + {eta}";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(verb);
            bar
        });
        let now = Instant::now();
        Progress { bar, lines: !terminal && !silent, verb, start: now, last_line: now, first_rows: rows }
    }

    /// `done` of the units and `rows` rows are done.
    pub fn update(&mut self, done: u64, rows: u64) {
        let words =
            || format!("{} rows, {} rows/s", count(rows), count(rate(rows - self.first_rows, self.start.elapsed())));
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(words());
        }
        if self.lines && self.last_line.elapsed() >= LINE_EVERY {
            eprintln!("{}: {}", self.verb, words());
            self.last_line = Instant::now();
        }
    }

    /// Takes the bar away and returns the time since the start.
    pub fn finish(self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.start.elapsed()
    }
}
