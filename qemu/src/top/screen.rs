//! The rows on a terminal.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Block, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};

use super::view::{COLUMNS, View};

/// The terminal, while it is used. Its former content comes back when this is dropped.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal over.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { terminal: ratatui::try_init().context("cannot use the terminal")? })
    }

    /// Shows this.
    pub(crate) fn show(&mut self, title: &str, view: &View) -> Result<()> {
        self.terminal.draw(|frame| draw(frame, title, view)).context("cannot draw")?;
        Ok(())
    }

    /// **Blocking** until `deadline`, or until a key says that it is enough: then true. The
    /// terminal does not make a signal of Ctrl-C meanwhile.
    pub(crate) fn is_enough(&self, deadline: Instant) -> Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !event::poll(left.min(Duration::from_millis(100)))? {
                return Ok(false);
            }
            if let Event::Key(key) = event::read()?
                && ends(key)
            {
                return Ok(true);
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Whether a key means that it is enough.
fn ends(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') => control,
        KeyCode::Char('q') | KeyCode::Esc => true,
        _ => false,
    }
}

fn draw(frame: &mut Frame<'_>, title: &str, view: &View) {
    let counters = view.counters.len().div_ceil(2) as u16;
    let [head, middle, slots, rest] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(counters + 2),
        Constraint::Length(view.slots.len() as u16 + 2),
        Constraint::Min(3),
    ])
    .areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(format!("{title}: {}; q ends", view.machine)), head);

    let halves = Layout::horizontal([Constraint::Percentage(50); 2]).split(middle);
    let (left, right) = view.counters.split_at(counters.into());
    for (part, area) in [left, right].into_iter().zip(halves.iter()) {
        let rows = part.iter().map(|cells| Row::new(cells.clone()));
        let widths = [Constraint::Length(16), Constraint::Length(12), Constraint::Min(12)];
        let table = Table::new(rows, widths).block(Block::bordered().title("a second, and all"));
        frame.render_widget(table, *area);
    }

    let lines: Vec<_> =
        view.slots.iter().enumerate().map(|(number, slots)| format!("{number} {slots}")).collect();
    let block = Block::bordered().title("slots of each processor");
    frame.render_widget(Paragraph::new(lines.join("\n")).block(block), slots);

    let widths = COLUMNS.iter().enumerate().map(|(index, name)| match index {
        0 => Constraint::Length(1),
        1 => Constraint::Min(16),
        _ => Constraint::Length(name.len().max(6) as u16),
    });
    let rows = view.environments.iter().map(|cells| Row::new(cells.clone()));
    let table = Table::new(rows, widths)
        .header(Row::new(COLUMNS).style(bold))
        .block(Block::bordered().title("environments"));
    frame.render_widget(table, rest);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::view::tests::samples;

    #[test]
    fn everything_is_on_the_screen() {
        let [first, second] = samples();
        let view = View::new(Some(&first), &second);
        let mut terminal = Terminal::new(TestBackend::new(110, 24)).unwrap();
        terminal.draw(|frame| draw(frame, "machine 7", &view)).unwrap();
        let text = terminal.backend().to_string();
        for words in ["machine 7: 1 processor", "calls ", "ab.ba", "kvstore", "ticks in ring 0"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        // Smaller ones must not fail either.
        for (width, height) in [(1, 1), (20, 5), (80, 10)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, "machine 7", &view)).unwrap();
        }
    }

    #[test]
    fn keys_end_it() {
        let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
        assert!(ends(plain(KeyCode::Char('q'))) && ends(plain(KeyCode::Esc)));
        assert!(ends(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!ends(plain(KeyCode::Char('c'))) && !ends(plain(KeyCode::Enter)));
    }
}
