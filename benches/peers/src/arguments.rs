//! The command line, the same for each server.
//!
//! Parsed by hand: three flags are not worth a parser in a package of other people's crates.

use std::net::SocketAddr;

/// What was typed, with the defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) listen: SocketAddr,
    pub(crate) mode: Mode,
    /// 1 is a runtime on the thread of `main`, more are a pool of so many.
    pub(crate) threads: usize,
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It goes back.
    Echo,
    /// It goes to every connection, the sender's included.
    Broadcast,
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Serve(Arguments),
    Help,
}

pub(crate) const HELP: &str = "\
Options
  --listen ADDR    where to listen (default: 127.0.0.1:9001)
  --mode MODE      echo, or broadcast: a message goes to every connection (default: echo)
  --threads N      1: all on one thread; more: a pool of so many (default: 1)
  --help           this text
";

impl Arguments {
    pub(crate) fn parse(mut typed: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut arguments =
            Self { listen: SocketAddr::from(([127, 0, 0, 1], 9001)), mode: Mode::Echo, threads: 1 };
        while let Some(name) = typed.next() {
            if matches!(name.as_str(), "--help" | "-h") {
                return Ok(Asked::Help);
            }
            if !matches!(name.as_str(), "--listen" | "--mode" | "--threads") {
                return Err(format!("`{name}` is not an option; --help lists them"));
            }
            let value = typed.next().ok_or_else(|| format!("{name} needs a value"))?;
            arguments.set(&name, &value)?;
        }
        Ok(Asked::Serve(arguments))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--listen" => {
                self.listen = value.parse().map_err(|_| {
                    format!("--listen takes an address such as 127.0.0.1:9001, not `{value}`")
                })?;
            }
            "--mode" => {
                self.mode = match value {
                    "echo" => Mode::Echo,
                    "broadcast" => Mode::Broadcast,
                    _ => return Err(format!("--mode takes echo or broadcast, not `{value}`")),
                };
            }
            _ => {
                self.threads =
                    value.parse().ok().filter(|threads| (1..=1024).contains(threads)).ok_or_else(
                        || format!("--threads takes a number from 1 to 1024, not `{value}`"),
                    )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(typed: &[&str]) -> Result<Asked, String> {
        Arguments::parse(typed.iter().map(|&word| word.to_owned()))
    }

    #[test]
    fn flags_are_read_in_any_order() {
        let typed = ["--threads", "4", "--mode", "broadcast", "--listen", "127.0.0.1:7"];
        let listen = SocketAddr::from(([127, 0, 0, 1], 7));
        let asked = Arguments { listen, mode: Mode::Broadcast, threads: 4 };
        assert_eq!(parse(&typed), Ok(Asked::Serve(asked)));
        assert_eq!(parse(&["--mode", "echo", "--help"]), Ok(Asked::Help));
    }

    #[test]
    fn mistake_is_answered_with_what_would_have_been_right() {
        for (typed, said) in [
            (&["--port", "1"][..], "--help lists them"),
            (&["--listen"], "needs a value"),
            (&["--listen", "9001"], "such as 127.0.0.1:9001"),
            (&["--mode", "shout"], "echo or broadcast"),
            (&["--threads", "0"], "from 1 to 1024"),
        ] {
            let error = parse(typed).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
