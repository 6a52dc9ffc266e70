//! SIGHUP: the file is read again, and what has changed is taken up or named.
//!
//! INVARIANT: a configuration with a fault anywhere changes nothing (row LC03).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longwire::{Handle, ListenAddr, Reconfigured, Tls};

use crate::args::ServerArgs;
use crate::{launch, log};

use super::setting::Setting;
use super::{Configured, Refusal, check};

/// What can be changed without the library.
const CHANGED_HERE: [&str; 3] = ["log", "drain_time", "stuck_abort"];
/// What the program is built with at its start, and the library knows nothing of.
const BUILT_HERE: [&str; 19] = [
    "log_format",
    "protocol",
    "tls_cert",
    "tls_key",
    "tls_self_signed",
    "tls_client_ca",
    "tls_client_required",
    "publish",
    "latest",
    "drop_oldest",
    "history",
    "broker",
    "broker_ca",
    "broker_prefix",
    "broker_queue_bytes_max",
    "broker_retry_max",
    "admin",
    "admin_token",
    "admin_host",
];

/// The configuration in force, of a server that runs.
#[derive(Debug)]
pub(crate) struct Reload {
    configured: Configured,
    tls: Option<Tls>,
    /// Where a service manager listens for us, in plain text and over TLS.
    places: Option<(Vec<ListenAddr>, Vec<ListenAddr>)>,
    in_force: Mutex<InForce>,
}

#[derive(Debug)]
struct InForce {
    settings: Vec<Setting>,
    drain_time: Duration,
    stuck_abort: Option<Duration>,
}

/// What a reload has done.
#[derive(Debug, Default)]
struct Outcome {
    changed: Vec<String>,
    needs_restart: Vec<String>,
}

impl Reload {
    /// `args` are those that the server was built with.
    pub(crate) fn new(
        configured: &Configured,
        args: &ServerArgs,
        tls: Option<Tls>,
        is_activated: bool,
    ) -> Self {
        let places = is_activated.then(|| (args.listen.clone(), args.tls.listen_tls.clone()));
        let in_force = InForce {
            settings: configured.settings.clone(),
            drain_time: args.drain_time,
            stuck_abort: args.stuck_abort.0,
        };
        Self { configured: configured.clone(), tls, places, in_force: Mutex::new(in_force) }
    }

    /// Whether there is a file to read again.
    pub(crate) fn has_file(&self) -> bool {
        self.configured.file.is_some()
    }

    /// Over which time connections are closed.
    pub(crate) fn drain_time(&self) -> Duration {
        self.in_force().drain_time
    }

    /// When to abort for a worker that is stuck.
    pub(crate) fn stuck_abort(&self) -> Option<Duration> {
        self.in_force().stuck_abort
    }

    /// Reads the file again, if there is one, and says what has come of it. False if it is wrong.
    pub(crate) fn run(&self, handle: &Handle) -> bool {
        let Some(file) = &self.configured.file else { return true };
        match self.take_up(handle) {
            Ok(Outcome { changed, needs_restart }) => {
                let file = file.display();
                match (changed.is_empty(), needs_restart.is_empty()) {
                    (true, true) => tracing::info!("{file}: nothing has changed"),
                    (true, false) => {}
                    (false, _) => tracing::info!("{file}: {}", changed.join(", ")),
                }
                if !needs_restart.is_empty() {
                    let list = needs_restart.join(", ");
                    tracing::warn!("{file}: only a restart, or an upgrade, changes {list}");
                }
                true
            }
            Err(faults) => {
                for fault in faults {
                    tracing::error!("the configuration stays as it is: {fault}");
                }
                false
            }
        }
    }

    fn take_up(&self, handle: &Handle) -> Result<Outcome, Vec<String>> {
        let mut configured = Configured::load(self.configured.words.clone()).map_err(faults)?;
        let Some(server) = configured.args.command.server_mut() else {
            return Ok(Outcome::default());
        };
        if let Some((plain, tls)) = &self.places {
            (server.listen, server.tls.listen_tls) = (plain.clone(), tls.clone());
        }
        let (drain_time, stuck_abort) = (server.drain_time, server.stuck_abort.0);
        let command = &configured.args.command;
        let attributed = |error: longwire::Error| vec![configured.attribute(&error.to_string())];
        check::of_running(command).map_err(attributed)?;
        let builder = launch::builder_of(command, self.tls.as_ref()).map_err(attributed)?;
        // From here on nothing fails that is not checked by then.
        let reconfigured = handle.reconfigure(&builder).map_err(attributed)?;
        log::set(&configured.args.log).map_err(|error| vec![format!("log: {error}")])?;
        for warning in &configured.warnings {
            tracing::warn!("{warning}");
        }
        let mut in_force = self.in_force();
        (in_force.drain_time, in_force.stuck_abort) = (drain_time, stuck_abort);
        Ok(in_force.settle(configured.settings, &reconfigured))
    }

    fn in_force(&self) -> std::sync::MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InForce {
    /// Keeps what holds now: what needs a restart is told again the next time.
    fn settle(&mut self, new: Vec<Setting>, reconfigured: &Reconfigured) -> Outcome {
        let mut outcome = Outcome::default();
        for (old, new) in self.settings.iter_mut().zip(new) {
            if old.is_like(&new) {
                *old = new;
                continue;
            }
            let change = format!("{} {} -> {}", new.key, old.plain(), new.plain());
            if is_fixed(&new.key, reconfigured) {
                outcome.needs_restart.push(change);
            } else {
                outcome.changed.push(change);
                *old = new;
            }
        }
        outcome
    }
}

fn is_fixed(key: &str, reconfigured: &Reconfigured) -> bool {
    if CHANGED_HERE.contains(&key) {
        return false;
    }
    let setting = match key {
        "origin" | "allow_any_origin" => "allowed_origins",
        "trusted_proxy" => "trusted_proxies",
        "listen_tls" => "listen",
        key if key.starts_with("deflate") => "compression",
        key => key,
    };
    BUILT_HERE.contains(&key) || reconfigured.needs_restart.contains(&setting)
}

fn faults(refusal: Refusal) -> Vec<String> {
    match refusal {
        Refusal::Faults(faults) => faults.into_iter().map(|fault| fault.text).collect(),
        Refusal::Unreadable(fault) => vec![fault],
        Refusal::Usage(error) => vec![crate::one_line(&error)],
    }
}
