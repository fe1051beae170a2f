//! Tables for people: aligned, one line per row, cut to the terminal's width.
//!
//! A long listing comes page by page; columns never get narrower from one page to the next, so that they line up.

use crate::screen::Screen;
use crate::words;
use comfy_table::{CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Width};
use pushpull::model::State;
use std::io;

/// The space between two columns.
const GAP: u16 = 2;

/// A column's title and nature.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Short texts, never cut.
    Text(&'static str),
    /// Numbers, to the right and never cut.
    Number(&'static str),
    /// Texts of any length, which share the room that the others leave.
    Long(&'static str),
}

/// One place of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    colour: Option<Color>,
}

/// A table that grows downwards.
pub struct Table {
    columns: Vec<Column>,
    /// The widest content so far.
    widths: Vec<u16>,
    has_head: bool,
}

impl Cell {
    pub fn new(text: impl AsRef<str>) -> Cell {
        Cell { text: words::cell(text.as_ref()), colour: None }
    }

    pub fn number(number: u64) -> Cell {
        Cell::new(words::grouped(number))
    }

    /// A number that is better nothing: empty when zero, red when not.
    pub fn bad(number: u64) -> Cell {
        Cell { colour: (number > 0).then_some(Color::Red), ..Cell::number(number) }
    }

    /// A job's state in its colour.
    pub fn state(word: &str) -> Cell {
        let colour = State::from_word(word).and_then(|state| match state {
            State::Succeeded => Some(Color::Green),
            State::Failed => Some(Color::Red),
            State::Cancelled => Some(Color::Yellow),
            State::Running => Some(Color::Cyan),
            State::Queued | State::Delayed | State::Blocked => None,
        });
        Cell { colour, ..Cell::new(word) }
    }
}

impl Table {
    pub fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), widths: vec![0; columns.len()], has_head: false }
    }

    /// Appends rows, below the head if they are the first.
    pub fn print(&mut self, screen: &mut Screen, rows: Vec<Vec<Cell>>) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (width, colour) = (screen.width, screen.colour);
        self.render(rows, width, colour).lines().try_for_each(|line| screen.line(line.trim_end()))
    }

    /// Whether anything was printed.
    pub fn is_empty(&self) -> bool {
        !self.has_head
    }

    fn render(&mut self, rows: Vec<Vec<Cell>>, width: Option<u16>, colour: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_truncation_indicator("…").force_no_tty();
        if colour {
            table.enforce_styling();
        }
        if !self.has_head {
            self.has_head = true;
            table.add_row(one_line(self.columns.iter().map(|column| Cell::new(column.title()))));
        }
        for row in rows {
            table.add_row(one_line(row));
        }
        for (widest, now) in self.widths.iter_mut().zip(table.column_max_content_widths()) {
            *widest = now.max(*widest);
        }
        self.arrange(&mut table, width);
        table.to_string()
    }

    /// Gives each column its width.
    fn arrange(&self, table: &mut comfy_table::Table, width: Option<u16>) {
        let room = width.map(|width| self.room_of_long_ones(width));
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(GAP));
        }
        for ((at, column), widest) in self.columns.iter().enumerate().zip(&self.widths) {
            let shown = match (column, room) {
                (Column::Long(_), Some(room)) => *widest.min(&room),
                (Column::Long(_), None) | (Column::Text(_) | Column::Number(_), _) => *widest,
            };
            let Some(made) = table.column_mut(at) else { continue };
            made.set_padding((0, GAP));
            made.set_constraint(ColumnConstraint::Absolute(Width::Fixed(shown.saturating_add(GAP))));
            if let Column::Number(_) = column {
                made.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    /// How wide a long column may be: those that need less than their share leave the rest to the others.
    fn room_of_long_ones(&self, width: u16) -> u16 {
        let is_long = |column: &Column| matches!(column, Column::Long(_));
        let gaps =
            GAP.saturating_mul(u16::try_from(self.columns.len().saturating_sub(1)).unwrap_or(u16::MAX));
        let mut left = width.saturating_sub(gaps);
        let mut long = Vec::new();
        for (column, widest) in self.columns.iter().zip(&self.widths) {
            if is_long(column) {
                long.push(*widest);
            } else {
                left = left.saturating_sub(*widest);
            }
        }
        long.sort_unstable();
        let mut waiting = u16::try_from(long.len()).unwrap_or(u16::MAX);
        for widest in long {
            let share = left / waiting;
            if widest > share {
                return share.max(8);
            }
            left -= widest;
            waiting -= 1;
        }
        u16::MAX
    }
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Text(title) | Column::Number(title) | Column::Long(title) => title,
        }
    }
}

fn one_line(cells: impl IntoIterator<Item = Cell>) -> Row {
    let mut row = Row::new();
    for cell in cells {
        let made = comfy_table::Cell::new(cell.text);
        row.add_cell(match cell.colour {
            Some(colour) => made.fg(colour),
            None => made,
        });
    }
    row.max_height(1);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(table: &mut Table, rows: &[[&str; 3]], width: Option<u16>) -> Vec<String> {
        let rows = rows.iter().map(|row| row.iter().map(Cell::new).collect()).collect();
        table.render(rows, width, false).lines().map(|line| line.trim_end().to_owned()).collect()
    }

    fn table() -> Table {
        Table::new(&[Column::Number("ID"), Column::Text("STATE"), Column::Long("COMMAND")])
    }

    #[test]
    fn columns_are_aligned_and_numbers_to_the_right() {
        let shown = lines(&mut table(), &[["7", "failed", "a"], ["1,000", "running", "b c"]], None);
        assert_eq!(shown, ["   ID  STATE    COMMAND", "    7  failed   a", "1,000  running  b c"]);
    }

    #[test]
    fn rows_keep_to_one_line_of_the_terminal() {
        let long = "python fit.py --seed 117 --rate 0.5 --out /data/results/seed117/final.parquet";
        for width in [30, 40, 79, 80, 200] {
            let shown = lines(
                &mut table(),
                &[["7", "failed", long], ["8", "queued", "短い漢字のテキスト短い漢字のテキスト"]],
                Some(width),
            );
            assert_eq!(shown.len(), 3, "{width}: {shown:?}");
            assert!(shown[1].chars().count() <= usize::from(width), "{width}: {shown:?}");
            assert_eq!(shown[1].contains('…'), width < 93, "{width}: {shown:?}");
            assert!(shown[1].starts_with(" 7  failed  python"), "{width}: {shown:?}");
        }
    }

    #[test]
    fn the_next_page_lines_up_and_has_no_head() {
        let mut table = table();
        lines(&mut table, &[["1,000", "succeeded", "x"]], Some(60));
        assert_eq!(lines(&mut table, &[["7", "failed", "y"]], Some(60)), ["    7  failed     y"]);
    }

    #[test]
    fn control_characters_and_line_breaks_stay_in_their_row() {
        let shown = lines(&mut table(), &[["7", "failed", "a\nb\u{1b}[2J\tc"]], None);
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[1].ends_with(r"a\nb\u{1b}[2J\tc"), "{shown:?}");
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        let row = || vec![vec![Cell::number(7), Cell::state("failed"), Cell::new("x")]];
        assert!(!table().render(row(), None, false).contains('\u{1b}'));
        assert!(table().render(row(), None, true).contains("\u{1b}["));
    }
}
