//! What concerns the whole process: its descriptors, its threads, its limits. Each test runs its
//! body in a child of its own, which is this test program again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::rig::{Make, Rig, name, on_every_driver, token};
use crate::io::{Closing, Completion, Driver, Patience};

/// Set in the child.
const CHILD: &str = "LONGWIRE_TEST_CHILD";

on_every_driver! {
    but slots,
    tc01_lack_of_descriptors_pauses_accepting,
    tc12_descriptors_return_to_the_baseline,
    u16_no_threads_appear,
    u19_every_descriptor_is_close_on_exec,
}

/// Runs `body` in a child that executes nothing but the calling test.
fn in_child(body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        body();
        return;
    }
    let thread = std::thread::current();
    let test_name = thread.name().expect("tests run on threads with their name");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test_name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn tc01_lack_of_descriptors_pauses_accepting<D: Driver>(make: Make<D>) {
    in_child(|| lack_descriptors(make));
}

fn lack_descriptors<D: Driver>(make: Make<D>) {
    let Some(mut rig) = Rig::new(make) else { return };
    let mut held = rig.connect(token(0));
    // io_uring looks at the limit when the accept is armed.
    rig.driver.pause_accept();
    rig.assert_silent();
    // Both ends of each connection are in this process: peers first, then the limit.
    let mut peers: Vec<_> = (0..40).map(|_| TcpStream::connect(rig.addr).unwrap()).collect();
    let limit_before = getrlimit(Resource::Nofile);
    let lowest_free = rustix::io::dup(&held).unwrap();
    let limit = std::os::fd::AsRawFd::as_raw_fd(&lowest_free) as u64 + 4;
    drop(lowest_free);
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), ..limit_before }).unwrap();
    rig.driver.resume_accept();

    let mut attached = 0;
    loop {
        match rig.next() {
            Completion::Accepted { socket, .. } => {
                attached += 1;
                rig.driver.attach(token(attached), socket).unwrap();
            }
            Completion::AcceptFailed { exhausted, .. } => {
                assert!(exhausted);
                break;
            }
            other => panic!("accepting should fail, but {}", name(&other)),
        }
    }
    assert!(attached < 40, "{attached}");
    rig.assert_silent();
    held.write_all(b"still served").unwrap();
    assert_eq!(rig.receive(token(0), 12), b"still served");

    let shed = (attached..40).filter(|_| rig.driver.shed_one()).count();
    assert!(shed > 0, "the backlog is drained although no descriptor is left");
    let mut last = peers.pop().unwrap();
    assert!(last.read(&mut [0; 1]).map_or(true, |len| len == 0), "a shed peer knows at once");

    setrlimit(Resource::Nofile, limit_before).unwrap();
    rig.driver.resume_accept();
    peers.push(TcpStream::connect(rig.addr).unwrap());
    assert!(matches!(rig.next(), Completion::Accepted { .. }));
}

fn tc12_descriptors_return_to_the_baseline<D: Driver>(make: Make<D>) {
    in_child(|| {
        let Some(mut rig) = Rig::new(make) else { return };
        rig.assert_silent();
        let before = open_descriptors();
        churn(&mut rig, 500);
        assert_eq!(open_descriptors(), before);
        assert_eq!(rig.pool.lent_count(), 0);
    });
}

fn u16_no_threads_appear<D: Driver>(make: Make<D>) {
    in_child(|| {
        let Some(mut rig) = Rig::new(make) else { return };
        let before = thread_count();
        churn(&mut rig, 500);
        assert_eq!(thread_count(), before);
    });
}

fn u19_every_descriptor_is_close_on_exec<D: Driver>(make: Make<D>) {
    in_child(|| {
        let before = open_descriptors();
        let Some(mut rig) = Rig::new(make) else { return };
        let _peer = rig.connect(token(0));
        let mut checked = 0;
        for fd in open_descriptors().difference(&before) {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
            let Ok(info) = info else { continue };
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
            assert!(flags & rustix::fs::OFlags::CLOEXEC.bits() != 0, "descriptor {fd}");
            checked += 1;
        }
        assert!(checked >= 5, "listener, reserve, wake, ring or epoll, connection: {checked}");
    });
}

/// Connections that come, talk, block a send, shut down and go.
fn churn<D: Driver>(rig: &mut Rig<D>, rounds: u32) {
    let begin = Instant::now();
    for round in 0..rounds {
        let token = token(round % 8);
        let mut peer = rig.connect(token);
        peer.write_all(b"hello").unwrap();
        assert_eq!(rig.receive(token, 5), b"hello");
        if round % 50 == 0 {
            rig.fill_socket(token);
            rig.submit_send(token, &[0; 4096], Patience::Wait);
        } else {
            rig.send(token, b"bye", Patience::Wait);
            rig.driver.shutdown_write(token);
        }
        rig.close(token, if round % 2 == 0 { Closing::Reset } else { Closing::Orderly });
    }
    assert!(begin.elapsed() < Duration::from_secs(60));
}

fn open_descriptors() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let mut fds: BTreeSet<u32> = entries.filter_map(|entry| number(entry.ok()?)).collect();
    // The directory itself was open while it was read.
    fds.retain(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok());
    fds
}

fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}
