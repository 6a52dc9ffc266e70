//! What came of a matrix: every round of every cell, with nothing left out.

use super::generator::Missing;
use super::matrix::{Matrix, Server, Workload};
use crate::machine::Machine;
use crate::report::{Better, Report, Unit, unit_of, utc_now};
use crate::spread::Spread;

/// How the note begins with which a run says that it measured itself.
const LIMIT_NOTE: &str = "the generator was the limit";

/// All that is known.
#[derive(Clone, Debug)]
pub(super) struct Results {
    /// RFC 3339, UTC.
    pub(super) started_at: String,
    pub(super) machine: Machine,
    pub(super) matrix: Matrix,
    /// The user ended it.
    pub(super) interrupted: bool,
    /// One for each workload of the matrix, in its order.
    pub(super) rows: Vec<Row>,
}

/// A workload and what it found.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) unit: Unit,
    /// Which direction of the figure is better; known once a cell was run.
    pub(super) better: Better,
    /// One for each server of the matrix, in its order.
    pub(super) cells: Vec<Cell>,
}

/// A server under a workload.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    /// The file says that the server cannot do this, and why.
    pub(super) excused: Option<String>,
    /// One for each round; fewer if the run was ended early.
    pub(super) rounds: Vec<Round>,
}

/// One run of a cell.
#[derive(Clone, Debug)]
pub(super) enum Round {
    Ran(Run),
    Failed(String),
}

/// What is kept of a report.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) value: f64,
    /// Of the figures beside it; None where this run had no such figure.
    pub(super) also: Vec<Option<f64>>,
    pub(super) mismatches: u64,
    pub(super) errors: u64,
    /// The text of one of them.
    pub(super) error: Option<String>,
    /// It says that the generator was the limit.
    pub(super) was_limit: bool,
}

impl Results {
    /// Before anything was run.
    pub(super) fn new(matrix: Matrix) -> Self {
        let cell = |server: &Server, workload: &Workload| Cell {
            excused: server.reason_against(workload).map(str::to_owned),
            rounds: Vec::new(),
        };
        let row = |workload: &Workload| Row {
            // The matrix has no figure without a unit.
            unit: unit_of(&workload.figure).unwrap_or(Unit::Count),
            better: Better::Neither,
            cells: matrix.servers.iter().map(|server| cell(server, workload)).collect(),
        };
        let rows = matrix.workloads.iter().map(row).collect();
        let machine = Machine::here();
        Self { started_at: utc_now(), machine, matrix, interrupted: false, rows }
    }

    /// Takes the next round of a cell. Returns what to say of it.
    pub(super) fn push(
        &mut self,
        workload: usize,
        server: usize,
        result: Result<Report, Missing>,
    ) -> &Round {
        let spec = &self.matrix.workloads[workload];
        let row = &mut self.rows[workload];
        let round = match result.map_err(reason).and_then(|report| Run::of(&report, spec, row)) {
            Ok(run) => Round::Ran(run),
            Err(reason) => Round::Failed(reason),
        };
        let rounds = &mut row.cells[server].rounds;
        rounds.push(round);
        &rounds[rounds.len() - 1]
    }

    pub(super) fn ran_any(&self) -> bool {
        self.cells().any(|cell| cell.runs().next().is_some())
    }

    pub(super) fn mismatches(&self) -> u64 {
        self.cells().flat_map(Cell::runs).map(|run| run.mismatches).sum()
    }

    /// Why the first cell that failed did.
    pub(super) fn first_reason(&self) -> Option<&str> {
        self.cells().find_map(Cell::reason)
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.rows.iter().flat_map(|row| &row.cells)
    }
}

impl Row {
    /// Values of a cell over those of another, round by round: a machine that drifts between
    /// rounds does so for both. None if no round has both.
    pub(super) fn ratio(&self, cell: usize, to: usize) -> Option<Spread> {
        let pairs = self.cells[cell].rounds.iter().zip(&self.cells[to].rounds);
        let ratios = pairs.filter_map(|pair| match pair {
            (Round::Ran(run), Round::Ran(other)) if other.value > 0.0 => {
                Some(run.value / other.value)
            }
            _ => None,
        });
        Spread::of(ratios.collect())
    }
}

impl Cell {
    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.rounds.iter().filter_map(|round| match round {
            Round::Ran(run) => Some(run),
            Round::Failed(_) => None,
        })
    }

    pub(super) fn values(&self) -> Vec<f64> {
        self.runs().map(|run| run.value).collect()
    }

    /// None if it was never run.
    pub(super) fn spread(&self) -> Option<Spread> {
        Spread::of(self.values())
    }

    /// Median of a figure beside the main one.
    pub(super) fn also(&self, index: usize) -> Option<f64> {
        let values = self.runs().filter_map(|run| run.also.get(index).copied().flatten());
        Spread::of(values.collect()).map(|spread| spread.median)
    }

    /// Why the first round that failed did.
    pub(super) fn reason(&self) -> Option<&str> {
        self.rounds.iter().find_map(|round| match round {
            Round::Failed(reason) => Some(reason.as_str()),
            Round::Ran(_) => None,
        })
    }
}

impl Run {
    fn of(report: &Report, workload: &Workload, row: &mut Row) -> Result<Self, String> {
        let value = report
            .figure(&workload.figure)
            .ok_or_else(|| format!("the run had no figure `{}`", workload.figure))?;
        let all = report.all_figures();
        if let Some(figure) = all.iter().find(|figure| figure.name == workload.figure) {
            row.better = figure.better;
        } else {
            // Bare percentiles are not in the list; of all latencies less is better.
            row.better = Better::Lower;
        }
        Ok(Self {
            value,
            also: workload.also.iter().map(|name| report.figure(name)).collect(),
            mismatches: report.mismatches,
            errors: report.error_count(),
            error: report.errors.first().map(|error| error.example.clone()),
            was_limit: report.notes.iter().any(|note| note.starts_with(LIMIT_NOTE)),
        })
    }
}

fn reason(missing: Missing) -> String {
    match missing {
        Missing::Failed(reason) => reason,
        Missing::Interrupted => "it was interrupted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn ratio_is_made_within_rounds_and_not_of_medians() {
        let results = sample::results();
        // The machine ran at half its speed in the second round, for both.
        let ratio = results.rows[0].ratio(1, 0).unwrap();
        assert_eq!((ratio.lowest, ratio.median, ratio.highest), (1.5, 1.5, 1.5));
        assert_eq!(results.rows[0].ratio(2, 0), None);
    }

    #[test]
    fn round_without_the_figure_is_a_failure_that_names_it() {
        let mut results = sample::empty();
        let mut report = crate::show::sample::report();
        report.figures.retain(|figure| figure.name != "server_cpu_us_per_message");
        let round = results.push(0, 0, Ok(report));
        assert!(matches!(round, Round::Failed(reason) if reason.contains("server_cpu_us")));
        assert!(!results.ran_any());
        assert!(results.first_reason().is_some());
    }

    #[test]
    fn round_keeps_what_makes_a_figure_doubtful() {
        let mut results = sample::empty();
        let mut report = crate::show::sample::report();
        report.mismatches = 2;
        let Round::Ran(run) = results.push(0, 0, Ok(report)).clone() else { panic!() };
        assert_eq!((run.mismatches, run.errors), (2, 3));
        assert!(run.was_limit && run.error.is_some());
        assert_eq!(results.mismatches(), 2);
        assert_eq!(results.rows[0].better, Better::Lower);
    }
}
