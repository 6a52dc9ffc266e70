//! `longwire echo`: sends each message back.

use longwire::{Accept, Builder, Conn, Decision, Error, Handler, Message, Request};

use crate::args::ServerArgs;
use crate::config::Configured;
use crate::launch::{Launch, Words, protocol};
use crate::life::{Given, Stage};

/// Runs the server until a signal stops it.
pub(crate) fn run(args: &ServerArgs, configured: &Configured) -> Result<(), Error> {
    let launch = Launch::new(args, configured, Given::receive()?, set_up)?;
    let how_to_try = match launch.urls().first() {
        Some(url) => format!(
            "in a browser's console:  ws = new WebSocket('{url}'); \
             ws.onmessage = e => console.log(e.data); ws.onopen = () => ws.send('hello')"
        ),
        None => launch.how_to_try_by_shell(),
    };
    let words = Words { places: Vec::new(), how_to_try };
    launch.run(&words, &Stage::default(), None, || Echo { protocols: args.access.protocol.clone() })
}

/// What it has settings of its own for.
pub(crate) fn set_up(builder: Builder) -> Builder {
    // Without a port for administration nobody can ask for them.
    builder.closes_kept(0)
}

/// Sends each message back.
struct Echo {
    /// Sub-protocols it speaks, the dearest first. What they mean is between the clients.
    protocols: Vec<String>,
}

impl Handler for Echo {
    type State = ();

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<()> {
        Accept::new(()).protocol(protocol(request, &self.protocols)).into()
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        // A connection that is closing takes no more; there is nobody to tell.
        let _ = conn.echo(message);
    }
}
