//! What is shown of the results, in words: a table for each workload, the same in every format.

use super::matrix::Workload;
use super::results::{Cell, Results, Row};
use crate::report::{Better, Unit, count_as_f64, unit_of};
use crate::show::figure_text;
use crate::units;

/// What a cell shows that has nothing to show.
const NOTHING: &str = "-";

/// One workload.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) arguments: String,
    /// What the figure is, and which direction is better.
    pub(super) meaning: String,
    /// Heads of the columns after the server's name.
    pub(super) heads: Vec<String>,
    pub(super) lines: Vec<Line>,
}

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) server: String,
    /// One for each head; none if the cell has no figure.
    pub(super) texts: Vec<String>,
    /// Why there is no figure, or what is doubtful about it.
    pub(super) remark: String,
    pub(super) state: State,
    /// Median over the largest median of the table.
    pub(super) share: f64,
}

/// How much a line is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was measured.
    Good,
    /// It was measured, and something is wrong.
    Doubtful,
    /// The matrix says that the server cannot do this.
    Excused,
    /// It should have been measured and was not.
    Absent,
}

/// A table for each workload.
pub(super) fn all(results: &Results) -> Vec<Table> {
    let workloads = results.matrix.workloads.iter();
    workloads.zip(&results.rows).map(|(workload, row)| table(results, workload, row)).collect()
}

/// Where and when, in one line.
pub(super) fn place(results: &Results) -> String {
    let machine = &results.machine;
    let date = results.started_at.split('T').next().unwrap_or_default();
    format!(
        "{date}, {}, {} cores, {}, Linux {}, loopback, loadgen {}",
        machine.cpu,
        machine.cores,
        units::bytes(count_as_f64(machine.memory_bytes)),
        machine.kernel,
        env!("CARGO_PKG_VERSION")
    )
}

/// How the tables came about and are to be read, in one paragraph.
pub(super) fn method(results: &Results) -> String {
    let repeats = results.matrix.repeats;
    let rounds = if repeats == 1 { "round" } else { "rounds" };
    let ended =
        if results.interrupted { " The run was ended early: not all are there." } else { "" };
    format!(
        "{repeats} {rounds}, every server once in each. Shown are the median and the range over the \
         rounds; a ratio is the median of the ratios within the rounds.{ended}"
    )
}

fn table(results: &Results, workload: &Workload, row: &Row) -> Table {
    let ratios = ratio_columns(results, row);
    let mut heads = vec!["median".to_owned(), "lowest .. highest".to_owned()];
    heads.extend(ratios.iter().map(|(_, head)| head.clone()));
    heads.extend(workload.also.iter().cloned());
    let largest = row.cells.iter().filter_map(Cell::spread).map(|spread| spread.median);
    let largest = largest.fold(0.0, f64::max);
    let columns: Vec<usize> = ratios.iter().map(|(index, _)| *index).collect();
    let lines = results.matrix.servers.iter().enumerate().map(|(index, server)| {
        let cell = &row.cells[index];
        let state = state(cell);
        let share =
            cell.spread().map_or(0.0, |spread| spread.median / largest.max(f64::MIN_POSITIVE));
        Line {
            server: server.name.clone(),
            texts: texts(workload, row, index, &columns).unwrap_or_default(),
            remark: remark(results, cell),
            state,
            share: share.clamp(0.0, 1.0),
        }
    });
    Table {
        name: workload.name.clone(),
        arguments: workload.arguments.clone(),
        meaning: meaning(&workload.figure, row.better),
        heads,
        lines: lines.collect(),
    }
}

/// The servers that others are put in ratio to: the floor, and the first that is not the floor.
/// One that has no figure gets no column.
fn ratio_columns(results: &Results, row: &Row) -> Vec<(usize, String)> {
    let servers = &results.matrix.servers;
    let floor = results.matrix.floor_index();
    let first = (0..servers.len()).find(|index| Some(*index) != floor);
    let head = |index: usize| format!("to {}", servers[index].name);
    let columns = [floor, first].into_iter().flatten();
    columns.filter(|index| row.cells[*index].spread().is_some()).map(|i| (i, head(i))).collect()
}

/// None if there is nothing to show.
fn texts(workload: &Workload, row: &Row, index: usize, ratios: &[usize]) -> Option<Vec<String>> {
    let cell = &row.cells[index];
    let spread = cell.spread()?;
    let show = |value: f64| figure_text(&workload.figure, value, row.unit);
    let range = format!("{} .. {}", show(spread.lowest), show(spread.highest));
    let mut texts = vec![show(spread.median), range];
    texts.extend(ratios.iter().map(|&to| {
        let ratio = row.ratio(index, to);
        ratio.map_or_else(|| NOTHING.to_owned(), |ratio| format!("{:.2}", ratio.median))
    }));
    texts.extend(workload.also.iter().enumerate().map(|(number, name)| {
        let unit = unit_of(name).unwrap_or(Unit::Count);
        let value = cell.also(number);
        value.map_or_else(|| NOTHING.to_owned(), |value| figure_text(name, value, unit))
    }));
    Some(texts)
}

fn state(cell: &Cell) -> State {
    let is_doubtful = |cell: &Cell| {
        cell.runs().any(|run| run.mismatches > 0 || run.errors > 0 || run.was_limit)
            || cell.reason().is_some()
    };
    match cell.runs().next() {
        _ if cell.excused.is_some() => State::Excused,
        None => State::Absent,
        Some(_) if is_doubtful(cell) => State::Doubtful,
        Some(_) => State::Good,
    }
}

fn remark(results: &Results, cell: &Cell) -> String {
    if let Some(reason) = &cell.excused {
        return format!("n/a: {reason}");
    }
    let mut remarks = Vec::new();
    let runs = cell.runs().count();
    if runs == 0 {
        let reason = cell.reason().unwrap_or("the run was ended before");
        return format!("could not be run: {reason}");
    }
    let mismatches: u64 = cell.runs().map(|run| run.mismatches).sum();
    if mismatches > 0 {
        remarks.push(format!("WRONG ANSWERS: {}", units::count(mismatches)));
    }
    let errors: u64 = cell.runs().map(|run| run.errors).sum();
    if errors > 0 {
        let example = cell.runs().find_map(|run| run.error.as_deref()).unwrap_or_default();
        remarks.push(format!("errors: {} ({example})", units::count(errors)));
    }
    if let Some(reason) = cell.reason() {
        let failed = cell.rounds.len() - runs;
        remarks.push(format!("{failed} of {} rounds failed: {reason}", cell.rounds.len()));
    }
    let limited = cell.runs().filter(|run| run.was_limit).count();
    if limited > 0 {
        remarks.push(format!("the generator was the limit in {limited} of {runs}"));
    }
    let missing = usize::try_from(results.matrix.repeats).unwrap_or(0) - cell.rounds.len();
    if missing > 0 {
        remarks.push(format!("{runs} of {} rounds", results.matrix.repeats));
    }
    remarks.join("; ")
}

fn meaning(figure: &str, better: Better) -> String {
    match better {
        Better::Lower => format!("{figure}, less is better"),
        Better::Higher => format!("{figure}, more is better"),
        Better::Neither => figure.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn line_has_median_range_ratios_and_the_figures_beside() {
        let table = &all(&sample::results())[0];
        assert_eq!(
            table.heads,
            ["median", "lowest .. highest", "to bare", "to ours", "messages_per_s"]
        );
        assert_eq!(
            table.lines[0].texts,
            ["6.00 us", "4.00 us .. 8.00 us", "1.00", "0.67", "187,500/s"]
        );
        assert_eq!(table.lines[1].texts[2..4], ["1.50", "1.00"]);
        assert_eq!(table.lines[0].state, State::Good);
        assert_eq!(table.meaning, "server_cpu_us_per_message, less is better");
    }

    #[test]
    fn server_without_a_figure_has_no_column_of_ratios() {
        let table = &all(&sample::results())[1];
        assert_eq!(table.heads, ["median", "lowest .. highest", "to ours"]);
    }

    #[test]
    fn nothing_is_left_out_in_silence() {
        let tables = all(&sample::results());
        let remarks = |index: usize| -> Vec<&str> {
            tables[index].lines.iter().map(|line| line.remark.as_str()).collect()
        };
        assert_eq!(
            remarks(0),
            [
                "",
                "WRONG ANSWERS: 3; the generator was the limit in 1 of 2",
                "could not be run: sh: broken: <not found>"
            ]
        );
        assert_eq!(
            remarks(1),
            [
                "n/a: it has no <topics> | yet",
                "errors: 1 (message 7 was lost); 1 of 2 rounds",
                "could not be run: the run was ended before"
            ]
        );
        let states: Vec<State> =
            tables.iter().flat_map(|table| &table.lines).map(|line| line.state).collect();
        use State::{Absent, Doubtful, Excused, Good};
        assert_eq!(states, [Good, Doubtful, Absent, Excused, Doubtful, Absent]);
    }

    #[test]
    fn share_is_of_the_largest_median() {
        let table = &all(&sample::results())[0];
        let shares: Vec<f64> = table.lines.iter().map(|line| line.share).collect();
        assert!((shares[0] - 6.0 / 9.0).abs() < 1e-9 && shares[1] == 1.0 && shares[2] == 0.0);
    }

    #[test]
    fn run_says_where_and_how_it_was_made() {
        let results = sample::results();
        let place = place(&results);
        assert!(place.starts_with("2026-11-21, Intel(R) Xeon(R) Processor, 2 cores, 23.5 GiB"));
        assert!(method(&results).starts_with("2 rounds, every server once in each."));
        assert!(method(&results).ends_with("not all are there."));
    }
}
