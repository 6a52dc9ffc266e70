//! The life of a server: ready, reloaded, drained, replaced; and who is told of it.
//!
//! Nothing here is on the way of a message. Signals, the control socket and the look at the workers
//! have a thread each; all of them act through [`Life`].

mod control;
mod given;
mod notify;
mod program;
mod signals;
mod upgrade;
mod vitals;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire::{CloseCode, Error, Handle, ListenAddr, Tls};
use rustix::process::Pid;
use tokio::sync::Notify;

use crate::config::Reload;

pub(crate) use control::run as run_upgrade;
pub(crate) use given::{Given, Predecessor, tell_failure};
use notify::Manager;

/// How far a server has come; shared with those who are asked about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage(Arc<StageInner>);

#[derive(Debug, Default)]
struct StageInner {
    state: AtomicU8,
    /// For how long the worker that has been longest at one turn is, in milliseconds.
    stuck_millis: AtomicU64,
    began: Notify,
    /// The ports go on in another process.
    handed_over: Notify,
}

impl Stage {
    const SERVING: u8 = 1;
    const STOPPING: u8 = 2;

    /// Whether it takes connections.
    pub(crate) fn is_serving(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == Self::SERVING
    }

    /// It takes connections now, unless it has been stopped by then: whether it does.
    pub(crate) fn serve(&self) -> bool {
        let state = &self.0.state;
        let began = state.compare_exchange(0, Self::SERVING, Ordering::AcqRel, Ordering::Acquire);
        if began.is_ok() {
            self.0.began.notify_one();
        }
        began.is_ok()
    }

    /// For how long a worker has been at one turn, if that is longer than any turn should be.
    pub(crate) fn stuck(&self) -> Duration {
        Duration::from_millis(self.0.stuck_millis.load(Ordering::Relaxed))
    }

    /// Waits until it takes connections.
    pub(crate) async fn began(&self) {
        self.0.began.notified().await;
    }

    /// Waits until another process accepts in this one's place.
    pub(crate) async fn handed_over(&self) {
        self.0.handed_over.notified().await;
    }

    /// Whether it was the first to stop it.
    fn stop(&self) -> bool {
        self.0.state.swap(Self::STOPPING, Ordering::AcqRel) != Self::STOPPING
    }

    fn is_stopping(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == Self::STOPPING
    }
}

/// What there is to know of a server to look after it.
pub(crate) struct Plan {
    pub(crate) handle: Handle,
    pub(crate) stage: Stage,
    pub(crate) tls: Option<Tls>,
    /// What SIGHUP reads again.
    pub(crate) reload: Reload,
    /// Where TLS is spoken.
    pub(crate) tls_places: Vec<ListenAddr>,
    /// The administration port.
    pub(crate) admin: Option<OwnedFd>,
    /// Addresses came with sockets of a service manager, not from flags.
    pub(crate) is_activated: bool,
}

/// A server that is looked after.
pub(crate) struct Life {
    plan: Plan,
    manager: Manager,
    /// Where the program is that is started by an upgrade: what lies there then may be newer.
    program: PathBuf,
    /// Where orders come in, as long as there are any to heed.
    control: Mutex<Option<UnixListener>>,
    /// A new process that has not said yet that it serves.
    successor: Mutex<Option<Pid>>,
}

impl Life {
    /// Begins to heed signals and orders.
    pub(crate) fn begin(plan: Plan) -> Result<Arc<Self>, Error> {
        let failed = |source| Error::Worker { worker: 0, source };
        let program = program::path().map_err(failed)?;
        let manager = Manager::of_environment();
        let (control, successor) = (Mutex::default(), Mutex::default());
        let life = Arc::new(Self { plan, manager, program, control, successor });
        signals::heed(&life).map_err(failed)?;
        vitals::watch(&life).map_err(failed)?;
        if let Err(error) = control::listen(&life) {
            tracing::warn!("`longwire upgrade` will not find this process: {error}");
        }
        Ok(life)
    }

    /// All workers serve.
    pub(crate) fn ready(&self) {
        self.manager.tell("READY=1\nSTATUS=serving");
    }

    /// Stops in order: not ready, no more connections, those there are told one after another.
    fn drain(&self, code: CloseCode) {
        let Plan { handle, reload, .. } = &self.plan;
        self.manager.tell("STOPPING=1\nSTATUS=draining");
        handle.drain(code, reload.drain_time());
        self.give_up_successor();
        self.close_control();
    }

    /// The same when another process has taken the sockets over, and this one has been stopped for it.
    fn leave(&self, successor: u32) {
        let Plan { handle, stage, reload, .. } = &self.plan;
        self.manager.tell(&format!("MAINPID={successor}\nREADY=1\nSTATUS=serving"));
        stage.0.handed_over.notify_one();
        handle.hand_over(CloseCode::SERVICE_RESTART, reload.drain_time());
        self.close_control();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that lives as long as the process.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
