//! The server of the push: longwire with one worker, whose handler knows where each client is and
//! sends it its updates when they are due.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use longwire::{Close, Conn, ConnId, Conns, Handler, Message, Request, Server};

use crate::clock;
use crate::schedule::Publisher;
use crate::serve::Order;
use crate::update::Update;

/// How often the handler looks whether it may begin.
const START_LOOK: Duration = Duration::from_millis(20);

/// Where a client's connections go: `/push/{client}`.
pub(crate) const PATH: &str = "/push/";

struct Push {
    order: Order,
    start_ns: Arc<OnceLock<u64>>,
    publisher: Option<Publisher>,
    /// By client.
    conns: Vec<Option<ConnId>>,
}

impl Push {
    /// Its publisher, once the start is known.
    fn publisher(&mut self) -> Option<&mut Publisher> {
        if self.publisher.is_none() {
            let start_ns = *self.start_ns.get()?;
            self.publisher = Some(Publisher::new(self.order.schedule(start_ns)));
        }
        self.publisher.as_mut()
    }
}

impl Handler for Push {
    /// Which client it is; none until the request said so.
    type State = Option<usize>;

    fn open(&mut self, conn: &mut Conn<'_, Option<usize>>, request: &Request<'_>) {
        let client = request.path().strip_prefix(PATH).and_then(|client| client.parse().ok());
        if let Some(client) = client
            && let Some(place) = self.conns.get_mut(client)
        {
            *place = Some(conn.id());
            *conn.state() = Some(client);
        }
    }

    /// Clients have nothing to say.
    fn message(&mut self, _: &mut Conn<'_, Option<usize>>, _: Message<'_>) {}

    fn close(&mut self, conn: &mut Conn<'_, Option<usize>>, _: &Close) {
        if let Some(client) = *conn.state()
            && self.conns.get(client) == Some(&Some(conn.id()))
        {
            self.conns[client] = None;
        }
    }

    fn turn(&mut self, conns: &mut Conns<'_, Option<usize>>) -> Option<Instant> {
        let now_ns = clock::now_ns();
        let Some(publisher) = self.publisher() else { return Some(conns.now() + START_LOOK) };
        let mut due = Vec::new();
        while let Some(update) = publisher.poll_due(now_ns) {
            due.push(update);
        }
        let next_due_ns = publisher.next_due_ns();
        for (client, seq) in due {
            let place = usize::try_from(client).ok().and_then(|client| self.conns.get(client));
            if let Some(id) = place.copied().flatten()
                && let Some(mut conn) = conns.conn(id)
            {
                let update = Update { client, seq, at: clock::now_ns() };
                // It fails only for a connection that is closing; its client will miss the update.
                let _ = conn.send_text(&update.to_json());
            }
        }
        let wait_ns = next_due_ns?.saturating_sub(clock::now_ns());
        Some(Instant::now() + Duration::from_nanos(wait_ns))
    }
}

/// Serves until the process ends.
pub(crate) fn serve(order: &Order) -> io::Result<()> {
    let clients = usize::try_from(order.client_count).map_err(io::Error::other)?;
    let server = Server::builder()
        .listen(([127, 0, 0, 1], 0).into())
        .backend(order.backend)
        .workers(1)
        .cores(vec![order.core])
        .conns_max(clients)
        .build()
        .map_err(io::Error::other)?;
    let start_ns = Arc::new(OnceLock::new());
    let told = Arc::clone(&start_ns);
    let what = format!("longwire, {}", server.backend());
    crate::serve::announce(server.local_addr().expect("one of TCP"), &what, move |start| {
        // Only the first order counts.
        let _ = told.set(start);
    });
    let handler = |_| Push {
        order: order.clone(),
        start_ns: Arc::clone(&start_ns),
        publisher: None,
        conns: vec![None; clients],
    };
    server.run(handler).map(drop).map_err(io::Error::other)
}
