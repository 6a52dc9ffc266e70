//! What longwire costs above the bare kernel, in CPU time of the server and in memory.
//!
//! Eight measurements, each of a program as its own process: `echo` (server CPU per
//! message beside a bare server that makes the same system calls and knows no WebSocket), `memory`
//! (resident bytes per idle connection), `accept` (server CPU per connection opened, handshake
//! included, beside bare accepting and registering), `secure` (server CPU per message over TLS,
//! beside that without it and what the cipher alone takes; with compression, beside `ws` under
//! Node.js), `generator` (CPU of `loadgen` per message beside that of the bare server it drives),
//! `fanout` (server CPU per delivery of a published message, beside a loop of sends), `delivery`
//! (whether every subscriber gets every message), and `stalled` (what subscribers that do not read
//! do to the others, and to memory). The speed of a machine drifts by more than
//! the differences of interest, so only ratios of neighbouring slices are judged.
//!
//! Throughput and latency are not measured here: they say how fast one core of the client is.

mod accept;
mod audience;
mod bare_epoll;
mod bare_fanout;
mod bare_uring;
mod cell;
mod cipher;
mod core;
mod crowd;
mod debt;
mod delivery;
mod echo;
mod fanout;
mod frame;
mod generator;
mod idle;
mod load;
mod loadgen;
mod machine;
mod memory;
mod options;
mod process_stat;
mod report;
mod secure;
mod server;
mod stalled;
mod topics;
mod upgrade;

use std::io;
use std::process::ExitCode;

use options::{Backend, Command, Options};
use report::Verdict;

/// How this program ends.
mod exit {
    /// A figure is over its bar and `--gate` was given.
    pub(super) const OVER: u8 = 1;
    /// The measurement could not be made.
    pub(super) const FAILED: u8 = 2;
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == server::LAUNCH) {
        eprintln!("floor: {}", server::launch(std::env::args_os().skip(2)));
        return ExitCode::from(exit::FAILED);
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("floor: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    match run(&options) {
        Ok(Verdict::Over) if options.gate => ExitCode::from(exit::OVER),
        Ok(Verdict::Over | Verdict::Within) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn run(options: &Options) -> io::Result<Verdict> {
    match options.command {
        Command::Help => {
            print!("{}", options::HELP);
            for cell in &cell::CELLS {
                println!("  {:<14} {}; bar {:.2}", cell.name, cell.description, cell.bar);
            }
            Ok(Verdict::Within)
        }
        Command::Bare => serve_bare(options),
        Command::BareFanout => serve_bare_fanout(options),
        Command::Topics => serve_topics(options),
        Command::Audience => attend(options),
        Command::Echo => {
            println!("{}", machine::line());
            echo::run(options)
        }
        Command::Memory => {
            println!("{}", machine::line());
            memory::run(options)
        }
        Command::Accept => {
            println!("{}", machine::line());
            accept::run(options)
        }
        Command::Secure => {
            println!("{}", machine::line());
            secure::run(options)
        }
        Command::Generator => {
            println!("{}", machine::line());
            generator::run(options)
        }
        Command::Fanout => {
            println!("{}", machine::line());
            fanout::run(options)
        }
        Command::Delivery => {
            println!("{}", machine::line());
            delivery::run(options)
        }
        Command::Stalled => {
            println!("{}", machine::line());
            stalled::run(options)
        }
    }
}

/// The floor itself: what the child processes run, until they are killed.
fn serve_bare(options: &Options) -> io::Result<Verdict> {
    server::die_with_parent()?;
    core::pin(core::SERVER)?;
    let mut exchange = debt::Exchange::new(options.message_bytes, options.reply_bytes);
    exchange.speaks = options.speaks;
    let listener = server::listen(options.listen)?;
    println!("listening on {}", listener.local_addr()?);
    match options.backends.first() {
        Some(Backend::IoUring) => bare_uring::serve(&listener, exchange)?,
        Some(Backend::Epoll) | None => bare_epoll::serve(&listener, exchange)?,
    }
    Ok(Verdict::Within)
}

/// The floor of a fan-out.
fn serve_bare_fanout(options: &Options) -> io::Result<Verdict> {
    server::die_with_parent()?;
    core::pin(core::SERVER)?;
    let listener = server::listen(options.listen)?;
    println!("listening on {}", listener.local_addr()?);
    let (message_bytes, reply) = audience::message_bytes();
    bare_fanout::serve(&listener, options.conn_count, message_bytes, &reply)?;
    Ok(Verdict::Within)
}

/// The server under test of a fan-out.
fn serve_topics(options: &Options) -> io::Result<Verdict> {
    server::die_with_parent()?;
    topics::serve(options)?;
    Ok(Verdict::Within)
}

/// The subscribers of a fan-out.
fn attend(options: &Options) -> io::Result<Verdict> {
    server::die_with_parent()?;
    core::pin(core::CLIENT)?;
    let manner = if options.speaks { crowd::Manner::WebSocket } else { crowd::Manner::Bare };
    crowd::affordable_count(options.conn_count)?;
    audience::attend(options.connect, options.conn_count, manner)?;
    Ok(Verdict::Within)
}
