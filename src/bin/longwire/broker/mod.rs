//! Topics beyond one machine: what is published on one node reaches the subscribers of all, through
//! a broker that speaks NATS or Redis.
//!
//! Workers hand a copy of each message to a [`Port`], and never wait. All else is done by one thread
//! of its own, in `engine`: it subscribes at the broker to the topics that have subscribers here, sends
//! what the ports have, and publishes what comes by a `Handle`, as anybody could. Without a broker
//! nothing of this is there.
//!
//! A message reaches another node at most once, and in the order of its publisher. How many did not
//! is counted exactly, by the numbers that messages carry (`envelope`, `streams`, `interest`).
//!
//! The two protocols are spoken by code of this folder (`wire`), for limits must hold before memory
//! is spent: what a broker declares, or does not end, is refused by its first bytes.

mod address;
mod connect;
mod engine;
mod envelope;
mod interest;
mod link;
mod local;
mod names;
mod port;
mod report;
mod retry;
mod streams;
mod wire;

pub(crate) use port::Port;
pub(crate) use report::{Figures, Report};

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use longwire::{Error, Handle};
use tokio_rustls::TlsConnector;

use crate::args::BrokerArgs;
use address::Address;
use names::Subjects;
use port::{Alarm, Lane};

/// A broker that was asked for.
#[derive(Clone)]
pub(crate) struct Broker {
    shared: Arc<Shared>,
}

/// What the side thread and all others have in common.
struct Shared {
    address: Address,
    tls: Option<TlsConnector>,
    subjects: Subjects,
    /// Where nodes speak to each other.
    control: String,
    node: u64,
    queue_bytes_max: usize,
    retry_max: Duration,
    lanes: Mutex<Vec<Arc<Lane>>>,
    alarm: Arc<Alarm>,
    report: Report,
}

impl Broker {
    /// Checks what was typed, if a broker was asked for.
    pub(crate) fn new(args: &BrokerArgs) -> Result<Option<Self>, Error> {
        let Some(url) = &args.url else { return Ok(None) };
        let address: Address =
            url.parse().map_err(|advice| Error::Misuse(format!("--broker: {advice}")))?;
        if args.ca.is_some() && !address.is_tls {
            return Err(Error::Misuse(format!(
                "--broker-ca is for TLS, and {address} is without; write tls:// or rediss://"
            )));
        }
        let tls = address.is_tls.then(|| connect::tls(args.ca.as_deref())).transpose()?;
        let subjects = Subjects::new(&args.prefix).map_err(Error::Misuse)?;
        let mut node = [0; 8];
        getrandom::fill(&mut node)
            .map_err(|error| Error::Misuse(format!("the system has no random numbers: {error}")))?;
        let shared = Shared {
            control: subjects.control(),
            address,
            tls,
            subjects,
            node: u64::from_be_bytes(node),
            queue_bytes_max: args.queue_bytes_max,
            retry_max: args.retry_max,
            lanes: Mutex::default(),
            alarm: Arc::default(),
            report: Report::new(),
        };
        Ok(Some(Self { shared: Arc::new(shared) }))
    }

    /// A way to it for a worker or the administration, each of which has its own.
    pub(crate) fn port(&self) -> Port {
        let lane = Arc::new(Lane::new(self.shared.queue_bytes_max));
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.push(Arc::clone(&lane));
        Port::new(lane, Arc::clone(&self.shared.alarm))
    }

    /// Works from a thread of its own until the process ends.
    pub(crate) fn start(&self, handle: Handle) -> Result<(), Error> {
        let failed = |source| Error::Worker { worker: 0, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // For names of hosts.
            .max_blocking_threads(1)
            .build()
            .map_err(failed)?;
        let engine = engine::Engine::new(Arc::clone(&self.shared), handle);
        let work = move || runtime.block_on(engine.run());
        thread::Builder::new().name("broker".to_owned()).spawn(work).map_err(failed)?;
        Ok(())
    }

    pub(crate) fn report(&self) -> &Report {
        &self.shared.report
    }

    /// Where it is, without a password.
    pub(crate) fn url(&self) -> String {
        self.shared.address.to_string()
    }

    /// The name of this node.
    pub(crate) fn node(&self) -> String {
        format!("{:016x}", self.shared.node)
    }
}

impl Shared {
    /// Adds the lanes that were made since.
    fn lanes_into(&self, known: &mut Vec<Arc<Lane>>) {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for lane in &lanes[known.len()..] {
            known.push(Arc::clone(lane));
        }
    }
}
