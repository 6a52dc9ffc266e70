//! What the server uses of the system: nothing that grows, and nothing while nothing happens.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

use crate::client::{Client, TEXT, frame};
use crate::process::{Program, has_io_uring, on_every_backend, wait_until};

const MIB: usize = 1 << 20;
const CHURN: usize = 2_000;

/// Opens a connection and ends it, each time in another way.
fn come_and_go(program: &Program, number: usize) {
    let mut client = Client::open(program.addr);
    match number % 5 {
        4 => {
            // Something unfinished, to be given back.
            client.echo("hello");
            client.send_frame(false, TEXT, &[b'x'; 3_000]);
        }
        way => client.end(way),
    }
}

/// Has 2,000 connections come and go. Threads before and after.
fn churn(program: &Program) -> (usize, usize) {
    for number in 0..50 {
        come_and_go(program, number);
    }
    wait_until(
        "the first peers to be gone",
        || program.fd_count() < 40,
        || program.fd_count().to_string(),
    );
    thread::sleep(Duration::from_millis(50));
    let (fds, threads, bytes) =
        (program.fd_count(), program.thread_count(), program.resident_bytes());
    for number in 0..CHURN {
        come_and_go(program, number);
    }
    wait_until(
        "all descriptors to be back",
        || program.fd_count() <= fds,
        || format!("{} of {fds}", program.fd_count()),
    );
    assert_eq!(program.fd_count(), fds);
    let threads_after = program.thread_count();
    let grown = program.resident_bytes().saturating_sub(bytes);
    assert!(grown < MIB, "{grown} bytes kept of {CHURN} connections");
    // Nor has any place in the table been lost.
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open(program.addr)).collect();
    for client in &mut clients {
        client.echo("room for all");
    }
    (threads, threads_after)
}

#[test]
fn tc12_u16_descriptors_and_threads_return_to_where_they_were() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--workers", "1", "--conns-max", "200"];
        let (before, after) = churn(&Program::start(&flags));
        let ours = ["main", "signals", "control", "vitals", "one worker"];
        assert_eq!(before, ours.len(), "{ours:?}, and none of the kernel's");
        assert_eq!(after, before);
    });
}

#[test]
fn tc12_u16_so_they_do_with_direct_descriptors() {
    if has_io_uring() {
        let flags = ["--direct-descriptors", "--workers", "1", "--conns-max", "200"];
        let (_, after) = churn(&Program::start(&flags));
        // The shutdown of a direct descriptor is work for a thread of the kernel; one or two do it.
        assert!(after <= 7, "{after} threads");
    }
}

#[test]
fn idle_server_uses_no_cpu() {
    on_every_backend(|backend| {
        let program = Program::start(&["--backend", backend]);
        let span = Duration::from_secs(2);
        let used = |program: &Program| {
            thread::sleep(Duration::from_millis(200));
            let before = program.cpu_time();
            thread::sleep(span);
            program.cpu_time() - before
        };
        let mut clients: Vec<Client> = (0..50).map(|_| Client::open(program.addr)).collect();
        for client in &mut clients {
            client.echo("then silence");
        }
        let with_peers = used(&program);
        assert!(with_peers < span / 200, "{with_peers:?} of {span:?} with silent peers");
        drop(clients);
        // Memory that is no longer needed is given back within seconds; then there is no reason
        // to wake up.
        thread::sleep(Duration::from_millis(500));
        let alone = used(&program);
        assert!(alone < span / 200, "{alone:?} of {span:?} without peers");
    });
}

/// A peer that sends and never reads gets its bytes held back by TCP, not by the server's memory.
#[test]
fn bp04_peer_that_never_reads_costs_no_memory() {
    on_every_backend(|backend| {
        let program = Program::start(&["--backend", backend, "--workers", "1"]);
        let mut bystander = Client::open(program.addr);
        bystander.echo("first");
        let before = program.resident_bytes();
        let mut clients: Vec<Client> = (0..4).map(|_| Client::open(program.addr)).collect();
        let message = frame(true, TEXT, &[b'x'; 16 * 1024]);
        let mut sent_in_all = 0;
        for client in &mut clients {
            let mut sent = 0;
            client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let stuck = loop {
                assert!(sent < 256 * MIB, "reading never pauses");
                // A write that is cut short is followed by the rest of its message.
                let cut = sent % message.len();
                match client.stream.write(&message[cut..]) {
                    Ok(len) => sent += len,
                    Err(error) => break error,
                }
            };
            assert_eq!(stuck.kind(), ErrorKind::WouldBlock, "it is kept, and only not read");
            sent_in_all += sent;
        }
        let grown = program.resident_bytes().saturating_sub(before);
        assert!(sent_in_all > 4 * MIB, "{sent_in_all} bytes went out before reading paused");
        // For each 64 KiB queued and a block or two, and the worker's receive blocks once.
        assert!(grown < 2 * MIB, "{grown} bytes for {sent_in_all} that nobody reads");
        bystander.echo("not disturbed");
    });
}
