//! `longwire man` and `longwire completions`: what packages install beside the program, made from
//! the description of its flags that also reads the command line.
//!
//! INVARIANT: nothing here names a command or a flag, so that no page can lag behind.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use crate::args::{Args, CompletionsArgs, ManArgs, Shell};

/// Of the program, and first word of the names of all pages.
const NAME: &str = "longwire";

/// Writes one page to standard output, or all of them to a directory. An error is one line.
pub(crate) fn write_pages(args: &ManArgs) -> Result<ExitCode, String> {
    let root = whole();
    match (&args.dir, &args.command) {
        (Some(dir), _) => write_all(&root, dir),
        (None, None) => print(&page(&root)),
        (None, Some(name)) => {
            let wanted = format!("{NAME}-{}", name.replace(' ', "-"));
            match pages(&root).into_iter().find(|command| title(command) == wanted) {
                Some(command) => print(&page(command)),
                None => Err(format!("there is no command `{name}`; longwire --help lists them")),
            }
        }
    }
}

/// Writes what a shell needs to complete commands and flags to standard output.
pub(crate) fn write_completions(args: &CompletionsArgs) -> Result<ExitCode, String> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), NAME, &mut script);
    print(&script)
}

/// The description with all that clap adds to it at the start of a run.
fn whole() -> Command {
    let mut root = brief(Args::command());
    root.build();
    root
}

/// Without the lists of values, which helps name in a sentence: they would take as much room as the
/// flag. And without `help`, which is a command at each level, and has nothing of its own to say.
fn brief(command: Command) -> Command {
    let command = command.disable_help_subcommand(true).mut_args(|arg| {
        let takes_value = arg.get_action().takes_values();
        arg.hide_possible_values(takes_value)
    });
    command.mut_subcommands(brief)
}

/// Each command that has a page: this one and those below it.
fn pages(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|one| !one.is_hide_set()).flat_map(pages);
    std::iter::once(command).chain(below).collect()
}

/// What `man` is asked for: longwire, longwire-serve.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn write_all(root: &Command, dir: &Path) -> Result<ExitCode, String> {
    let failed = |place: &Path, error: io::Error| format!("{}: {error}", place.display());
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    for command in pages(root) {
        let file = dir.join(format!("{}.1", title(command)));
        fs::write(&file, page(command)).map_err(|error| failed(&file, error))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(command: &Command) -> Vec<u8> {
    let mut page = Vec::new();
    write_page(command, &mut page).expect("a vector takes whatever is written to it");
    page
}

fn write_page(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    // Without a date, so that one version is built to the same bytes at any time; and a title of ours,
    // because that of `clap_mangen` leaves an empty date out, which moves the others up.
    let title = title(command);
    writeln!(page, ".TH {title} 1 \"\" \"longwire {}\" longwire", env!("CARGO_PKG_VERSION"))?;
    man.render_name_section(page)?;
    synopsis(command).to_writer(page)?;
    man.render_description_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    man.render_options_section(page)?;
    if let Some(notes) = command.get_after_help() {
        self::notes(&notes.to_string()).to_writer(page)?;
    }
    see_also(command).to_writer(page)
}

/// As in the help. The one of `clap_mangen` lists all flags, which fill half a page.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let rest = usage.strip_prefix(name).unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(name), roman(rest)]);
    roff
}

/// What stands behind the flags in the help. A paragraph with indented lines is an example, and keeps
/// its lines.
fn notes(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]);
    for (index, paragraph) in text.split("\n\n").enumerate() {
        let is_example = paragraph.lines().any(|line| line.starts_with(' '));
        for (line_index, line) in paragraph.lines().enumerate() {
            let begins = line_index == 0 || !is_example;
            // A section begins with a paragraph by itself.
            if begins && index + line_index > 0 {
                roff.control("PP", []);
            }
            if begins && is_example {
                roff.control("nf", []);
            }
            roff.text([roman(line)]);
        }
        if is_example {
            roff.control("fi", []);
        }
    }
    roff
}

/// The other pages: those of the commands below it, or the one that lists it.
fn see_also(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut others: Vec<&str> = command.get_subcommands().map(title).collect();
    let above = title(command).strip_suffix(command.get_name());
    if let Some(above) = above.and_then(|above| above.strip_suffix('-')) {
        others.insert(0, above);
    }
    for (index, other) in others.iter().enumerate() {
        let end = if index + 1 == others.len() { "(1)" } else { "(1)," };
        roff.text([bold(*other), roman(end)]);
    }
    roff
}

fn print(bytes: &[u8]) -> Result<ExitCode, String> {
    match io::stdout().write_all(bytes) {
        // Whoever reads this, such as `head`, has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
