//! `examples/ticker.rs` tells prices: the last at once, and then the new ones.

use crate::client::{Client, REQUEST};
use crate::process::Example;

#[test]
fn ticker_tells_the_last_price_and_then_each_new_one() {
    let example = Example::start("ticker");
    for currency in ["EUR", "JPY"] {
        let mut client = Client::open_at(example.addr, &format!("/{currency}"));
        let prices: Vec<String> = (0..5).map(|_| client.read_text()).collect();
        assert!(prices.iter().all(|price| price.starts_with(currency)), "{prices:?}");
        assert!(prices.windows(2).all(|pair| pair[0] < pair[1]), "each is newer: {prices:?}");
        client.close(1000);
    }
    let (head, body) = example.ask(&REQUEST.replacen("GET / ", "GET /XXX ", 1));
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(body, "EUR, GBP or JPY\n");
}
