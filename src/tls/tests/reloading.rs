//! The configuration changes while connections begin and live on.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::HandshakeKind;

use super::rig::{Pair, Rig, certificate_in};
use crate::tls::{ClientTls, Tls, TlsError, TlsWatcher};

const NAME: &str = "example.org";

fn shown(tls: &Tls) -> String {
    let client = ClientTls::insecure().client_config();
    Pair::connect(tls.server_config(), client, NAME).unwrap().shown()
}

#[test]
fn tl12_a_handshake_that_has_begun_ends_with_the_certificate_it_began_with() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]);
    let mut follower = tls.follower();
    let before = certificate_in(&rig.folder.path("server.pem"));
    let client = rig.client().client_config();
    let mut begun = Pair::begin(Arc::clone(follower.newest()), Arc::clone(&client), NAME);
    let mut open = Pair::connect(Arc::clone(follower.newest()), Arc::clone(&client), NAME).unwrap();

    rig.issue("server", &[NAME]);
    let after = certificate_in(&rig.folder.path("server.pem"));
    assert!(tls.changed_on_disk());
    let reloaded = tls.clone().reload().unwrap();
    assert!(!tls.changed_on_disk());
    assert_eq!((reloaded.generation, reloaded.certificates), (2, 1));

    begun.finish().unwrap();
    assert!(begun.shown() == before);
    open.server.send_close_notify();
    open.finish().unwrap();
    let new =
        Pair::connect(Arc::clone(follower.newest()), ClientTls::insecure().client_config(), NAME);
    assert!(new.unwrap().shown() == after);
}

#[test]
fn tl12_sessions_from_before_a_reload_resume_after_it() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]);
    let client = rig.client().client_config();
    Pair::connect(tls.server_config(), Arc::clone(&client), NAME).unwrap();
    rig.issue("server", &[NAME]);
    tls.reload().unwrap();
    let pair = Pair::connect(tls.server_config(), client, NAME).unwrap();
    assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn tl12_reloads_in_a_loop_fail_no_handshake() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]);
    let reloading = tls.clone();
    let reloads = thread::spawn(move || (0..100).all(|_| reloading.reload().is_ok()));
    let client = rig.client().client_config();
    let mut follower = tls.follower();
    while !reloads.is_finished() {
        Pair::connect(Arc::clone(follower.newest()), Arc::clone(&client), NAME).unwrap();
    }
    assert!(reloads.join().unwrap());
    assert_eq!(tls.reload().unwrap().generation, 102);
}

#[test]
fn tl12_bad_new_files_leave_the_old_ones_in_use() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]);
    let mut follower = tls.follower();
    let in_use = Arc::clone(follower.newest());
    let file = rig.folder.path("server.pem");
    let before = certificate_in(&file);
    let (other, other_key) = rig.authority.issue(&[NAME]);
    let mut refused = |text: Option<&str>| {
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        assert!(tls.changed_on_disk());
        let error = tls.reload().unwrap_err();
        assert!(shown(&tls) == before);
        assert!(Arc::ptr_eq(&in_use, follower.newest()));
        error
    };

    assert!(matches!(refused(None), TlsError::Unreadable { .. }));
    assert!(matches!(refused(Some("")), TlsError::Empty { .. }));
    assert!(matches!(refused(Some(&other[..other.len() / 2])), TlsError::MalformedPem { .. }));
    assert!(matches!(refused(Some(&other)), TlsError::KeyMismatch { .. }));

    fs::write(rig.folder.path("server.key"), other_key).unwrap();
    tls.reload().unwrap();
    assert!(shown(&tls) == other);
}

#[test]
fn one_bad_file_of_many_keeps_all_as_they_were() {
    let rig = Rig::new();
    let (certificate, key) = rig.issue("second", &["second.example"]);
    let tls = rig.tls(&[NAME]).add_certificate_files(&certificate, key).unwrap();
    let before = certificate_in(&rig.folder.path("server.pem"));
    rig.issue("server", &[NAME]);
    fs::write(certificate, "").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Empty { .. })));
    assert!(shown(&tls) == before);
}

#[test]
fn a_setter_makes_a_configuration_of_its_own() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]);
    let other = tls.clone().session_tickets(0);
    assert_eq!(other.reload().unwrap().generation, 2);
    assert_eq!(tls.reload().unwrap().generation, 2);
    assert_eq!(other.server_config().send_tls13_tickets, 0);
    assert_eq!(tls.server_config().send_tls13_tickets, 1);
}

#[test]
fn what_is_in_memory_is_never_changed_on_disk() {
    let rig = Rig::new();
    let (certificate, key) = rig.authority.issue(&[NAME]);
    let tls = Tls::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    assert!(!tls.changed_on_disk());
    tls.reload().unwrap();
    assert!(shown(&tls) == certificate);
}

#[test]
fn a_change_is_seen_by_inode_length_or_time() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]);
    let file = rig.folder.path("server.pem");
    let text = certificate_in(&file);
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let keep_time = |path: &Path| {
        fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    };

    let copy = rig.folder.write("copy.pem", &text);
    keep_time(&copy);
    fs::rename(copy, &file).unwrap();
    assert!(tls.changed_on_disk());
    tls.reload().unwrap();

    fs::write(&file, format!("{text}\n")).unwrap();
    keep_time(&file);
    assert!(tls.changed_on_disk());
    tls.reload().unwrap();

    let later = modified + Duration::from_nanos(1);
    fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    assert!(tls.changed_on_disk());
    tls.reload().unwrap();
    assert!(!tls.changed_on_disk());
}

/// Waits until the certificate is in use, for at most ten seconds.
fn wait_until_shown(tls: &Tls, certificate: &str) {
    for _ in 0..1000 {
        if shown(tls) == certificate {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the new certificate was not taken up");
}

#[test]
fn a_watcher_takes_up_new_files_and_leaves_bad_ones() {
    let rig = Rig::new();
    let tls = rig.tls(&[NAME]);
    let watcher = TlsWatcher::start_every(&tls, Duration::from_millis(20)).unwrap();

    rig.issue("server", &[NAME]);
    wait_until_shown(&tls, &certificate_in(&rig.folder.path("server.pem")));

    // Half a file stays unused for as long as it lies there, and its other half is taken up.
    let in_use = certificate_in(&rig.folder.path("server.pem"));
    let (certificate, key) = rig.authority.issue(&[NAME]);
    rig.write_pair("server", &certificate[..certificate.len() / 2], &key);
    thread::sleep(Duration::from_millis(200));
    assert!(shown(&tls) == in_use);
    rig.write_pair("server", &certificate, &key);
    wait_until_shown(&tls, &certificate);

    drop(watcher);
    rig.issue("server", &[NAME]);
    thread::sleep(Duration::from_millis(100));
    assert!(shown(&tls) == certificate);
}
