//! All cells, in turns: every server once, then every server again.
//!
//! Servers that are compared run within a minute of each other; workloads come one after the other,
//! so that a run that is ended early has the first ones whole.

use std::net::{Ipv4Addr, TcpListener};

use super::generator::{Generator, Interrupted, Job, Missing};
use super::matrix::{Matrix, Server, Workload};
use super::results::{Results, Round};
use crate::show::figure_text;

/// Runs the matrix, until its end or a signal.
pub(super) fn run(
    matrix: Matrix,
    generator: &impl Generator,
    interrupted: Interrupted<'_>,
    quiet: bool,
) -> Results {
    let mut results = Results::new(matrix);
    let matrix = results.matrix.clone();
    let mut ports = Ports { next: matrix.port };
    let mut progress = Progress::new(&results, quiet);
    for (row, workload) in matrix.workloads.iter().enumerate() {
        for round in 1..=matrix.repeats {
            for (column, server) in matrix.servers.iter().enumerate() {
                if results.rows[row].cells[column].excused.is_some() {
                    continue;
                }
                progress.begin(workload, server, round);
                let result = job(&matrix, server, workload, ports.take())
                    .map_err(Missing::Failed)
                    .and_then(|job| generator.run(&job, interrupted));
                if interrupted() || matches!(result, Err(Missing::Interrupted)) {
                    progress.end("interrupted");
                    results.interrupted = true;
                    return results;
                }
                progress.end(&told(results.push(row, column, result), workload));
            }
        }
    }
    results
}

fn job(matrix: &Matrix, server: &Server, workload: &Workload, port: u16) -> Result<Job, String> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let arguments =
        [&workload.arguments, &matrix.generator, &server.arguments].map(|text| words(text));
    Ok(Job {
        command: matrix.command(server, workload, port)?,
        url: format!("ws://127.0.0.1:{port}{}", server.path),
        arguments: arguments.concat(),
    })
}

fn told(round: &Round, workload: &Workload) -> String {
    match round {
        Round::Ran(run) => {
            let unit = crate::report::unit_of(&workload.figure);
            let value = unit.map(|unit| figure_text(&workload.figure, run.value, unit));
            let wrong = if run.mismatches > 0 { ", WRONG ANSWERS" } else { "" };
            format!("{}{wrong}", value.unwrap_or_default())
        }
        Round::Failed(reason) => format!("could not be run: {reason}"),
    }
}

/// Another port for each cell: the last server's connections may still be closing on its own.
struct Ports {
    next: u16,
}

impl Ports {
    fn take(&mut self) -> u16 {
        loop {
            let port = self.next;
            // After the last comes the first that needs no privilege.
            self.next = port.checked_add(1).unwrap_or(1024);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
    }
}

/// Says on stderr what runs, a line for each cell.
struct Progress {
    quiet: bool,
    done: usize,
    all: usize,
}

impl Progress {
    fn new(results: &Results, quiet: bool) -> Self {
        let cells = results.rows.iter().flat_map(|row| &row.cells);
        let cells = cells.filter(|cell| cell.excused.is_none()).count();
        let repeats = usize::try_from(results.matrix.repeats).unwrap_or(usize::MAX);
        Self { quiet, done: 0, all: cells.saturating_mul(repeats) }
    }

    fn begin(&mut self, workload: &Workload, server: &Server, round: u32) {
        self.done += 1;
        if !self.quiet {
            let (done, all) = (self.done, self.all);
            eprint!("[{done}/{all}] {}, {}, round {round}: ", workload.name, server.name);
        }
    }

    fn end(&self, result: &str) {
        if !self.quiet {
            eprintln!("{result}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::bench::sample;
    use crate::report::Report;

    /// Notes what it is asked to do, and interrupts the run after so many cells.
    struct Noted {
        jobs: RefCell<Vec<Job>>,
        cells_max: usize,
    }

    impl Noted {
        fn new(cells_max: usize) -> Self {
            Self { jobs: RefCell::default(), cells_max }
        }
    }

    impl Generator for Noted {
        fn run(&self, job: &Job, _: Interrupted<'_>) -> Result<Report, Missing> {
            let mut jobs = self.jobs.borrow_mut();
            jobs.push(job.clone());
            if jobs.len() > self.cells_max {
                return Err(Missing::Interrupted);
            }
            if job.command.contains("broken") {
                return Err(Missing::Failed("it does not start".to_owned()));
            }
            Ok(crate::show::sample::report())
        }
    }

    fn run_with(noted: &Noted) -> Results {
        run(sample::matrix(), noted, &|| false, true)
    }

    #[test]
    fn every_server_has_its_turn_before_any_has_its_second() {
        let noted = Noted::new(usize::MAX);
        let results = run_with(&noted);
        let jobs = noted.jobs.into_inner();
        let turns: Vec<_> = jobs
            .iter()
            .map(|job| {
                let command = job.command.split_whitespace().find(|word| !word.starts_with('-'));
                (job.arguments[0].as_str(), command.unwrap_or_default())
            })
            .collect();
        let round = [("echo", "bare"), ("echo", "taskset"), ("echo", "broken")];
        assert_eq!(turns[..3], round);
        assert_eq!(turns[3..6], round);
        // The first server is excused from the second workload.
        assert_eq!(turns[6..8], [("fanout", "taskset"), ("fanout", "broken")]);
        assert_eq!(turns.len(), 10);
        assert!(!results.interrupted && results.ran_any());
        assert_eq!(results.rows[0].cells[2].reason(), Some("it does not start"));
        assert!(results.rows[1].cells[0].excused.is_some());
    }

    #[test]
    fn job_has_a_port_of_its_own_and_the_flags_of_workload_file_and_server() {
        let noted = Noted::new(usize::MAX);
        run_with(&noted);
        let jobs = noted.jobs.into_inner();
        assert_eq!(jobs[0].arguments, ["echo", "--size", "20", "--cores", "1", "--no-verify"]);
        let port = |job: &Job| job.url.rsplit(':').next().unwrap().to_owned();
        assert!(jobs[0].url.ends_with('/') && jobs[1].url.ends_with("/topics/all"));
        let digits = port(&jobs[0]).trim_end_matches('/').to_owned();
        assert!(jobs[0].command.contains(&digits), "{jobs:?}");
        let mut ports: Vec<_> = jobs.iter().map(port).collect();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), jobs.len());
    }

    #[test]
    fn port_that_is_taken_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(Ports { next: port }.take(), port);
    }

    #[test]
    fn interrupted_run_keeps_what_is_complete() {
        let results = run_with(&Noted::new(4));
        assert!(results.interrupted);
        let counts: Vec<_> = results.rows[0].cells.iter().map(|cell| cell.rounds.len()).collect();
        assert_eq!(counts, [2, 1, 1]);
        assert!(results.rows[1].cells.iter().all(|cell| cell.rounds.is_empty()));
    }
}
