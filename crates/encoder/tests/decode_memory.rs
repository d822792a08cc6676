//! One budget of memory for all decoding: what it holds a real process to, that what waits for it
//! holds nobody else up, and that a refusal of a model ends by itself.

mod support;

use pgclip_wire::protocol::{ErrorKind, Image, Request, Response};
use support::*;

/// A lossless WebP of one colour, in which a pixel takes no bits: 30 bytes for any size.
fn bomb(side: u32) -> Vec<u8> {
    // 14 bits each of width and height less one, no alpha, version 0; no transforms, no colour
    // cache, one group of codes, each of them of a single symbol: 1000 from the lowest bit on.
    let size = side - 1;
    let header = size | size << 14;
    let codes: u32 = 0b0001_0001_0001_0001_0001 << 3;
    let mut data = vec![0x2f];
    data.extend(header.to_le_bytes());
    data.extend(codes.to_le_bytes());
    data.push(0);
    let mut file = b"RIFF".to_vec();
    file.extend((12 + data.len() as u32).to_le_bytes());
    file.extend(b"WEBPVP8L");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

/// Pixels along a side of the bombs here: 16 million in all, of which the decoder takes 112 MB.
const SIDE: u32 = 4000;

/// Megabytes that the process has had in memory at most.
fn peak(encoder: &Encoder) -> u64 {
    let path = format!("/proc/{}/status", encoder.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// One session's large pictures once filled the batches and threads of all.
#[test]
fn bombs_of_one_connection_do_not_hold_up_anothers_picture() {
    let encoder = Encoder::start(&["--threads", "2", "--max-decode-memory", "400"]);
    let (mut attacker, mut user) = (encoder.connect(), encoder.connect());
    assert!(user.images(&[jpeg(1)])[0].is_ok());
    // A picture of its own goes along; it is in the same batch.
    let mut images = vec![bomb(SIDE); 10];
    images.push(jpeg(2));
    attacker.send(&images_request(7, &images));
    user.status_when(|status| status.queued_images > 2);
    assert!(user.images(&[jpeg(3)])[0].is_ok());
    let status = user.status();
    assert!(status.queued_images > 2, "the picture waited for the bombs: {status:?}");

    // Those that nobody waits for any more are not decoded.
    attacker.send(&Request::Cancel { id: 7 });
    let status = user.status_when(|status| status.queued_images == 0);
    assert!(status.images < 10, "{status:?}");
    assert!(attacker.images(&[bomb(SIDE)])[0].is_ok());
    assert!(user.status().images < 12);
}

/// Four of them at once once took four times the memory of one.
#[test]
fn memory_stays_within_the_budget() {
    let encoder = Encoder::start(&["--threads", "4", "--max-decode-memory", "320"]);
    let mut client = encoder.connect();
    assert!(client.images(&[jpeg(1)])[0].is_ok());
    let before = peak(&encoder);
    assert!(client.images(&vec![bomb(SIDE); 4]).iter().all(Result::is_ok));
    let grown = peak(&encoder) - before;
    println!("4 bombs of {SIDE} x {SIDE}: {grown} MB more");
    assert!(grown < 320, "{grown} MB");
}

#[test]
fn what_the_budget_has_no_room_for_is_refused_with_the_numbers() {
    let encoder = Encoder::start(&["--threads", "2", "--max-decode-memory", "64"]);
    let mut client = encoder.connect();
    let answer = client.ask(&images_request(1, &[bomb(SIDE), jpeg(1)]));
    let Response::Embeddings { items, .. } = answer else { panic!("{answer:?}") };
    let error = items[0].as_ref().unwrap_err();
    assert_eq!(error.kind, ErrorKind::ImageTooLarge);
    let told = "4000 × 4000 pixels take 127 MB while they are decoded, the limit is 48 MB";
    assert!(error.message.contains(told), "{}", error.message);
    assert!(items[1].is_ok());
}

#[test]
fn files_are_large_by_their_headers_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bomb"), bomb(SIDE)).unwrap();
    std::fs::write(folder.path().join("picture"), jpeg(1)).unwrap();
    let encoder = Encoder::start(&["--threads", "2", "--max-decode-memory", "400"]);
    let mut client = encoder.connect();
    let root = folder.path().display().to_string();
    let images = ["bomb", "picture", "bomb"]
        .map(|path| Image::File { root: root.clone(), path: path.into() })
        .into();
    let request = Request::Images { id: 1, model: model().clone(), images };
    let found = items(client.ask(&request));
    let sent = client.images(&[bomb(SIDE), jpeg(1)]);
    assert_eq!([&found[0], &found[1], &found[2]], [&sent[0], &sent[1], &sent[0]]);
}

/// A model that was refused once stayed so until somebody reloaded the configuration.
#[test]
fn a_refusal_ends_by_itself() {
    let digest: String = model().digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for (why, kind) in [("crash", ErrorKind::ModelRefused), ("memory", ErrorKind::OutOfMemory)] {
        let refusal = format!("4,{why},sha256:{digest}=random");
        let encoder = Encoder::start(&["--refuse", &refusal]);
        let mut client = encoder.connect();
        let request = texts_request(1, &["a bus"]);
        assert_eq!(failure(client.ask(&request)), kind);
        let told = client.status().refused;
        assert!(told[0].starts_with("random (") && told[0].contains("again in "), "{told:?}");
        client.status_when(|status| status.refused.is_empty());
        assert!(client.texts(&["a bus"])[0].is_ok());
    }
}
