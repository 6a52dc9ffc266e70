//! What only a start would find out: whether settings make sense together and on this machine, and
//! whether the files that they name can be used. Nothing is opened for others.

use longwire::{Error, ListenAddr};

use crate::admin;
use crate::args::{AdminAddr, Command, ServeArgs, ServerArgs};
use crate::broker::Broker;
use crate::topic::TopicRules;
use crate::{launch, limits, secure};

use super::setting::Source;
use super::{Configured, Fault};

/// All that a server would say before it listens.
pub(super) fn complaints(configured: &Configured) -> Vec<Fault> {
    limits::raise_descriptor_limit();
    let mut complaints: Vec<Fault> = Vec::new();
    let mut rest = configured.clone();
    loop {
        let before = complaints.len();
        let mut keys = Vec::new();
        for text in of_command(&rest.args.command) {
            let about = rest.setting_of(&text);
            keys.extend(about.map(|setting| setting.key.clone()));
            let source = about.map_or(Source::Flag, |setting| setting.source.clone());
            let complaint = Fault { source, text: rest.attribute(&text) };
            if !complaints.contains(&complaint) {
                complaints.push(complaint);
            }
        }
        // Others may be hidden behind these: the checks of a server end at the first.
        if complaints.len() == before || !rest.forget(&keys) {
            return complaints;
        }
    }
}

/// What is wrong for a server that runs and is to be changed; what it was built with stays.
pub(super) fn of_running(command: &Command) -> Result<(), Error> {
    if let Command::Serve(args) = command {
        of_serve(args).into_iter().collect::<Result<(), Error>>()?;
    }
    Ok(())
}

impl Configured {
    /// Goes on without what the file says of these. False if that is not possible.
    fn forget(&mut self, keys: &[String]) -> bool {
        let Some(layers) = &self.layers else { return false };
        if keys.is_empty() {
            return false;
        }
        let layers = keys.iter().fold(layers.clone(), |layers, key| layers.without(key));
        let Ok(settled) = layers.settle() else { return false };
        (self.args, self.settings) = (settled.args, settled.settings);
        self.layers = Some(layers);
        true
    }
}

fn of_command(command: &Command) -> Vec<String> {
    let mut outcomes = Vec::new();
    if let Command::Serve(args) = command {
        outcomes.extend(of_serve(args));
    }
    if let Some(server) = command.server() {
        outcomes.extend(of_server(server, command));
    }
    outcomes.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect()
}

fn of_serve(args: &ServeArgs) -> [Result<(), Error>; 4] {
    [
        own_port(args),
        TopicRules::new(&args.topics).map(drop),
        admin::check(&args.admin),
        Broker::new(&args.broker).map(drop),
    ]
}

/// Certificates, and all else without them if they are of no use.
fn of_server(args: &ServerArgs, command: &Command) -> [Result<(), Error>; 2] {
    let (tls, secured) = match secure::tls(&args.tls) {
        Ok(tls) => (tls, Ok(())),
        Err(error) => (None, Err(error)),
    };
    let builder = launch::builder_of(command, tls.as_ref());
    [secured, builder.and_then(|builder| builder.check())]
}

/// Clients and administration do not share a port.
fn own_port(args: &ServeArgs) -> Result<(), Error> {
    let AdminAddr::Tcp(admin) = args.admin.addr else { return Ok(()) };
    let mut taken = args.server.listen.iter().chain(&args.server.tls.listen_tls);
    if admin.port() == 0 || !taken.any(|addr| *addr == ListenAddr::Tcp(admin)) {
        return Ok(());
    }
    Err(Error::Misuse(format!(
        "admin is {admin}, where clients connect; give it a port of its own"
    )))
}
