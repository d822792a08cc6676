//! The encoder as a process: that there is one a socket, that it ends when it is told to
//! or when its parent does, and what it does to itself.

mod support;

use pgclip_wire::protocol::{ErrorKind, Request, Response};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::*;

#[test]
fn a_signal_ends_it_and_removes_the_socket() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let encoder = Encoder::start(&["--threads", "1", "--max-batch", "1"]);
        let socket = encoder.socket.clone();
        // It does not wait for the work it has.
        let mut client = encoder.connect();
        client.send(&images_request(1, &vec![jpeg(1); 4000]));
        client.status_when(|status| status.queued_images > 0 && status.images > 0);
        let (status, log) = encoder.end(signal);
        assert!(status.success(), "{log}");
        assert!(!socket.exists());
        assert_eq!(client.receive(), None);
    }
}

#[test]
fn there_is_one_encoder_a_socket() {
    let encoder = Encoder::start(&[]);
    let second = program("serve").arg("--socket").arg(&encoder.socket).output().unwrap();
    assert!(!second.status.success());
    let log = String::from_utf8(second.stderr).unwrap();
    assert!(log.contains(&format!("another encoder (process {})", encoder.child.id())), "{log}");
    assert!(encoder.connect().texts(&["a bus"])[0].is_ok(), "the first has lost its socket");

    // What a crash leaves behind is in nobody's way.
    let folder = encoder.crash();
    assert!(folder.path().join("encoder.sock").exists());
    let encoder = Encoder::start_in(folder, &[]);
    assert!(encoder.connect().texts(&["a bus"])[0].is_ok());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.sock");
    std::fs::write(&path, "precious").unwrap();
    let output = program("serve").arg("--socket").arg(&path).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn it_gives_up_what_it_does_not_need() {
    let encoder = Encoder::start(&[]);
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(encoder.socket.clone()), 0o600);
    assert_eq!(mode(encoder.socket.with_added_extension("lock")), 0o600);
    let proc = format!("/proc/{}", encoder.child.id());
    let read = |name: &str| std::fs::read_to_string(format!("{proc}/{name}")).unwrap();
    assert!(read("status").contains("NoNewPrivs:\t1"));
    let core = read("limits");
    let core = core.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert!(read("oom_score_adj").trim().parse::<i32>().unwrap() > 0);
}

/// PostgreSQL names the socket relative to its data directory, which may lie deeper than
/// the 107 bytes that a socket's path can have.
#[test]
fn the_socket_may_be_named_relative_to_the_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(120));
    std::fs::create_dir_all(deep.join("pgclip")).unwrap();
    let mut child = program("serve")
        .args(["--device", "cpu", "--socket", "pgclip/encoder.sock"])
        .current_dir(&deep)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = log.find(|line| line.as_ref().unwrap().contains("listening"));
    assert!(listening.is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn it_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("encoder.sock");
    let encoder = program("serve");
    let mut parent = Command::new("sh")
        .args(["-c", "\"$0\" \"$@\" & wait"])
        .arg(encoder.get_program())
        .args(encoder.get_args())
        .args(["--device", "cpu", "--socket"])
        .arg(&socket)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let wait_until = |reachable: bool| {
        while UnixStream::connect(&socket).is_ok() != reachable {
            assert!(start.elapsed() < HANG);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    wait_until(true);
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until(false);
}

#[test]
fn without_onnx_runtime_it_serves_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("libonnxruntime.so");
    std::fs::write(&fake, "no library").unwrap();
    for library in ["/nonexistent/libonnxruntime.so", fake.to_str().unwrap()] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pgclip-encoder"));
        program.args(["check", "--onnxruntime", library]).arg(&model().directory);
        assert!(!program.status().unwrap().success());
        let encoder = Encoder::start_with_library(library);
        let mut client = encoder.connect();
        let failed = client.ask(&texts_request(1, &["a bus"]));
        let Response::Failed { kind, message, hint, .. } = failed else { panic!("{failed:?}") };
        assert_eq!(kind, ErrorKind::RuntimeMissing);
        assert!(message.contains(library) && hint.contains("onnxruntime_path"), "{message} {hint}");
        let failed = client.ask(&images_request(2, &[jpeg(1)]));
        assert_eq!(failure(failed), ErrorKind::RuntimeMissing);
        let directory = model().directory.clone();
        let failed = client.ask(&Request::Describe { id: 3, directory });
        assert_eq!(failure(failed), ErrorKind::RuntimeMissing);
        let status = client.status();
        assert_eq!(status.runtime_version, "");
        assert!(status.runtime_error.contains(library), "{status:?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_where_it_was_asked_for() {
    for device in ["cuda", "tensorrt"] {
        let encoder = Encoder::start(&["--device", device]);
        let mut client = encoder.connect();
        let failed = client.ask(&texts_request(1, &["a bus"]));
        assert_eq!(failure(failed), ErrorKind::DeviceMissing);
    }
    let encoder = Encoder::start(&["--device", "auto"]);
    let mut client = encoder.connect();
    assert!(client.texts(&["a bus"])[0].is_ok());
    assert_eq!(client.status().models[0].device, "cpu");
    let (_, log) = encoder.end(libc::SIGTERM);
    assert!(log.contains("WARN") && log.contains("using the CPU"), "{log}");
}

#[test]
fn the_commands_say_what_they_measure() {
    let run = |command: &str, more: &[&str]| {
        let output = program(command).arg(&model().directory).args(more).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let check = run("check", &["--device", "cpu"]);
    assert!(
        check.contains("dimensions      24") && check.contains("device          cpu"),
        "{check}"
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jpg"), jpeg(1)).unwrap();
    std::fs::write(folder.path().join("b.jpg"), "not an image").unwrap();
    let images = folder.path().to_str().unwrap();
    let bench = run("bench", &["--device", "cpu", "--seconds", "0.05", "--images", images]);
    assert!(bench.contains("images, in batches") && bench.contains("failed"), "{bench}");
}
