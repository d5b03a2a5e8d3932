//! A sheet on the screen: a title, the names of the columns, and as many rows and columns as fit.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::super::super::output::Align;
use super::super::keys::Order;
use super::super::sheet::Sheet;
use super::style;

/// Between two columns.
const GAP: u16 = 2;
/// A name is cut behind so many columns of the screen, where others have to fit beside it.
const NAME_MAX: u16 = 48;

/// A sheet, how it is sorted, and its first row on the screen.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) sheet: &'a Sheet,
    pub(super) sorted: Option<Order>,
    pub(super) first: usize,
}

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, title: &str, shown: Shown<'_>) {
    let [above, below] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(Line::from(title.to_owned()).bold()), above);
    let sheet = shown.sheet;
    let has_names = sheet.columns.iter().any(|(name, _)| !name.is_empty());
    let fit = usize::from(below.height).saturating_sub(usize::from(has_names));
    let rows = sheet.rows.iter().skip(shown.first).take(fit);
    let widths = widths(sheet, below.width);
    let aligned = |text: String, align: Align| {
        let text = Text::from(text);
        if align == Align::Right { text.right_aligned() } else { text }
    };
    let rows = rows.map(|row| {
        let cells = row.iter().zip(&sheet.columns).take(widths.len());
        Row::new(cells.map(|(cell, (_, align))| {
            Cell::from(aligned(cell.text.clone(), *align)).style(style(cell.mark))
        }))
    });
    let mut table =
        Table::new(rows, widths.iter().map(|width| Constraint::Length(*width))).column_spacing(GAP);
    if has_names {
        let columns = sheet.columns.iter().enumerate().take(widths.len());
        let names = columns.map(|(at, (name, align))| {
            let is_sorted = shown.sorted.is_some_and(|order| order.by == at);
            let style = if is_sorted { Style::new().reversed() } else { Style::new() };
            Cell::from(aligned((*name).to_owned(), *align)).style(style)
        });
        let bold = Style::new().add_modifier(Modifier::BOLD);
        table = table.header(Row::new(names).style(bold));
    }
    frame.render_widget(table, below);
}

/// The widths of as many columns as fit, from the left. All rows count, so that nothing jumps when
/// it is scrolled.
fn widths(sheet: &Sheet, room: u16) -> Vec<u16> {
    let width = |text: &str| u16::try_from(Line::from(text).width()).unwrap_or(u16::MAX);
    let mut widths: Vec<u16> = sheet.columns.iter().map(|(name, _)| width(name)).collect();
    for row in &sheet.rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(&cell.text));
        }
    }
    if widths.len() > 2
        && let Some(first) = widths.first_mut()
    {
        *first = (*first).min(NAME_MAX);
    }
    let mut used = 0_u16;
    let fit = widths.iter().position(|width| {
        let end = used.saturating_add(*width);
        used = end.saturating_add(GAP);
        end > room
    });
    match fit {
        None => widths,
        // Of the one that does not fit whole, a part is better than nothing if it is text.
        Some(at) => {
            let before: u16 = widths.iter().take(at).fold(0, |sum, width| sum + width + GAP);
            let left = room.saturating_sub(before);
            let is_text = sheet.columns.get(at).is_some_and(|(_, align)| *align == Align::Left);
            widths.truncate(at);
            if left > 0 && (at == 0 || is_text) {
                widths.push(left);
            }
            widths
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(columns: &[(&'static str, Align)]) -> Sheet {
        Sheet { columns: columns.to_vec(), rows: Vec::new() }
    }

    #[test]
    fn columns_that_do_not_fit_are_left_out_from_the_right() {
        let sheet = sheet(&[("NAME", Align::Left), ("AB", Align::Right), ("TEXT", Align::Left)]);
        assert_eq!(widths(&sheet, 100), [4, 2, 4]);
        assert_eq!(widths(&sheet, 14), [4, 2, 4]);
        assert_eq!(widths(&sheet, 13), [4, 2, 3]);
        assert_eq!(widths(&sheet, 10), [4, 2]);
        assert_eq!(widths(&sheet, 7), [4]);
        assert_eq!(widths(&sheet, 3), [3]);
        assert_eq!(widths(&sheet, 0), Vec::<u16>::new());
    }
}
