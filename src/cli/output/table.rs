//! Columns of text for a terminal.

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Column {
    name: &'static str,
    align: Align,
}

/// A column of this name.
pub(in super::super) fn column(name: &'static str, align: Align) -> Column {
    Column { name, align }
}

/// Rows of cells under named columns.
#[derive(Clone, Debug)]
pub(in super::super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// What stands between two columns.
const GAP: &str = "  ";

impl Table {
    /// A table without rows.
    pub(in super::super) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub(in super::super) fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Adds several.
    pub(in super::super) fn rows(&mut self, rows: impl IntoIterator<Item = Vec<String>>) {
        for cells in rows {
            self.row(&cells);
        }
    }

    /// The text, a line for each row.
    pub(super) fn render(&self, header: bool, colours: bool) -> String {
        let mut out = String::new();
        let widths = self.widths(header);
        if header {
            let names = self.columns.iter().map(|column| column.name);
            let line = self.line(names, &widths);
            let (bold, plain) = if colours { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
            out.extend([bold, &line, plain, "\n"]);
        }
        for row in &self.rows {
            out.push_str(&self.line(row.iter().map(String::as_str), &widths));
            out.push('\n');
        }
        out
    }

    fn widths(&self, header: bool) -> Vec<usize> {
        let mut widths: Vec<usize> =
            self.columns.iter().map(|it| if header { it.name.len() } else { 0 }).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
        let padded =
            cells.zip(&self.columns).zip(widths).map(|((cell, column), width)| {
                match column.align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                }
            });
        padded.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    }
}

/// What a server says must not move the cursor or change colours.
fn printable(cell: &str) -> String {
    if !cell.chars().any(char::is_control) {
        return cell.to_owned();
    }
    let escaped = |char: char| {
        if char.is_control() { char.escape_default().to_string() } else { char.to_string() }
    };
    cell.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec![column("NAME", Align::Left), column("N", Align::Right)]);
        table.rows([
            vec!["größe".to_owned(), "7".to_owned()],
            vec!["a".to_owned(), "10".to_owned()],
        ]);
        table
    }

    #[test]
    fn words_stand_left_and_numbers_right() {
        assert_eq!(table().render(true, false), "NAME    N\ngröße   7\na      10\n");
        assert_eq!(table().render(false, false), "größe   7\na      10\n");
        assert!(table().render(true, true).starts_with("\u{1b}[1mNAME    N\u{1b}[0m\n"));
    }

    #[test]
    fn what_a_server_says_does_not_reach_the_terminal_as_it_is() {
        let mut table = Table::new(vec![column("NAME", Align::Left)]);
        table.row(&["a\u{1b}[2Jb\n".to_owned()]);
        assert_eq!(table.render(false, false), "a\\u{1b}[2Jb\\n\n");
    }
}
