//! What keys do: the state of the screen that somebody types at. Nothing is drawn here.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A filter is no longer than this.
const FILTER_CHARS_MAX: usize = 100;
/// Rows that a page key moves by.
const PAGE_ROWS: usize = 10;

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    /// A little of everything.
    #[default]
    Overview,
    /// All topics.
    Topics,
    /// All groups.
    Groups,
    /// A Tidegate's metrics.
    Metrics,
}

impl Tab {
    /// All, in their order on the screen.
    pub(super) const ALL: [Tab; 4] = [Tab::Overview, Tab::Topics, Tab::Groups, Tab::Metrics];

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Tab::Overview => "overview",
            Tab::Topics => "topics",
            Tab::Groups => "groups",
            Tab::Metrics => "metrics",
        }
    }

    /// How many columns can be sorted by, and the one that is at first.
    fn columns(self) -> (usize, usize) {
        match self {
            // Its lists are of what is greatest.
            Tab::Overview => (0, 0),
            Tab::Topics => (9, 3),
            Tab::Groups => (10, 4),
            Tab::Metrics => (6, 1),
        }
    }
}

/// What a key asks for beside another picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing more.
    Nothing,
    /// A look now.
    Look,
    /// The end.
    Quit,
}

/// How a tab's rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The column; one that is not there is the last.
    pub(super) by: usize,
    pub(super) reversed: bool,
}

/// What was typed so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Controls {
    tab: Tab,
    orders: [Order; Tab::ALL.len()],
    /// What names must have in them.
    filter: String,
    /// Whether letters go to the filter.
    typing: bool,
    paused: bool,
    help: bool,
    /// The first row that is shown.
    top_row: usize,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            tab: Tab::default(),
            orders: Tab::ALL.map(|tab| Order { by: tab.columns().1, reversed: false }),
            filter: String::new(),
            typing: false,
            paused: false,
            help: false,
            top_row: 0,
        }
    }
}

impl Controls {
    /// What is looked at.
    pub(super) fn tab(&self) -> Tab {
        self.tab
    }

    /// How its rows are sorted, with so many columns.
    pub(super) fn order(&self, columns: usize) -> Order {
        let order = self.orders.get(self.tab as usize).copied();
        let Order { by, reversed } = order.unwrap_or(Order { by: 0, reversed: false });
        Order { by: by.min(columns.saturating_sub(1)), reversed }
    }

    /// What names must have in them.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Whether the filter is being typed.
    pub(super) fn is_typing(&self) -> bool {
        self.typing
    }

    /// Whether nothing is asked.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the keys are explained.
    pub(super) fn has_help(&self) -> bool {
        self.help
    }

    /// The first row that is shown of so many, of which so many fit: no more is scrolled than there
    /// is.
    pub(super) fn top_row(&mut self, rows: usize, fit: usize) -> usize {
        self.top_row = self.top_row.min(rows.saturating_sub(fit));
        self.top_row
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Asked {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Asked::Quit,
                KeyCode::Char('l') => Asked::Look,
                _ => Asked::Nothing,
            };
        }
        if self.typing {
            self.type_filter(key.code);
            return Asked::Nothing;
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Asked::Quit } else { Asked::Nothing };
        }
        match key.code {
            KeyCode::Char('q') => return Asked::Quit,
            KeyCode::Char(' ') => return Asked::Look,
            KeyCode::Char('p') => {
                self.paused = !self.paused;
                return if self.paused { Asked::Nothing } else { Asked::Look };
            }
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('<' | ',') => self.sort(false),
            KeyCode::Char('>' | '.') => self.sort(true),
            KeyCode::Char('r') => self.reverse(),
            code => self.go(code),
        }
        Asked::Nothing
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push(letter);
            }
            _ => {}
        }
        self.top_row = 0;
    }

    fn go(&mut self, code: KeyCode) {
        let at = self.tab as usize;
        let tabs = Tab::ALL.len();
        let rows = match code {
            KeyCode::Char(digit @ '1'..='4') => {
                return self.show(usize::from(digit as u8 - b'1'));
            }
            KeyCode::Tab | KeyCode::Right => return self.show((at + 1) % tabs),
            KeyCode::BackTab | KeyCode::Left => return self.show((at + tabs - 1) % tabs),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            KeyCode::Down | KeyCode::Char('j') => self.top_row.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.top_row.saturating_sub(1),
            KeyCode::PageDown => self.top_row.saturating_add(PAGE_ROWS),
            KeyCode::PageUp => self.top_row.saturating_sub(PAGE_ROWS),
            _ => return,
        };
        self.top_row = rows;
    }

    fn show(&mut self, tab: usize) {
        self.tab = Tab::ALL.get(tab).copied().unwrap_or_default();
        self.top_row = 0;
    }

    fn sort(&mut self, right: bool) {
        let (columns, _) = self.tab.columns();
        if let Some(order) = self.orders.get_mut(self.tab as usize).filter(|_| columns > 0) {
            let by = order.by.min(columns - 1);
            let step = if right { 1 } else { columns - 1 };
            *order = Order { by: (by + step) % columns, reversed: false };
        }
        self.top_row = 0;
    }

    fn reverse(&mut self) {
        if let Some(order) = self.orders.get_mut(self.tab as usize) {
            order.reversed = !order.reversed;
        }
        self.top_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(controls: &mut Controls, keys: &str) -> Asked {
        let mut asked = Asked::Nothing;
        for letter in keys.chars() {
            let code = match letter {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                '\u{8}' => KeyCode::Backspace,
                letter => KeyCode::Char(letter),
            };
            asked = controls.press(KeyEvent::new(code, KeyModifiers::NONE));
        }
        asked
    }

    #[test]
    fn tabs_are_reached_by_number_and_one_after_the_other() {
        let mut controls = Controls::default();
        assert_eq!(controls.tab(), Tab::Overview);
        for (keys, tab) in [
            ("3", Tab::Groups),
            ("\t", Tab::Metrics),
            ("\t", Tab::Overview),
            ("2", Tab::Topics),
            ("7", Tab::Topics),
        ] {
            press(&mut controls, keys);
            assert_eq!(controls.tab(), tab);
        }
        controls.press(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT));
        assert_eq!(controls.tab(), Tab::Overview);
        controls.press(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT));
        assert_eq!(controls.tab(), Tab::Metrics);
    }

    #[test]
    fn each_tab_has_its_own_order() {
        let mut controls = Controls::default();
        press(&mut controls, "2");
        assert_eq!(controls.order(9), Order { by: 3, reversed: false });
        press(&mut controls, ">>r");
        assert_eq!(controls.order(9), Order { by: 5, reversed: true });
        press(&mut controls, "3");
        assert_eq!(controls.order(10), Order { by: 4, reversed: false });
        press(&mut controls, "<<<<<");
        assert_eq!(controls.order(10).by, 9);
        assert_eq!(controls.order(5).by, 4, "there are fewer columns without metrics");
        press(&mut controls, "2");
        assert_eq!(controls.order(9).by, 5);
        press(&mut controls, "1>r");
        assert_eq!(controls.order(0).by, 0);
    }

    #[test]
    fn letters_of_a_filter_are_no_commands() {
        let mut controls = Controls::default();
        assert_eq!(press(&mut controls, "/qp1"), Asked::Nothing);
        assert!(controls.is_typing() && !controls.is_paused());
        assert_eq!(controls.filter(), "qp1");
        press(&mut controls, "\u{8}\u{8}\n");
        assert_eq!((controls.filter(), controls.is_typing()), ("q", false));
        assert_eq!(press(&mut controls, "\u{1b}"), Asked::Nothing);
        assert_eq!(controls.filter(), "");
        press(&mut controls, "/ab\u{1b}");
        assert_eq!((controls.filter(), controls.is_typing()), ("", false));
        press(&mut controls, &format!("/{}", "x".repeat(1_000)));
        assert_eq!(controls.filter().len(), FILTER_CHARS_MAX);
    }

    #[test]
    fn it_pauses_goes_on_explains_and_ends() {
        let mut controls = Controls::default();
        assert_eq!((press(&mut controls, "p"), controls.is_paused()), (Asked::Nothing, true));
        assert_eq!((press(&mut controls, "p"), controls.is_paused()), (Asked::Look, false));
        assert_eq!(press(&mut controls, " "), Asked::Look);
        assert_eq!((press(&mut controls, "?"), controls.has_help()), (Asked::Nothing, true));
        // Any key takes it away, and does nothing else.
        assert_eq!((press(&mut controls, "p"), controls.has_help()), (Asked::Nothing, false));
        assert!(!controls.is_paused());
        assert_eq!(press(&mut controls, "q"), Asked::Quit);
        assert_eq!(press(&mut controls, "?q"), Asked::Quit);
        press(&mut controls, "/");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(controls.press(interrupt), Asked::Quit);
    }

    #[test]
    fn rows_are_scrolled_as_far_as_there_are_any() {
        let mut controls = Controls::default();
        press(&mut controls, "2jjj");
        assert_eq!(controls.top_row(100, 10), 3);
        press(&mut controls, "k");
        assert_eq!(controls.top_row(100, 10), 2);
        press(&mut controls, "G");
        assert_eq!(controls.top_row(100, 10), 90);
        press(&mut controls, "k");
        assert_eq!(controls.top_row(100, 10), 89);
        assert_eq!(controls.top_row(5, 10), 0);
        press(&mut controls, "jj/a");
        assert_eq!(controls.top_row(100, 10), 0);
    }
}
