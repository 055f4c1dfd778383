//! Live progress: one line on standard error, if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::Watch;

/// Parts of a whole bar.
const WHOLE: u64 = 1000;

/// A bar on the terminal, and a question whether to end.
pub struct Bar<F: Fn() -> bool> {
    bar: ProgressBar,
    interrupted: F,
}

impl<F: Fn() -> bool> Bar<F> {
    /// A bar that asks `interrupted` whether to end.
    pub fn new(interrupted: F) -> Self {
        let bar = ProgressBar::new(WHOLE);
        let style = ProgressStyle::with_template("{prefix} [{bar:24}] {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, interrupted }
    }

    /// Removes the bar, so that other output can take its place.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl<F: Fn() -> bool> Watch for Bar<F> {
    fn interrupted(&self) -> bool {
        (self.interrupted)()
    }

    fn progress(&mut self, stage: &str, done: f64, text: &str) {
        if self.bar.is_finished() {
            self.bar.reset();
        }
        self.bar.set_prefix(stage.to_owned());
        self.bar.set_message(text.to_owned());
        self.bar.set_position((done.clamp(0.0, 1.0) * WHOLE as f64) as u64);
    }
}
