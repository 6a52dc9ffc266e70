//! `loadgen compare`: figure by figure, what two sets of runs say about each other.
//!
//! Each side is one file or several runs of the same thing. A side is shown by its median and its
//! range; where the ranges of both sides overlap, the difference is noise and is called so. One run
//! on a side has no range, which is said rather than hidden. That a figure is worse is an answer and
//! not an error.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use crate::report::{Better, Figure, Report, Unit};
use crate::show::{self, json, table::Style};
use crate::spread::Spread;

/// Settings that say where the server was, not what was done to it.
const SETTINGS_OF_THE_PLACE: [&str; 7] =
    ["fail-if", "html", "json", "pid", "server", "strict", "url"];

/// Says figure by figure what two runs, or two sets of runs, say about each other.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = COMPARE_HELP)]
pub(crate) struct CompareArgs {
    /// Reports that `--json` wrote: first the base, then the runs to hold against it
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Runs to hold against all files before the `--`
    #[arg(last = true, value_name = "FILE")]
    pub(crate) others: Vec<PathBuf>,
    /// A run of the base; repeat it for several. All other files are held against them
    #[arg(long, value_name = "FILE")]
    pub(crate) base: Vec<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

const COMPARE_HELP: &str = "\
One run against another:       loadgen compare a.json b.json
Several runs of each:          loadgen compare a1.json a2.json a3.json -- b1.json b2.json b3.json
The same, with the base named: loadgen compare --base a1.json --base a2.json b1.json b2.json

Each side is shown by its median; the ratio is b / a, with its lowest and highest. `within noise`
means that the ranges of both sides overlap. Three runs of each side are a good beginning.

Exit codes: 0 compared, whatever the answer; 2 a file cannot be read, or too few are given.";

/// Two sides, side by side.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// Of this form of JSON.
    pub(crate) schema: u32,
    pub(crate) a: Side,
    pub(crate) b: Side,
    /// What makes the two sides hard to compare.
    pub(crate) warnings: Vec<String>,
    pub(crate) figures: Vec<Row>,
}

/// What was run on one side.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) runs: usize,
    pub(crate) scenario: String,
    pub(crate) url: String,
}

/// One figure on both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// None if no run of the side has the figure.
    pub(crate) a: Option<Spread>,
    pub(crate) b: Option<Spread>,
    /// b / a; None if a side is missing or a is 0.
    pub(crate) ratio: Option<Spread>,
    pub(crate) verdict: Verdict,
}

/// What b is, seen from a.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// It changed, and neither direction is an improvement.
    Different,
    /// The ranges overlap.
    WithinNoise,
    /// No run differs from another.
    Equal,
    /// One side does not have the figure.
    OneSided,
}

/// Reads the files, compares, and prints to stdout.
pub(crate) fn run(args: &CompareArgs) -> Result<(), String> {
    let (a_paths, b_paths) = sides(args)?;
    let read = |paths: &[PathBuf]| -> Result<Vec<Report>, String> {
        paths.iter().map(|path| json::read(path)).collect()
    };
    let (a, b) = (read(&a_paths)?, read(&b_paths)?);
    let comparison = Comparison::of(&a, &b).ok_or_else(|| TOO_FEW.to_owned())?;
    if args.json {
        let json = serde_json::to_string_pretty(&comparison)
            .map_err(|error| format!("the comparison cannot be written as JSON: {error}"))?;
        return show::print(&(json + "\n"));
    }
    show::print(&show::compare::render(&comparison, Style::of_stdout()))
}

const TOO_FEW: &str =
    "compare needs a file on each side: loadgen compare a.json b.json, or a1 a2 -- b1 b2";

/// Which files stand on which side.
fn sides(args: &CompareArgs) -> Result<(Vec<PathBuf>, Vec<PathBuf>), String> {
    let (a, b) = match (&args.base[..], &args.others[..]) {
        ([], []) => match args.files.split_first() {
            Some((first, rest)) => (vec![first.clone()], rest.to_vec()),
            None => return Err(TOO_FEW.to_owned()),
        },
        ([], others) => (args.files.clone(), others.to_vec()),
        (base, []) => (base.to_vec(), args.files.clone()),
        _ => return Err("give the sides with --base or with `--`, not with both".to_owned()),
    };
    if a.is_empty() || b.is_empty() {
        return Err(TOO_FEW.to_owned());
    }
    Ok((a, b))
}

impl Comparison {
    /// None if a side has no report.
    pub(crate) fn of(a: &[Report], b: &[Report]) -> Option<Self> {
        Some(Self {
            schema: 1,
            a: Side::of(a)?,
            b: Side::of(b)?,
            warnings: warnings(a, b),
            figures: rows(a, b),
        })
    }
}

impl Side {
    fn of(reports: &[Report]) -> Option<Self> {
        let first = reports.first()?;
        let scenario = first.scenario.clone();
        Some(Self { runs: reports.len(), scenario, url: first.url.clone() })
    }
}

impl Row {
    fn of(figure: &Figure, a: &[Report], b: &[Report]) -> Self {
        let values = |reports: &[Report]| {
            Spread::of(reports.iter().filter_map(|report| report.figure(&figure.name)).collect())
        };
        let (a, b) = (values(a), values(b));
        Self {
            name: figure.name.clone(),
            unit: figure.unit,
            better: figure.better,
            a,
            b,
            ratio: a.zip(b).and_then(|(a, b)| b.over(a)),
            verdict: Verdict::of(a, b, figure.better),
        }
    }
}

impl Verdict {
    fn of(a: Option<Spread>, b: Option<Spread>, better: Better) -> Self {
        let Some((a, b)) = a.zip(b) else { return Self::OneSided };
        if a == b && a.is_point() {
            return Self::Equal;
        }
        if a.lowest <= b.highest && b.lowest <= a.highest {
            return Self::WithinNoise;
        }
        match (better, b.lowest > a.highest) {
            (Better::Higher, true) | (Better::Lower, false) => Self::Better,
            (Better::Higher, false) | (Better::Lower, true) => Self::Worse,
            (Better::Neither, _) => Self::Different,
        }
    }
}

/// Every figure of either side once, in the order of the first run that has it.
fn rows(a: &[Report], b: &[Report]) -> Vec<Row> {
    let mut seen = BTreeSet::new();
    a.iter()
        .chain(b)
        .flat_map(Report::all_figures)
        .filter(|figure| seen.insert(figure.name.clone()))
        .map(|figure| Row::of(&figure, a, b))
        .collect()
}

/// One line for each thing that should be alike in all runs and is not.
fn warnings(a: &[Report], b: &[Report]) -> Vec<String> {
    let all: Vec<&Report> = a.iter().chain(b).collect();
    let mut lines = Vec::new();
    let mut compare = |what: &str, of: &dyn Fn(&Report) -> String| {
        let distinct: BTreeSet<String> = all.iter().map(|report| of(report)).collect();
        if distinct.len() > 1 {
            let list: Vec<&str> = distinct.iter().map(String::as_str).collect();
            lines.push(format!("{what} differs: {}", list.join(" / ")));
        }
    };
    compare("scenario", &|report| report.scenario.clone());
    compare("loop kind", &|report| {
        report.loop_kind.map_or_else(|| "none".to_owned(), show::loop_text)
    });
    let names: BTreeSet<&String> = all.iter().flat_map(|report| report.settings.keys()).collect();
    for name in names {
        if !SETTINGS_OF_THE_PLACE.contains(&name.as_str()) {
            compare(&format!("setting {name}"), &|report| {
                report.settings.get(name).cloned().unwrap_or_else(|| "not set".to_owned())
            });
        }
    }
    compare("machine", &show::machine_text);
    compare("generator", &|report| {
        format!("{}, {} threads, loadgen {}", report.backend, report.threads, report.version)
    });
    for (side, reports) in [("a", a), ("b", b)] {
        let addresses: BTreeSet<&String> = reports.iter().map(|report| &report.url).collect();
        if addresses.len() > 1 {
            let count = addresses.len();
            lines.push(format!("side {side} mixes runs against {count} different addresses"));
        }
        if reports.len() == 1 {
            lines.push(format!(
                "side {side} is one run, so its noise is not known; give several runs of it"
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LoopKind;
    use crate::show::sample;

    fn runs(factors: &[f64]) -> Vec<Report> {
        factors.iter().copied().map(sample::scaled).collect()
    }

    fn row(a: &[f64], b: &[f64], name: &str) -> Row {
        let comparison = Comparison::of(&runs(a), &runs(b)).unwrap();
        comparison.figures.into_iter().find(|row| row.name == name).unwrap()
    }

    fn args(files: &[&str], others: &[&str], base: &[&str]) -> CompareArgs {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        CompareArgs { files: paths(files), others: paths(others), base: paths(base), json: false }
    }

    #[test]
    fn verdict_knows_which_direction_is_better() {
        let (a, b) = ([1.0, 1.1], [1.5, 1.6]);
        assert_eq!(row(&a, &b, "messages_per_s").verdict, Verdict::Better);
        assert_eq!(row(&b, &a, "messages_per_s").verdict, Verdict::Worse);
        assert_eq!(row(&a, &b, "server_cpu_us_per_message").verdict, Verdict::Worse);
        assert_eq!(row(&b, &a, "echo.p99").verdict, Verdict::Better);
        assert_eq!(row(&a, &b, "opened").verdict, Verdict::Different);
    }

    #[test]
    fn ranges_that_overlap_are_noise() {
        assert_eq!(row(&[1.0, 1.2], &[1.1, 1.3], "echo.p99").verdict, Verdict::WithinNoise);
        assert_eq!(row(&[1.0, 1.4], &[1.1], "echo.p99").verdict, Verdict::WithinNoise);
        assert_eq!(row(&[1.0, 1.1], &[1.11, 1.2], "echo.p99").verdict, Verdict::Worse);
        assert_eq!(row(&[1.0], &[1.0], "echo.p99").verdict, Verdict::Equal);
    }

    #[test]
    fn ratio_spans_what_any_two_runs_are_apart() {
        let ratio = row(&[1.0, 2.0, 4.0], &[4.0, 6.0, 8.0], "messages_per_s").ratio.unwrap();
        for (actual, expected) in [(ratio.median, 3.0), (ratio.lowest, 1.0), (ratio.highest, 8.0)] {
            assert!((actual - expected).abs() < 1e-9, "{ratio:?}");
        }
        assert_eq!(row(&[1.0], &[2.0], "mismatches").ratio, None, "0 has no ratio");
    }

    #[test]
    fn what_makes_runs_hard_to_compare_is_warned_about() {
        let (a, mut b) = (runs(&[1.0, 1.0]), runs(&[1.0, 1.0]));
        assert_eq!(warnings(&a, &b), Vec::<String>::new());
        b[0].url = "ws://elsewhere/".to_owned();
        b[0].settings.insert("pid".to_owned(), "1".to_owned());
        assert_eq!(warnings(&a, &b).len(), 1, "only that side b mixes addresses");
        b[1].scenario = "idle".to_owned();
        b[1].loop_kind = Some(LoopKind::Closed { depth: 1 });
        b[1].settings.insert("size".to_owned(), "1024".to_owned());
        b[1].settings.insert("conns".to_owned(), "2000".to_owned());
        b[1].machine.cores = 64;
        let text = warnings(&a, &b).join("\n");
        for part in [
            "scenario differs: echo / idle",
            "loop kind differs: closed loop, 1 in flight",
            "setting size differs: 1024 / 20",
            "setting conns differs: 1000 / 2000",
            "machine differs",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn one_run_on_a_side_is_said_to_have_no_known_noise() {
        let text = warnings(&runs(&[1.0]), &runs(&[1.0, 1.1])).join("\n");
        assert!(text.contains("side a is one run") && !text.contains("side b"), "{text}");
    }

    #[test]
    fn sides_are_told_apart_in_three_ways() {
        let split = |args| {
            let (a, b) = sides(&args).unwrap();
            let names = |paths: Vec<PathBuf>| {
                let names: Vec<String> =
                    paths.iter().map(|path| path.display().to_string()).collect();
                names.join(" ")
            };
            (names(a), names(b))
        };
        let expected = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(split(args(&["a", "b"], &[], &[])), expected("a", "b"));
        assert_eq!(split(args(&["a", "b", "c"], &[], &[])), expected("a", "b c"));
        assert_eq!(split(args(&["a", "b"], &["c", "d"], &[])), expected("a b", "c d"));
        assert_eq!(split(args(&["c"], &[], &["a", "b"])), expected("a b", "c"));
        for args in [args(&[], &[], &[]), args(&["a"], &[], &[]), args(&[], &["b"], &[])] {
            assert_eq!(sides(&args), Err(TOO_FEW.to_owned()));
        }
        assert!(sides(&args(&["a"], &["b"], &["c"])).unwrap_err().contains("not with both"));
    }

    #[test]
    fn command_line_takes_the_second_side_after_two_dashes() {
        use clap::{Args as _, FromArgMatches as _};
        let command = CompareArgs::augment_args(clap::Command::new("compare"));
        command.clone().debug_assert();
        let matches = command.get_matches_from("compare a1 a2 -- b1 b2 b3".split(' '));
        let (a, b) = sides(&CompareArgs::from_arg_matches(&matches).unwrap()).unwrap();
        assert_eq!((a.len(), b.len()), (2, 3));
    }

    #[test]
    fn json_of_a_comparison_names_verdicts_and_spreads() {
        let comparison = Comparison::of(&runs(&[1.0, 1.1]), &runs(&[2.0, 2.2])).unwrap();
        let json = serde_json::to_value(&comparison).unwrap();
        let row = &json["figures"][0];
        assert_eq!(row["name"], "messages_per_s");
        assert_eq!(row["verdict"], "better");
        assert!(row["ratio"]["lowest"].as_f64() < row["ratio"]["highest"].as_f64());
        assert_eq!(json["a"]["runs"], 2);
    }
}
