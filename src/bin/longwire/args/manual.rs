//! Flags of `longwire man` and `longwire completions`.

use std::path::PathBuf;

use clap::ValueEnum;

/// What follows the list of flags of `longwire man`.
pub(super) const MAN_HELP: &str = "\
Try it:  longwire man | man -l -
         longwire man serve | man -l -

Packages install them all:
         longwire man --dir /usr/local/share/man/man1";

/// What follows the list of flags of `longwire completions`.
pub(super) const COMPLETIONS_HELP: &str = "\
For this shell, in bash:
         source <(longwire completions bash)

For good:
         longwire completions bash > ~/.local/share/bash-completion/completions/longwire
         longwire completions zsh > \"${fpath[1]}/_longwire\"
         longwire completions fish > ~/.config/fish/completions/longwire.fish";

/// Flags of `longwire man`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Command whose page to write, such as serve; words of one are joined by a dash [default: the page of longwire itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub(crate) command: Option<String>,
    /// Write the pages of all commands into this directory, which is made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Flags of `longwire completions`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Shell that is to complete commands and flags: bash, zsh or fish.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Those for which packages have a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}
