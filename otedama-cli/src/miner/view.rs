//! The live view: a [`Status`] drawn on a terminal of any size. Nothing here reads a clock or a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};

use crate::miner::status::{State, Status, WorkerState, WorkerStatus, rate_text};

/// From this height on, parts have titles and the rate a curve of several lines.
const ROOMY: u16 = 20;

/// Draws all of it; what does not fit is left out, the least important first.
pub(crate) fn draw(frame: &mut Frame<'_>, status: &Status, look: Look) {
    let area = frame.area();
    let roomy = area.height >= ROOMY;
    let head: Vec<_> = [top(status, look), pool(status, look), rates(status, look), shares(status, look)]
        .map(|parts| fitting(parts, area.width))
        .into();
    let title = u16::from(roomy);
    let curve = match area.height {
        ROOMY.. => 3,
        13.. => 1,
        _ => 0,
    };
    // Two lines of events at least; workers have what they need of the rest, events what is left.
    let fixed = head.len() as u16 + title + curve + 2 * title + 1;
    let rest = area.height.saturating_sub(fixed);
    let wanted = u16::try_from(status.workers.len() + 1).unwrap_or(u16::MAX);
    let workers = wanted.min(rest.saturating_sub(if roomy { rest / 3 } else { 2 }));
    let [head_at, curve_at, workers_at, events_at, keys_at] = Layout::vertical([
        Constraint::Length(head.len() as u16),
        Constraint::Length(title + curve),
        Constraint::Length(title + workers),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head), head_at);
    draw_curve(frame, look.titled("the last two minutes", roomy), curve_at, status, look);
    draw_workers(frame, look.titled("workers", roomy), workers_at, status, look);
    draw_events(frame, look.titled("events", roomy), events_at, status);
    let pause = if status.state == State::Paused { "p resume" } else { "p pause" };
    frame.render_widget(Line::from(format!("q quit  {pause}")).style(look.quiet()), keys_at);
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) colours: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Something that should not be: bold as well, for those who see no colours.
    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Above a part, a line with its title where there is room.
    fn titled(self, title: &'static str, roomy: bool) -> Block<'static> {
        let borders = if roomy { Borders::TOP } else { Borders::NONE };
        let block = Block::new().borders(borders).border_style(self.quiet());
        if roomy { block.title(format!(" {title} ")) } else { block }
    }
}

type Part = Span<'static>;

fn top(status: &Status, look: Look) -> Vec<Part> {
    let state = match status.state {
        State::Mining => look.colour(Color::Green).add_modifier(Modifier::BOLD),
        State::Connecting => look.bad(),
        _ => look.colour(Color::Yellow).add_modifier(Modifier::BOLD),
    };
    let mut parts =
        vec![Span::styled(status.state.name(), state), Span::styled(status.algorithm, look.strong())];
    parts.extend(status.building.iter().map(|building| Span::from(building.to_string())));
    parts.push(format!("up {}", clock(status.uptime_s)).into());
    parts.push(Span::styled(format!("otedama {}", status.version), look.quiet()));
    parts
}

fn pool(status: &Status, look: Look) -> Vec<Part> {
    let pool = &status.pool;
    let Some(url) = &pool.url else {
        let lost = count(pool.lost, "failure").unwrap_or_default();
        return vec!["pool    none answers yet".into(), Span::styled(lost, look.bad())];
    };
    let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
    let mut parts = vec![Span::from(format!("pool    {host}"))];
    match pool.connected_s {
        Some(seconds) => parts.push(format!("for {}", clock(seconds)).into()),
        None => parts.push(Span::styled("connection lost", look.bad())),
    }
    parts.extend(pool.difficulty.map(|difficulty| format!("difficulty {}", four_digits(difficulty)).into()));
    parts.extend(pool.last_job_s.map(|seconds| format!("job {} old", clock(seconds)).into()));
    parts.extend(count(pool.failovers, "failover").map(Span::from));
    parts.extend(pool.answer_s.map(|seconds| format!("ping {:.0} ms", seconds * 1e3).into()));
    parts
}

fn rates(status: &Status, look: Look) -> Vec<Part> {
    let rates = status.rates;
    let mut parts = vec![
        Span::styled(format!("rate    {}", rate_text(rates.hps_10s)), look.strong()),
        format!("60 s {}", rate_text(rates.hps_60s)).into(),
        format!("15 min {}", rate_text(rates.hps_15min)).into(),
    ];
    parts.extend(status.power.hps_per_watt.map(|rate| format!("{}/W", rate_text(Some(rate))).into()));
    parts
}

fn shares(status: &Status, look: Look) -> Vec<Part> {
    let shares = &status.shares;
    let mut parts = vec![Span::from(format!("shares  {} accepted", shares.accepted))];
    let rejected = shares.rejected();
    let style = if rejected > 0 { look.bad() } else { Style::new() };
    parts.push(Span::styled(format!("{rejected} rejected"), style));
    parts.push(format!("{} stale", shares.stale).into());
    parts.extend(shares.blocks.and_then(|blocks| count(blocks, "block")).map(Span::from));
    parts.extend(count(shares.wrong, "wrong claim").map(|wrong| Span::styled(wrong, look.bad())));
    parts.extend(shares.last_accepted_s.map(|seconds| format!("last {} ago", clock(seconds)).into()));
    parts.extend(shares.rejected.iter().map(|(reason, times)| format!("{reason} {times}").into()));
    parts
}

/// As many parts as fit in a line, two blanks between.
fn fitting(parts: Vec<Part>, width: u16) -> Line<'static> {
    let mut line = Line::default();
    for part in parts {
        if line.spans.is_empty() {
            line.push_span(part);
        } else if line.width() + 2 + part.width() <= usize::from(width) {
            line.push_span("  ");
            line.push_span(part);
        }
    }
    line
}

/// So many of something; nothing if there are none.
fn count(number: u64, what: &str) -> Option<String> {
    match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        many => Some(format!("{many} {what}s")),
    }
}

/// A positive number to four digits, whole ones all shown: `0.05984`, `0.001`, `123456`.
fn four_digits(number: f64) -> String {
    let decimals = (3.0 - number.log10().floor()).clamp(0.0, 15.0) as usize;
    let text = format!("{number:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// A length of time as a clock shows it: `0:03`, `1:02:03`, `2 d 1:02:03`.
fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes, seconds) =
        (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours}:{minutes:02}:{seconds:02}"),
    }
}

fn draw_curve(frame: &mut Frame<'_>, block: Block<'_>, area: Rect, status: &Status, look: Look) {
    let skipped = status.history_hps.len().saturating_sub(area.width.into());
    let data: Vec<u64> = status.history_hps[skipped..].iter().map(|&hps| hps as u64).collect();
    frame.render_widget(Sparkline::default().data(data).style(look.colour(Color::Cyan)).block(block), area);
}

/// A column: its title, whether it goes to the right, how soon it is left out, its cells.
struct Column {
    title: &'static str,
    number: bool,
    rank: u8,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> u16 {
        let widest = self.cells.iter().map(|cell| Span::from(cell.as_str()).width()).max().unwrap_or(0);
        widest.max(self.title.len()) as u16
    }
}

fn draw_workers(frame: &mut Frame<'_>, block: Block<'_>, area: Rect, status: &Status, look: Look) {
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let rows = usize::from(inner.height.saturating_sub(1));
    let all = status.workers.len();
    // The last row says how many are not shown.
    let shown = &status.workers[..if all > rows { rows.saturating_sub(1) } else { all }];
    let columns = columns(shown, inner.width);
    let cell = |column: &Column, text: String| {
        let line = Line::from(text);
        Cell::from(if column.number { line.right_aligned() } else { line })
    };
    let table_rows = shown.iter().enumerate().map(|(index, worker)| {
        let style = match worker.state {
            WorkerState::Working => Style::new(),
            WorkerState::Resting => look.colour(Color::Yellow),
            _ => look.bad(),
        };
        Row::new(columns.iter().map(|column| cell(column, column.cells[index].clone()))).style(style)
    });
    let header = Row::new(columns.iter().map(|column| cell(column, column.title.to_owned())));
    let widths = columns.iter().map(|column| Constraint::Length(column.width()));
    let table = Table::new(table_rows, widths).header(header.style(look.quiet())).column_spacing(2);
    frame.render_widget(table, inner);
    if all > rows && rows > 0 {
        let last = Rect { y: inner.bottom() - 1, height: 1, ..inner };
        frame.render_widget(Line::from(format!("and {} more", all - shown.len())).style(look.quiet()), last);
    }
}

/// The columns that fit, without those that have nothing to say.
fn columns(workers: &[WorkerStatus], width: u16) -> Vec<Column> {
    let column = |title, number, rank, cell: fn(&WorkerStatus) -> String| Column {
        title,
        number,
        rank,
        cells: workers.iter().map(cell).collect(),
    };
    let mut columns = vec![
        column("worker", false, 0, |worker| worker.member.name.clone()),
        column("state", false, 3, |worker| worker.state.name().to_owned()),
        column("10 s", true, 1, |worker| rate_text(worker.rates.hps_10s)),
        column("60 s", true, 4, |worker| rate_text(worker.rates.hps_60s)),
        column("15 min", true, 5, |worker| rate_text(worker.rates.hps_15min)),
        column("shares", true, 2, |worker| worker.shares.to_string()),
        column("temp", true, 6, |worker| with_unit(worker.reading.temperature_c, "C")),
        column("power", true, 7, |worker| with_unit(worker.reading.watts, "W")),
        column("per watt", true, 8, |worker| {
            worker.hps_per_watt.map_or(String::new(), |r| rate_text(Some(r)))
        }),
        column("device", false, 9, |worker| worker.member.device.clone().unwrap_or_default()),
    ];
    columns.retain(|column| column.cells.iter().any(|cell| !cell.is_empty()));
    let needed = |columns: &[Column]| columns.iter().map(|column| column.width() + 2).sum::<u16>();
    while needed(&columns) > width + 2
        && let Some(last) = (1..columns.len()).max_by_key(|&index| columns[index].rank)
    {
        columns.remove(last);
    }
    columns
}

/// A whole number with its unit, or nothing.
fn with_unit(number: Option<f64>, unit: &str) -> String {
    number.map_or_else(String::new, |number| format!("{number:.0} {unit}"))
}

fn draw_events(frame: &mut Frame<'_>, block: Block<'_>, area: Rect, status: &Status) {
    let room = usize::from(block.inner(area).height);
    let skipped = status.events.len().saturating_sub(room);
    let lines: Vec<_> = status.events[skipped..]
        .iter()
        .map(|event| Line::from(format!("{}  {}", clock(event.at_s), event.text)))
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use crate::crew::{Kind, Member};
    use crate::miner::sensors::Reading;
    use crate::miner::status::{Building, PoolStatus, Power, Rates, Shares, Told};

    fn worker(index: usize, name: &str, hps: f64, reading: Reading) -> WorkerStatus {
        let gpu = reading.watts.is_some();
        WorkerStatus {
            worker: index,
            member: Member {
                name: name.to_owned(),
                kind: if gpu { Kind::Gpu } else { Kind::Cpu },
                device: gpu.then(|| "A card".to_owned()),
                kernel: None,
            },
            state: WorkerState::Working,
            reason: None,
            hashes: 1,
            rates: Rates { hps_10s: Some(hps), hps_60s: Some(hps), hps_15min: None },
            shares: 6,
            reading,
            hps_per_watt: reading.watts.map(|watts| hps / watts),
        }
    }

    fn status() -> Status {
        let card = Reading { temperature_c: Some(61.4), watts: Some(300.0), fan_percent: Some(40) };
        Status {
            version: "0.1.0",
            algorithm: "sha256d",
            state: State::Mining,
            building: Vec::new(),
            uptime_s: 3723.9,
            pool: PoolStatus {
                url: Some("stratum+tcp://127.0.0.1:3333".to_owned()),
                connected: true,
                connected_s: Some(63.0),
                difficulty: Some(0.001),
                last_job_s: Some(3.2),
                answer_s: Some(0.0124),
                failovers: 1,
                lost: 1,
            },
            hashes: 1_000_000,
            rates: Rates { hps_10s: Some(1.0414e9), hps_60s: Some(1.0412e9), hps_15min: Some(1.04e9) },
            shares: Shares {
                accepted: 12,
                rejected: BTreeMap::from([("low_difficulty", 2)]),
                stale: 3,
                wrong: 0,
                blocks: Some(1),
                last_accepted_s: Some(5.0),
            },
            power: Power { cpu_watts: None, gpu_watts: Some(300.0), hps_per_watt: None },
            workers: vec![
                worker(0, "cuda:0", 1e9, card),
                worker(1, "cpu 0", 41.4e6, Reading::default()),
                worker(2, "cpu 1", 41.4e6, Reading::default()),
            ],
            history_hps: (0..120).map(|second| f64::from(second) * 1e7).collect(),
            events: (0..30)
                .map(|n| Told { at_s: f64::from(n) * 60.0, text: format!("share accepted ({n} of 30)") })
                .collect(),
        }
    }

    /// The lines of a terminal of this size.
    fn drawn(status: &Status, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, status, Look { colours: true })).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn at_80_by_24_everything_has_its_place() {
        let lines = drawn(&status(), 80, 24);
        assert_eq!(
            lines[..4],
            [
                "mining  sha256d  up 1:02:03  otedama 0.1.0",
                "pool    127.0.0.1:3333  for 1:03  difficulty 0.001  job 0:03 old  1 failover",
                "rate    1.041 GH/s  60 s 1.041 GH/s  15 min 1.040 GH/s",
                "shares  12 accepted  2 rejected  3 stale  1 block  last 0:05 ago",
            ]
        );
        assert!(lines[4].starts_with(" the last two minutes ─"), "{lines:?}");
        assert!(lines[7].ends_with('█') && lines[5].ends_with('█') && lines[5].starts_with(' '), "{lines:?}");
        assert!(lines[8].starts_with(" workers ─"), "{lines:?}");
        assert_eq!(
            lines[9..13],
            [
                "worker  state          10 s        60 s  15 min  shares  temp  power    per watt",
                "cuda:0  working  1.000 GH/s  1.000 GH/s       -       6  61 C  300 W  3.333 MH/s",
                "cpu 0   working  41.40 MH/s  41.40 MH/s       -       6",
                "cpu 1   working  41.40 MH/s  41.40 MH/s       -       6",
            ]
        );
        assert!(lines[13].starts_with(" events ─"), "{lines:?}");
        // The newest last.
        assert_eq!(lines[14], "21:00  share accepted (21 of 30)");
        assert_eq!(lines[22..], ["29:00  share accepted (29 of 30)", "q quit  p pause"]);
    }

    #[test]
    fn at_40_by_10_there_is_what_matters_most() {
        let lines = drawn(&status(), 40, 10);
        assert_eq!(
            lines,
            [
                "mining  sha256d  up 1:02:03",
                "pool    127.0.0.1:3333  for 1:03",
                "rate    1.041 GH/s  60 s 1.041 GH/s",
                "shares  12 accepted  2 rejected  3 stale",
                "worker  state          10 s  shares",
                "cuda:0  working  1.000 GH/s       6",
                "and 2 more",
                "28:00  share accepted (28 of 30)",
                "29:00  share accepted (29 of 30)",
                "q quit  p pause",
            ]
        );
    }

    #[test]
    fn no_size_is_too_small_and_nothing_to_show_is_fine() {
        let mut empty = status();
        (empty.workers, empty.events, empty.history_hps) = (Vec::new(), Vec::new(), Vec::new());
        let mut many = status();
        many.workers = (0..300).map(|n| worker(n, &format!("cpu {n}"), 1e6, Reading::default())).collect();
        for (width, height) in
            [(1, 1), (2, 5), (80, 1), (1, 80), (5, 4), (12, 13), (39, 19), (200, 60), (300, 20)]
        {
            for status in [&status(), &empty, &many] {
                assert_eq!(drawn(status, width, height).len(), usize::from(height));
            }
        }
        let lines = drawn(&many, 80, 24);
        assert!(lines.contains(&"and 293 more".to_owned()), "{lines:?}");
    }

    #[test]
    fn what_is_unusual_is_said() {
        let mut status = status();
        (status.state, status.pool.connected_s) = (State::Connecting, None);
        let lines = drawn(&status, 80, 24);
        assert!(lines[0].starts_with("connecting  sha256d"), "{lines:?}");
        assert!(lines[1].starts_with("pool    127.0.0.1:3333  connection lost"), "{lines:?}");
        (status.pool.url, status.pool.lost) = (None, 4);
        assert_eq!(drawn(&status, 80, 24)[1], "pool    none answers yet  4 failures");
        status.building = vec![Building { part: "dataset", device: None, done: 0.416 }];
        assert!(drawn(&status, 80, 24)[0].starts_with("connecting  sha256d  dataset 42 %  up "));
        status.building = vec![Building { part: "dataset", device: Some("cuda:0".to_owned()), done: 0.07 }];
        assert!(drawn(&status, 80, 24)[0].starts_with("connecting  sha256d  cuda:0 dataset 7 %  up "));
        status.state = State::Paused;
        assert_eq!(drawn(&status, 80, 24)[23], "q quit  p resume");
        status.workers[0].state = WorkerState::Resting;
        assert!(drawn(&status, 80, 24)[10].starts_with("cuda:0  resting"));
    }

    #[test]
    fn without_colours_none_is_used() {
        let colours = |colours| {
            let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
            terminal.draw(|frame| draw(frame, &status(), Look { colours })).unwrap();
            let cells = terminal.backend().buffer().content();
            cells.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
        };
        assert_eq!(colours(false), 0);
        assert!(colours(true) > 0);
    }

    #[test]
    fn difficulties_are_shortened() {
        let cases = [(0.059841840994432266, "0.05984"), (0.001, "0.001"), (1.0, "1"), (123456.7, "123457")];
        for (number, text) in [(1e-8, "0.00000001"), (16.0, "16"), (100.0, "100")].into_iter().chain(cases) {
            assert_eq!(four_digits(number), text);
        }
    }

    #[test]
    fn times_read_as_a_clock_shows_them() {
        for (seconds, text) in
            [(0.9, "0:00"), (63.0, "1:03"), (3723.0, "1:02:03"), (176_523.0, "2 d 1:02:03")]
        {
            assert_eq!(clock(seconds), text);
        }
    }
}
