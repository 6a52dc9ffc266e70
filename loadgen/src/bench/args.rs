//! The command line of `loadgen bench`.

use std::path::PathBuf;

use clap::Args;

/// Compares servers: every server of a matrix file under each of its workloads, in turns
///
/// The file names servers (a command each), workloads (a scenario of loadgen with its flags, and the
/// figure that counts) and how often all is repeated. Rounds are interleaved: every server once,
/// then every server again, so that a machine that drifts drifts for all of them. Ratios are made
/// within a round. A cell that could not be run is shown with the reason.
///
/// Status 0: done. 1: a server answered something else than what was sent. 2: a mistake in the file,
/// or no cell could be run. Ctrl-C ends the run, and what is complete is shown and written.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  loadgen bench benches/matrix.toml
  loadgen bench benches/matrix.toml --servers 'longwire (epoll),axum' --repeats 5
  loadgen bench benches/matrix.toml --html report.html --markdown docs/BENCHMARKS.md

The file:
  repeats, port, generator, floor, [vars]: all optional
  [[server]]    name, command (with {port}); optional: cores, path, arguments, without
  [[workload]]  name, arguments, figure; optional: also, needs, vars
`generator` and `arguments` are flags of loadgen. `{name}` in a command is replaced from `vars`.
`without = { topics = \"not yet\" }` excuses a server from workloads with `needs = [\"topics\"]`.

Commands of the file run in the current directory. A --markdown file that exists is changed only
between the lines `<!-- loadgen bench: begin -->` and `<!-- loadgen bench: end -->`.")]
pub(crate) struct BenchArgs {
    /// The matrix, as TOML
    #[arg(value_name = "MATRIX")]
    pub(crate) matrix: PathBuf,
    /// Rounds, instead of as many as the file says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeats: Option<u32>,
    /// Only these servers, by name, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) servers: Vec<String>,
    /// Only these workloads, by name, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) workloads: Vec<String>,
    /// Write everything as JSON; `-` is standard output, instead of the tables
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the tables as one self-contained page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the tables as Markdown, into the marked part of a file if it exists
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Do not say what is running
    #[arg(long, short)]
    pub(crate) quiet: bool,
}
