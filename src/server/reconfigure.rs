//! New settings for a server that runs: checked by whoever calls, handed to each worker as an order.

use crate::config::{Builder, Reconfigured};
use crate::error::Error;
use crate::pubsub::Order;

use super::Handle;

impl Handle {
    /// Gives a running server other settings: limits, timeouts and origins. Each worker takes them up
    /// between two turns, and nobody is disconnected: fewer connections than there are, say, only turns
    /// new ones away. What has begun goes on; it is judged by the new limits from its next frame or
    /// byte on. Silence and rates are counted anew where their limits have changed, and a
    /// [`lifetime_max`](Builder::lifetime_max) is for connections that open from now on.
    ///
    /// What is built at the start cannot change: where and how is listened, workers, backend, the
    /// memory of blocks, compression, topics, proxies, more connections than there were at first, and
    /// [`conns_per_address_max`](Builder::conns_per_address_max) if nothing was counted. It stays as it is, and
    /// [`Reconfigured::needs_restart`] names what differs. A [`topic_policy`](Builder::topic_policy) stays as
    /// well, and cannot be compared. Certificates are [reloaded](crate::Tls::reload) by themselves.
    ///
    /// ```
    /// # struct Echo;
    /// # impl longwire::Handler for Echo {
    /// #     type State = ();
    /// #     fn message(&mut self, _: &mut longwire::Conn<'_, ()>, _: longwire::Message<'_>) {}
    /// # }
    /// use longwire::Server;
    ///
    /// let settings = || Server::builder().listen(([127, 0, 0, 1], 0).into()).conns_max(100);
    /// let server = settings().build()?;
    /// let handle = server.handle();
    /// let serving = std::thread::spawn(move || server.run(|_worker| Echo));
    ///
    /// let outcome = handle.reconfigure(&settings().message_bytes_max(1 << 20).backlog(128))?;
    /// assert_eq!(outcome.changed, ["message_bytes_max", "frame_bytes_max", "send_bytes_max"]);
    /// assert_eq!(outcome.needs_restart, ["backlog"]);
    /// # handle.stop_now();
    /// # serving.join().unwrap()?;
    /// # Ok::<(), longwire::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for settings that make no sense; then all stays as it is.
    pub fn reconfigure(&self, builder: &Builder) -> Result<Reconfigured, Error> {
        // Held to the end, so that of two calls all workers are told in the same order.
        let mut settings = self.settings();
        let outcome = settings.take_up(builder)?;
        let shared = &self.inner.shared;
        shared.budget.set_limit(settings.checked().memory_bytes_max);
        if let Some(per_address) = &shared.access.per_address {
            per_address.set_conns_max(settings.conns_per_address_max());
        }
        for worker in 0..self.inner.wakes.len() {
            let limits = Box::new(settings.checked().limits_of(worker));
            shared.exchange.order_certainly(worker, Order::Reconfigure(limits));
        }
        Ok(outcome)
    }

    /// Connections that are taken at one time.
    pub fn conns_max(&self) -> usize {
        self.settings().checked().limits.conns_max
    }

    /// Bytes that connections may make the whole server hold.
    pub fn memory_bytes_max(&self) -> usize {
        self.settings().checked().memory_bytes_max
    }

    /// Payload bytes of the largest message that is taken.
    pub fn message_bytes_max(&self) -> usize {
        self.settings().checked().limits.message_bytes_max
    }
}
