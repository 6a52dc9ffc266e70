//! Signals: the first SIGTERM or SIGINT drains the server, the second stops it at once; SIGHUP
//! reads the configuration and the certificates again.

use std::io;
use std::sync::Arc;

use longwire::CloseCode;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Life, Plan, spawn};
use crate::say::say;
use crate::secure;

/// Heeds signals from now on, on a thread of its own.
pub(super) fn heed(life: &Arc<Life>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let life = Arc::clone(life);
    spawn("signals", move || {
        for signal in &mut signals {
            match signal {
                SIGHUP => reload(&life),
                SIGTERM => stop(&life, CloseCode::SERVICE_RESTART),
                _ => stop(&life, CloseCode::GOING_AWAY),
            }
        }
    })
}

fn stop(life: &Life, code: CloseCode) {
    // Before anything else, so that nobody is sent here any more.
    if life.plan.stage.stop() {
        say("stopping; a second signal stops at once");
        life.drain(code);
    } else {
        say("stopping at once");
        life.plan.handle.stop_now();
    }
}

fn reload(life: &Life) {
    let Plan { handle, stage, tls, reload, .. } = &life.plan;
    // The end of a start is told by the start.
    let is_told = stage.is_serving() || stage.is_stopping();
    if is_told {
        life.manager.tell_reloading();
    }
    // With a fault in the file all stays as it is, certificates included.
    if reload.run(handle) {
        match tls {
            Some(tls) => secure::reload(tls),
            None if reload.has_file() => {}
            None => say("there are no certificates to read again"),
        }
    }
    if stage.is_stopping() {
        life.manager.tell("READY=1\nSTATUS=draining");
    } else if is_told {
        life.manager.tell("READY=1\nSTATUS=serving");
    }
}
