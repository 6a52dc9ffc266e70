//! `longwire serve`: topics for plain WebSocket clients, and the port that looks after them.

use std::sync::Arc;

use longwire::{
    Accept, Builder, Close, CloseCode, Conn, Decision, Error, Handler, Message, PublishError,
    Request, Response, SubscribeError,
};

use crate::admin::{Admin, Door, Facts};
use crate::args::ServeArgs;
use crate::broker::{Broker, Port};
use crate::config::Configured;
use crate::launch::{Launch, Words, protocol};
use crate::life::{Given, Stage};
use crate::topic::TopicRules;

/// Runs the server until a signal stops it.
pub(crate) fn run(args: &ServeArgs, configured: &Configured) -> Result<(), Error> {
    let rules = Arc::new(TopicRules::new(&args.topics)?);
    // What may fail comes before the sockets are taken over.
    let broker = Broker::new(&args.broker)?;
    let mut given = Given::receive()?;
    let door = Door::open(&args.admin, given.take_admin())?;
    let admin_port = door.as_ref().map(Door::socket).transpose()?;
    let launch =
        Launch::new(&args.server, configured, given, |builder| set_up(args, &rules, builder))?;
    let urls = launch.urls();
    let page = door.as_ref().map(|door| format!("http://{}/", door.addr()));
    let words = Words {
        places: places(page.as_deref(), broker.as_ref()),
        how_to_try: how_to_try(&launch, page.as_deref()),
    };
    let stage = Stage::default();
    if let Some(door) = door {
        let server = launch.server();
        let facts = Facts { backend: server.backend().to_string(), urls };
        let rules = Arc::clone(&rules);
        let admin = Admin::new(server.handle(), stage.clone(), rules, facts, broker.clone());
        door.serve(admin)?;
    }
    if let Some(broker) = &broker {
        broker.start(launch.server().handle())?;
    }
    let protocols = &args.server.access.protocol;
    launch.run(&words, &stage, admin_port, || Guide {
        rules: Arc::clone(&rules),
        protocols: protocols.clone(),
        broker: broker.as_ref().map(Broker::port),
    })
}

/// What it has settings of its own for.
pub(crate) fn set_up(args: &ServeArgs, rules: &TopicRules, builder: Builder) -> Builder {
    rules.apply(&args.topics, builder).closes_kept(args.admin.closes_kept)
}

/// What there is beside the addresses of the server.
fn places(page: Option<&str>, broker: Option<&Broker>) -> Vec<String> {
    let page = page.map(|url| format!("administration on {url}"));
    let broker = broker.map(|broker| format!("joins other nodes through {}", broker.url()));
    page.into_iter().chain(broker).collect()
}

fn how_to_try(launch: &Launch, page: Option<&str>) -> String {
    let Some(url) = launch.urls().into_iter().next() else {
        return launch.how_to_try_by_shell();
    };
    let page = page.map(|page| format!("open {page} or, ")).unwrap_or_default();
    format!(
        "{page}in a browser's console:  ws = new WebSocket('{url}/topics/lobby'); \
         ws.onmessage = e => console.log(e.data); ws.onopen = () => ws.send('hello')"
    )
}

/// Shows each connection to its place. One on each core.
struct Guide {
    rules: Arc<TopicRules>,
    /// Sub-protocols it speaks, the dearest first. What they mean is between the clients.
    protocols: Vec<String>,
    /// The way to other nodes, if there are any.
    broker: Option<Port>,
}

/// Where a connection is.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Echo,
    Topic(Box<str>),
}

impl Handler for Guide {
    type State = Place;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Place> {
        let place = match request.path() {
            "/echo" => Place::Echo,
            "/healthz" => return Decision::answer(Response::new(200).text("ok\n")),
            path => match self.rules.topic_at(path) {
                Some(Ok(name)) => Place::Topic(name.into()),
                Some(Err(fault)) => return refusal(request, 400, &format!("{fault}\n")),
                None => return refusal(request, 404, "there is /topics/NAME, and /echo\n"),
            },
        };
        Accept::new(place).protocol(protocol(request, &self.protocols)).into()
    }

    fn open(&mut self, conn: &mut Conn<'_, Place>) {
        let place = std::mem::take(conn.state());
        if let Place::Topic(name) = &place
            && let Err(error) = conn.subscribe(name)
        {
            let code = match error {
                SubscribeError::TooMany | SubscribeError::TooManyTopics => {
                    CloseCode::TRY_AGAIN_LATER
                }
                SubscribeError::Invalid(_) | SubscribeError::Closed => CloseCode::POLICY_VIOLATION,
            };
            conn.close(code, &error.to_string());
            // It is at no topic, and is not counted as there when it ends.
            return;
        }
        if let (Place::Topic(name), Some(broker)) = (&place, &self.broker) {
            broker.enter(name);
        }
        *conn.state() = place;
    }

    fn close(&mut self, conn: &mut Conn<'_, Place>, _close: &Close) {
        if let (Place::Topic(name), Some(broker)) = (conn.state(), &self.broker) {
            broker.leave(name);
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Place>, message: Message<'_>) {
        // Taken out for the call, so that the name is not copied for each message.
        let place = std::mem::take(conn.state());
        match &place {
            // A connection that is closing takes no more; there is nobody to tell.
            Place::Echo => drop(conn.echo(message)),
            Place::Topic(name) if self.rules.may_publish(name) => {
                self.publish(conn, name, &message);
            }
            Place::Topic(_) => {
                let reason = "clients may not publish to this topic";
                conn.close(CloseCode::POLICY_VIOLATION, reason);
            }
        }
        *conn.state() = place;
    }
}

impl Guide {
    fn publish(&self, conn: &mut Conn<'_, Place>, name: &str, message: &Message<'_>) {
        let error = match conn.publish(name, message) {
            // How many it was queued for is of no interest to a client that cannot be told.
            Ok(_receipt) => {
                if let Some(broker) = &self.broker {
                    broker.publish(name, message.kind(), message.payload());
                }
                return;
            }
            Err(error) => error,
        };
        let code = match error {
            PublishError::Busy => CloseCode::TRY_AGAIN_LATER,
            PublishError::Invalid(_) => CloseCode::POLICY_VIOLATION,
        };
        conn.close(code, &error.to_string());
    }
}

/// Refuses a handshake, which is counted, or answers what was none.
fn refusal(request: &Request<'_>, status: u16, text: &str) -> Decision<Place> {
    let response = Response::new(status).text(text);
    if request.is_upgrade() { Decision::reject(response) } else { Decision::answer(response) }
}
