//! The runtime and the accept loop, the same for each server.

use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;

use crate::Ended;
use crate::arguments::{Arguments, Asked, HELP, Mode};

/// Messages that a connection may be behind in broadcast mode before it is closed.
const BROADCAST_BEHIND_MAX: usize = 4096;
/// Pause after a connection could not be accepted: descriptors come back only when others close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What a connection does with the messages it receives, of whatever type its crate has for them.
#[derive(Clone, Debug)]
pub enum Role<M> {
    /// Sends them back.
    Echo,
    /// Sends them to all connections, itself included.
    Broadcast(broadcast::Sender<M>),
}

/// Runs a server that treats each accepted socket by `serve`, until it is killed.
pub fn run<M, F>(
    name: &str,
    serve: impl Fn(TcpStream, Role<M>) -> F + Copy + Send + 'static,
) -> ExitCode
where
    M: Clone + Send + 'static,
    F: Future<Output = Ended> + Send + 'static,
{
    run_listener(name, async move |listener, role| {
        loop {
            match accept(&listener).await {
                Ok(stream) => {
                    // A connection that fails has told its peer; nobody else wants to know.
                    tokio::spawn(serve(stream, role.clone()));
                }
                Err(error) => {
                    eprintln!("cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// Runs a server that accepts by itself.
pub fn run_listener<M: Clone>(
    name: &str,
    serve: impl AsyncFnOnce(TcpListener, Role<M>) -> io::Result<()>,
) -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|asked| match asked {
        Asked::Help => {
            print!("{name}: echo and broadcast server\n\n{HELP}");
            Ok(())
        }
        Asked::Serve(arguments) => {
            start(arguments, serve).map_err(|error| format!("{}: {error}", arguments.listen))
        }
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: error: {error}");
            ExitCode::from(2)
        }
    }
}

fn start<M: Clone>(
    arguments: Arguments,
    serve: impl AsyncFnOnce(TcpListener, Role<M>) -> io::Result<()>,
) -> io::Result<()> {
    raise_descriptor_limit();
    let role = match arguments.mode {
        Mode::Echo => Role::Echo,
        Mode::Broadcast => Role::Broadcast(broadcast::Sender::new(BROADCAST_BEHIND_MAX)),
    };
    runtime(arguments.threads)?.block_on(async {
        let listener = TcpListener::bind(arguments.listen).await?;
        println!("listening on {}", listener.local_addr()?);
        serve(listener, role).await
    })
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    match threads {
        1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// As Node.js and Bun do by themselves. Where it fails, the soft limit stays.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
