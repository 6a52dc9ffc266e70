//! Echo and broadcast on `yawc`, upgraded by `hyper` as in its documentation.

use std::process::ExitCode;

use futures_util::StreamExt as _;
use longwire_peers::{Ended, MESSAGE_BYTES_MAX, Order, Role, hyper_upgrade, run, talk};
use tokio::net::TcpStream;
use yawc::{Frame, OpCode, Options, UpgradeFut, WebSocket, WebSocketError};

fn main() -> ExitCode {
    run("yawc", serve)
}

async fn serve(stream: TcpStream, role: Role<Frame>) -> Ended {
    hyper_upgrade::serve(stream, |mut request| {
        // Its limits are exclusive. It is the only one that leaves text unchecked by default.
        let options = Options::default()
            .with_limits(MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX + 1)
            .with_utf8();
        let (response, upgrade) = WebSocket::upgrade_with_options(&mut request, options)?;
        tokio::spawn(converse(upgrade, role.clone()));
        Ok::<_, WebSocketError>(response)
    })
    .await
}

async fn converse(upgrade: UpgradeFut, role: Role<Frame>) -> Ended {
    let socket = upgrade.await?.map(Ok::<_, WebSocketError>);
    talk(socket, role, Order::Alternate, |frame| {
        matches!(frame.opcode(), OpCode::Text | OpCode::Binary)
    })
    .await
}
