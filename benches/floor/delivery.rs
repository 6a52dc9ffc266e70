//! Whether 10,000 subscribers get all that is published, once and in order: on each backend, with
//! one worker and with two, between which messages have to travel.

use std::io;

use crate::core;
use crate::fanout::PAYLOAD_BYTES;
use crate::loadgen::Loadgen;
use crate::options::Options;
use crate::report::Verdict;
use crate::server::Server;

const SUBSCRIBER_COUNT: usize = 10_000;
const RATE: usize = 10;
const CORES: [&[usize]; 2] = [&[core::SERVER], &[core::SERVER, core::CLIENT]];

pub(crate) fn run(options: &Options) -> io::Result<Verdict> {
    let loadgen = Loadgen::find()?;
    let flags = format!(
        "--subscribers {SUBSCRIBER_COUNT} --size {PAYLOAD_BYTES} --rate {RATE} --duration 3s"
    );
    println!("loadgen fanout {flags}");
    println!(
        "{:<9} {:>7} {:>9} {:>10} {:>6} {:>8} {:>12}",
        "backend", "workers", "published", "delivered", "lost", "doubled", "out of order"
    );
    let mut verdict = Verdict::Within;
    for &backend in &options.backends {
        for cores in CORES {
            let server = Server::topics(backend, cores, None)?;
            let findings = loadgen.try_run("fanout", &server, &flags)?;
            let figures = ["published", "messages", "lost", "duplicates", "reordered"];
            let figures = figures.map(|name| findings.figure(name));
            let [published, delivered, lost, doubled, reordered] = figures;
            let (published, delivered) = (published?, delivered?);
            let (lost, doubled, reordered) = (lost?, doubled?, reordered?);
            let missing = published * SUBSCRIBER_COUNT as f64 - delivered;
            let judged = Verdict::of(missing.abs() + lost + doubled + reordered, 0.0)
                .and(if published > 0.0 { Verdict::Within } else { Verdict::Over });
            println!(
                "{:<9} {:>7} {published:>9} {delivered:>10} {lost:>6} {doubled:>8} \
                 {reordered:>12}  {}",
                backend.name(),
                cores.len(),
                judged.word()
            );
            verdict = verdict.and(judged);
        }
    }
    crate::report::print_verdict(verdict);
    Ok(verdict)
}
