//! Prices that change more often than some can read: who is slow gets the newest, and never a queue
//! of old ones: `cargo run --release --example ticker`.
//!
//! ```text
//! ws = new WebSocket('ws://127.0.0.1:9001/EUR')     in a browser's console
//! ws.onmessage = e => console.log(e.data)           the last price at once, then each new one
//! ```

use std::thread;
use std::time::Duration;

use longwire::{
    Accept, Conn, Decision, Handle, Handler, ListenAddr, Message, Request, Response, Server,
    SlowReaders, TopicPolicy,
};

const CURRENCIES: [&str; 3] = ["EUR", "GBP", "JPY"];
const INTERVAL: Duration = Duration::from_millis(100);

/// One on each core.
struct Ticker;

/// What a connection watches.
#[derive(Default)]
struct Watcher {
    currency: &'static str,
}

impl Handler for Ticker {
    type State = Watcher;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Watcher> {
        let asked = request.path().trim_start_matches('/');
        match CURRENCIES.into_iter().find(|currency| *currency == asked) {
            Some(currency) => Accept::new(Watcher { currency }).into(),
            None => Decision::reject(Response::new(404).text("EUR, GBP or JPY\n")),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_, Watcher>) {
        let currency = conn.state().currency;
        if let Err(error) = conn.subscribe(currency) {
            eprintln!("{currency}: {error}");
        }
    }

    /// Nobody is asked anything here.
    fn message(&mut self, _conn: &mut Conn<'_, Watcher>, _message: Message<'_>) {}
}

/// Stands for where prices come from. It is no thread of the server's, and need not be Rust's own:
/// a `Handle` can be used from any thread or async runtime.
fn publish_prices(handle: &Handle) {
    for round in 0_u64.. {
        for (currency, start) in CURRENCIES.into_iter().zip([10_800, 12_600, 71]) {
            let price = start + round % 100;
            let text = format!("{currency} {}.{:04}", price / 10_000, price % 10_000);
            if let Err(error) = handle.publish(currency, &text) {
                // The cores are busy; there will be a newer price.
                eprintln!("{currency}: {error}");
            }
        }
        thread::sleep(INTERVAL);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let latest = TopicPolicy::new().slow_readers(SlowReaders::Latest).history(1);
    let server = Server::builder()
        .listen(addr.parse::<ListenAddr>()?)
        .topic_policy(move |_topic| latest)
        .build()?;
    for addr in server.local_addrs() {
        println!("listening on {addr}");
    }
    let handle = server.handle();
    thread::spawn(move || publish_prices(&handle));
    server.run(|_core| Ticker)?;
    Ok(())
}
