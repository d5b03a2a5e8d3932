//! What is drawn: pure from a picture and what was typed.

mod table;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use self::table::Shown;
use super::super::when;
use super::figures;
use super::keys::{Controls, Tab};
use super::model::Picture;
use super::sheet::{self, Sheet};

/// What is told to whoever looks, beside the picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    /// Where the cluster is asked.
    pub(super) server: String,
    /// The time between two looks, as text.
    pub(super) every: String,
    /// Why the last look failed.
    pub(super) error: Option<String>,
    /// For how many seconds a look has been waited for, if that is long.
    pub(super) waiting: Option<u64>,
}

/// Draws everything.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    picture: Option<&Picture>,
    status: &Status,
    controls: &mut Controls,
) {
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head_lines(picture, status, controls)), head);
    frame.render_widget(Paragraph::new(tab_line(controls.tab())), tabs);
    frame.render_widget(Paragraph::new(foot_line(controls)), foot);
    match picture {
        None => {
            let text = format!("asking {} …", status.server);
            frame.render_widget(Paragraph::new(text), body);
        }
        Some(picture) => body_of(frame, body, picture, controls),
    }
    if controls.has_help() {
        help(frame, body);
    }
}

fn head_lines(
    picture: Option<&Picture>,
    status: &Status,
    controls: &Controls,
) -> Vec<Line<'static>> {
    let mut first = vec![Span::from("tidegate top").bold()];
    if let Some(picture) = picture {
        let id = picture.cluster_id.as_deref().unwrap_or("without an id");
        let controller = picture.controller.map_or_else(|| "none".to_owned(), |it| it.to_string());
        let text =
            format!("  cluster {id}  nodes {}  controller {controller}", picture.nodes.len());
        first.push(text.into());
        first.push(format!("  {}", clock_time(picture.time)).into());
    }
    first.push(format!("  every {}", status.every).into());
    if controls.is_paused() {
        first.push("  paused".yellow().bold());
    }
    if let Some(seconds) = status.waiting {
        first.push(format!("  waiting for {seconds} s").yellow());
    }
    vec![Line::from(first), second_line(picture, status)]
}

/// What went wrong, or else what is not known, or else where the figures come from.
fn second_line(picture: Option<&Picture>, status: &Status) -> Line<'static> {
    if let Some(error) = &status.error {
        return Line::from(format!("error: {error}").red().bold());
    }
    let Some(picture) = picture else { return Line::default() };
    let notes = &picture.notes;
    if let Some(first) = notes.first() {
        let more = match notes.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        return Line::from(format!("not known: {first}{more}").yellow());
    }
    Line::from(match &picture.process {
        Some(process) => format!("metrics {}", process.url),
        None => "no metrics of a Tidegate; --metrics tells where they are".to_owned(),
    })
    .dim()
}

/// The time of day, in UTC.
fn clock_time(ms: i64) -> String {
    let text = when::text(ms);
    let time = text.split_once('T').map_or("", |(_, time)| time);
    let time = time.split_once('.').map_or(time, |(time, _)| time);
    format!("{time} UTC")
}

fn tab_line(now: Tab) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, tab) in (1..).zip(Tab::ALL) {
        let text = format!(" {number} {} ", tab.name());
        let is_shown = tab == now;
        spans.push(if is_shown { text.reversed().bold() } else { text.into() });
    }
    Line::from(spans)
}

fn foot_line(controls: &Controls) -> Line<'static> {
    if controls.is_typing() {
        let typed = format!("/{}", controls.filter());
        return Line::from(vec![typed.into(), "█".into(), "  Enter keeps it, Esc ends it".dim()]);
    }
    let mut spans = Vec::new();
    if !controls.filter().is_empty() {
        spans.push(format!("only \"{}\" (Esc: all)  ", controls.filter()).yellow());
    }
    spans.push("q quit  p pause  / filter  < > sort  r reverse  ? help".dim());
    Line::from(spans)
}

fn body_of(frame: &mut Frame<'_>, area: Rect, picture: &Picture, controls: &mut Controls) {
    let (title, mut sheet) = match controls.tab() {
        Tab::Overview => return overview(frame, area, picture, controls),
        Tab::Metrics => return metrics(frame, area, picture, controls),
        Tab::Topics => ("topics", sheet::topics(picture)),
        Tab::Groups => ("groups", sheet::groups(picture)),
    };
    let all = sheet.rows.len();
    sheet.filter(controls.filter());
    let count = sheet.rows.len();
    let omitted = match picture.groups_omitted {
        more if more > 0 && controls.tab() == Tab::Groups => format!(", {more} more not asked for"),
        _ => String::new(),
    };
    let title = format!("{title}: {count} of {all}{omitted}");
    sorted(frame, area, &title, sheet, controls);
}

/// A sheet in the order and from the row on that somebody chose.
fn sorted(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    mut sheet: Sheet,
    controls: &mut Controls,
) {
    let order = controls.order(sheet.columns.len());
    sheet.sort(order.by, order.reversed);
    let fit = usize::from(area.height.saturating_sub(2));
    let first = controls.top_row(sheet.rows.len(), fit);
    let shown = Shown { sheet: &sheet, sorted: Some(order), first };
    table::draw(frame, area, title, shown);
}

/// A sheet as it is.
fn plain(frame: &mut Frame<'_>, area: Rect, title: &str, sheet: &Sheet) {
    table::draw(frame, area, title, Shown { sheet, sorted: None, first: 0 });
}

fn overview(frame: &mut Frame<'_>, area: Rect, picture: &Picture, controls: &Controls) {
    let height = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX);
    let process = sheet::process(picture);
    let [totals, nodes, middle, below] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(height(picture.nodes.len().min(6) + 2)),
        Constraint::Min(5),
        Constraint::Length(height(if process.rows.is_empty() {
            0
        } else {
            process.rows.len() + 1
        })),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(totals_line(picture)), totals);
    plain(frame, nodes, "nodes", &sheet::nodes(picture));
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(middle);
    let mut topics = sheet::topics(picture);
    let mut groups = sheet::groups(picture);
    for (sheet, by) in [(&mut topics, "RECORDS IN/S"), (&mut groups, "LAG")] {
        sheet.filter(controls.filter());
        let by = sheet.column(by).unwrap_or_default();
        sheet.sort(by, false);
    }
    keep(&mut topics, &["TOPIC", "PARTITIONS", "RECORDS IN/S", "SIZE"]);
    keep(&mut groups, &["GROUP", "STATE", "LAG", "CONSUMED/S", "CATCHES UP"]);
    plain(frame, left, "topics, busiest first", &topics);
    plain(frame, right, "groups, greatest lag first", &groups);
    plain(frame, below, "", &without_names(process));
}

/// Leaves the columns of these names.
fn keep(sheet: &mut Sheet, names: &[&str]) {
    let places: Vec<usize> = names.iter().filter_map(|name| sheet.column(name)).collect();
    for row in &mut sheet.rows {
        *row = places.iter().filter_map(|at| row.get(*at).cloned()).collect();
    }
    let columns = &sheet.columns;
    sheet.columns = places.iter().filter_map(|at| columns.get(*at).copied()).collect();
}

/// What is told line by line has no names above.
fn without_names(mut sheet: Sheet) -> Sheet {
    for (name, _) in &mut sheet.columns {
        *name = "";
    }
    sheet
}

/// The cluster in one line.
fn totals_line(picture: &Picture) -> Line<'static> {
    let topics = &picture.topics;
    let partitions: usize = topics.iter().map(|topic| topic.partitions).sum();
    let rates = topics.iter().filter_map(|topic| topic.records_in_per_second);
    let rate = figures::known(rates.reduce(|a, b| a + b), figures::rate);
    let lag: i64 = picture.groups.iter().filter_map(|group| group.lag).sum();
    let mut spans = vec![Span::from(format!(
        "topics {}  partitions {partitions}  records in {rate}/s  groups {}  lag {}",
        topics.len(),
        picture.groups.len() + picture.groups_omitted,
        figures::count(lag),
    ))];
    let under: usize = topics.iter().map(|topic| topic.under_replicated).sum();
    let offline: usize = topics.iter().map(|topic| topic.offline).sum();
    if under > 0 {
        spans.push(format!("  under-replicated {under}").yellow().bold());
    }
    if offline > 0 {
        spans.push(format!("  offline {offline}").red().bold());
    }
    Line::from(spans)
}

fn metrics(frame: &mut Frame<'_>, area: Rect, picture: &Picture, controls: &mut Controls) {
    let process = sheet::process(picture);
    if process.rows.is_empty() {
        let text = "Nothing is known here but what any Kafka tells. A Tidegate tells more on its \
                    admin listener:\n--metrics http://HOST:9464/metrics";
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let rows = u16::try_from(process.rows.len()).unwrap_or(u16::MAX);
    let [above, below] =
        Layout::vertical([Constraint::Length(rows + 1), Constraint::Min(0)]).areas(area);
    plain(frame, above, "", &without_names(process));
    let [left, right] =
        Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).spacing(2).areas(below);
    let mut apis = sheet::apis(picture);
    apis.filter(controls.filter());
    sorted(frame, left, "requests", apis, controls);
    let mut pools = sheet::pools(picture);
    pools.sort(pools.column("USED").unwrap_or_default(), false);
    plain(frame, right, "byte budget", &pools);
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    const KEYS: [(&str, &str); 11] = [
        ("1-4, Tab, ← →", "overview, topics, groups, metrics"),
        ("↑ ↓, PgUp PgDn", "scroll; Home and End, too"),
        ("< >", "sort by another column"),
        ("r", "sort the other way round"),
        ("/", "show what has these letters in its name"),
        ("Esc", "show all again"),
        ("p", "pause, and go on"),
        ("Space", "look now"),
        ("? or h", "this page"),
        ("q, Ctrl-C", "quit"),
        ("", "any key goes back"),
    ];
    let lines = KEYS.map(|(key, what)| Line::from(format!("  {key:<16}{what}")));
    let [middle] = Layout::vertical([Constraint::Length(13)]).areas(area);
    let [middle] = Layout::horizontal([Constraint::Length(62)]).areas(middle);
    frame.render_widget(Clear, middle);
    let block = Block::bordered().title(" keys ");
    frame.render_widget(Paragraph::new(lines.to_vec()).block(block), middle);
}

/// How a mark looks.
fn style(mark: sheet::Mark) -> Style {
    match mark {
        sheet::Mark::Plain => Style::default(),
        sheet::Mark::Warning => Style::default().fg(Color::Yellow),
        sheet::Mark::Fault => Style::default().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

#[cfg(test)]
mod tests;
