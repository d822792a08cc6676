//! The serving encoder: what it answers, and that nothing a client sends, and no client
//! that goes away, keeps it from answering others. Each test has a process of its own.

mod support;

use pgclip_wire::protocol::{ErrorKind, MAX_TEXT_BYTES, Request, Response, VERSION, encode_frame};
use std::io::Write;
use support::*;

#[test]
fn images_and_texts_become_embeddings_in_order() {
    let encoder = Encoder::start(&["--max-batch", "4"]);
    let mut client = encoder.connect();
    let images: Vec<_> = (1..=11).map(jpeg).collect();
    let all: Vec<_> = client.images(&images).into_iter().map(Result::unwrap).collect();
    for (image, embedding) in images.iter().zip(&all) {
        let alone = client.images(std::slice::from_ref(image))[0].clone().unwrap();
        assert!(cosine(&alone, embedding) > 0.999, "the batch changes an embedding");
    }
    assert!(cosine(&all[0], &all[10]) < 0.999);

    let texts = client.texts(&["a red bus", "a person with a bag", "a red bus"]);
    let texts: Vec<_> = texts.into_iter().map(Result::unwrap).collect();
    assert_eq!(texts[0], texts[2]);
    assert_ne!(texts[0], texts[1]);
    assert_eq!(client.texts(&["a red bus"])[0], Ok(texts[0].clone()));

    let status = client.status();
    assert_eq!((status.images, status.item_errors, status.connections), (22, 0, 1));
    assert!(status.cache_hits >= 1 && status.image_batches >= 14, "{status:?}");
    assert_eq!(status.models[0].digest, model().digest);
    assert_eq!((status.pid, status.device.as_str()), (encoder.child.id(), "cpu"));
    assert!(status.runtime_version.starts_with("1."), "{status:?}");
}

/// A batch of texts is cut to its longest, so that one text meets many lengths.
#[test]
fn a_text_is_the_same_beside_a_longer_one() {
    let long = "a red bus beside a white van ".repeat(30);
    // Two processes, since a cache would give the second the answer of the first.
    let beside = Encoder::start(&[]).connect().texts(&["a blue truck", &long, "x"]);
    let alone = Encoder::start(&[]).connect().texts(&["a blue truck"]);
    let [beside, alone] = [&beside[0], &alone[0]].map(|item| item.as_ref().unwrap());
    // One step of a half, at most.
    let apart = beside.iter().zip(alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-3, "{apart}");
}

/// The way by bound memory, which GPUs take, gives what the plain one does; here in the CPU's own.
#[test]
fn bound_memory_changes_no_embedding() {
    let images: Vec<_> = (1..=7).map(jpeg).collect();
    let texts = ["a red bus", "a person with a bag in front of a white van"];
    let encoded = |binding: &str| {
        let encoder = Encoder::start(&["--max-batch", "3", "--io-binding", binding]);
        let mut client = encoder.connect();
        let all = client.images(&images).into_iter().chain(client.texts(&texts));
        all.map(Result::unwrap).collect::<Vec<_>>()
    };
    let (on, off) = (encoded("on"), encoded("off"));
    assert_eq!(on, off);
    assert_ne!(on[0], on[1]);
}

#[test]
fn requests_without_items_are_answered() {
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    assert!(client.images(&[]).is_empty());
    assert!(client.texts(&[]).is_empty());
}

#[test]
fn a_bad_item_fails_alone() {
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    let good = jpeg(3);
    let truncated = good[..good.len() / 2].to_vec();
    let images = [good.clone(), b"not an image".to_vec(), truncated, vec![], bomb(), good.clone()];
    let items = client.images(&images);
    let kinds: Vec<_> = items.iter().map(|item| item.as_ref().err().copied()).collect();
    let bad = Some(ErrorKind::BadImage);
    assert_eq!(kinds, [None, bad, bad, bad, Some(ErrorKind::ImageTooLarge), None]);
    assert_eq!(items[0], items[5]);
    assert!(client.images(&[b"GIF89a".to_vec()])[0].is_err());

    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    let items = client.texts(&["a bus", &long, "", "\u{0}\u{1f600}\u{feff}"]);
    let kinds: Vec<_> = items.iter().map(|item| item.as_ref().err().copied()).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::TextTooLong), None, None]);
}

#[test]
fn requests_of_one_connection_go_on_beside_each_other() {
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect();
    for id in 10..30 {
        client.send(&images_request(id, &[jpeg(id as u8), jpeg(1)]));
        client.send(&texts_request(id + 100, &[&format!("text {id}")]));
    }
    let mut ids: Vec<u64> = (0..40).map(|_| client.receive().unwrap().id()).collect();
    ids.sort();
    assert_eq!(ids, (10..30).chain(110..130).collect::<Vec<_>>());
    // An id that is on its way can't be used for another request.
    let twice = [images_request(1, &vec![jpeg(1); 64]), images_request(1, &[jpeg(1)])];
    let frames: Vec<u8> = twice.iter().flat_map(|r| encode_frame(r).unwrap()).collect();
    client.stream.write_all(&frames).unwrap();
    assert_eq!(failure(client.receive().unwrap()), ErrorKind::BadRequest);
    assert_eq!(items(client.receive().unwrap()).len(), 64);
}

#[test]
fn bytes_that_are_no_messages_close_the_connection_only() {
    let encoder = Encoder::start(&[]);
    let mut other = encoder.connect();
    let hello = encode_frame(&Request::Hello { version: VERSION }).unwrap();
    let garbage: Vec<Vec<u8>> = vec![
        vec![0; 64],
        vec![0xff; 64],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        u32::MAX.to_le_bytes().to_vec(),
        (256u32 * 1024 * 1024 + 1).to_le_bytes().to_vec(),
        [&5u32.to_le_bytes()[..], &[200; 5]].concat(),
        [&40u32.to_le_bytes()[..], &[1; 40]].concat(),
    ];
    for bytes in garbage {
        for greeting in [&[][..], &hello] {
            let mut client = encoder.connect_raw();
            client.stream.write_all(&[greeting, &bytes].concat()).unwrap();
            if !greeting.is_empty() {
                assert_eq!(client.receive(), Some(Response::Hello { version: VERSION }));
            }
            assert_eq!(failure(client.receive().unwrap()), ErrorKind::BadRequest);
            assert_eq!(client.receive(), None);
        }
    }
    assert!(other.images(&[jpeg(1)])[0].is_ok());
}

#[test]
fn a_connection_begins_with_a_greeting_of_this_version() {
    let encoder = Encoder::start(&[]);
    let mut client = encoder.connect_raw();
    let answer = client.ask(&Request::Hello { version: 999 });
    assert_eq!(failure(answer), ErrorKind::VersionMismatch);
    assert_eq!(client.receive(), None);
    let mut client = encoder.connect_raw();
    assert_eq!(failure(client.ask(&Request::Status { id: 1 })), ErrorKind::BadRequest);
    assert_eq!(client.receive(), None);
}

#[test]
fn cancelled_requests_are_not_answered() {
    let encoder = Encoder::start(&["--threads", "1", "--max-batch", "1"]);
    let mut client = encoder.connect();
    client.send(&images_request(5, &vec![jpeg(1); 500]));
    client.send(&Request::Cancel { id: 5 });
    client.send(&Request::Cancel { id: 6 });
    // The id is free at once, and the answer is that of the new request.
    let images = [jpeg(1), jpeg(2)];
    assert_eq!(items(client.ask(&images_request(5, &images))).len(), 2);
    let status = client.status();
    assert_eq!((status.cancelled, status.queued_images), (1, 0));
    assert!(status.images < 500, "{status:?}");
}

#[test]
fn requests_of_a_closed_connection_are_dropped() {
    let encoder = Encoder::start(&["--threads", "1", "--max-batch", "1"]);
    let mut client = encoder.connect();
    for half_a_frame in [false, true] {
        let mut leaver = encoder.connect();
        leaver.send(&images_request(1, &vec![jpeg(1); 500]));
        if half_a_frame {
            let frame = encode_frame(&images_request(2, &vec![jpeg(1); 100])).unwrap();
            leaver.stream.write_all(&frame[..frame.len() / 2]).unwrap();
        }
    }
    let status = client.status_when(|status| status.connections == 1);
    assert_eq!((status.cancelled, status.queued_images), (2, 0));
    assert!(client.images(&[jpeg(2)])[0].is_ok());
}

#[test]
fn a_full_queue_refuses_at_once() {
    let encoder = Encoder::start(&["--threads", "1", "--max-batch", "1", "--max-queue", "100"]);
    let mut client = encoder.connect();
    // A request that is larger than the queue is taken when nothing waits.
    client.send(&images_request(7, &vec![jpeg(1); 1000]));
    client.send(&images_request(2, &vec![jpeg(1); 64]));
    let refused = client.receive().unwrap();
    assert_eq!((refused.id(), failure(refused)), (2, ErrorKind::Overloaded));
    // Texts have a queue of their own.
    assert!(client.texts(&["a bus"])[0].is_ok());
    client.send(&Request::Cancel { id: 7 });
    assert_eq!(client.images(&vec![jpeg(1); 64]).len(), 64);
    assert_eq!(client.status().overloaded, 1);
}

/// The bodies of two frames of 200 MB are on their way, and never come: there is memory
/// for one of them. The other is refused as soon as its beginning is there.
#[test]
fn memory_for_arriving_requests_is_bounded() {
    let encoder = Encoder::start(&["--max-memory", "256"]);
    let beginning = |id| {
        let frame = encode_frame(&images_request(id, &[])).unwrap();
        [&(200u32 << 20).to_le_bytes(), &frame[4..]].concat()
    };
    let mut holder = encoder.connect();
    holder.stream.write_all(&beginning(8)).unwrap();
    let mut client = encoder.connect();
    client.status();
    client.stream.write_all(&beginning(9)).unwrap();
    let refused = client.receive().unwrap();
    assert_eq!((refused.id(), failure(refused)), (9, ErrorKind::Overloaded));
    // When the holder is gone, so is its claim.
    drop(holder);
    let mut client = encoder.connect();
    client.status_when(|status| status.connections == 2);
    client.stream.write_all(&beginning(10)).unwrap();
    let mut other = encoder.connect();
    other.stream.write_all(&beginning(11)).unwrap();
    assert_eq!(failure(other.receive().unwrap()), ErrorKind::Overloaded);
}

#[test]
fn many_connections_are_served_and_those_over_the_bound_refused() {
    let encoder = Encoder::start(&["--max-connections", "300"]);
    let mut clients: Vec<_> = (0..300).map(|_| encoder.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&texts_request(1, &[&format!("text {}", n % 7)]));
    }
    for client in &mut clients {
        assert!(items(client.receive().unwrap())[0].is_ok());
    }
    assert_eq!(clients[0].status().connections, 300);
    let mut refused = encoder.connect_raw();
    assert_eq!(failure(refused.receive().unwrap()), ErrorKind::Overloaded);
    drop(clients.pop());
    clients[0].status_when(|status| status.connections == 299);
    assert!(encoder.connect().texts(&["a bus"])[0].is_ok());
}

/// A client that asks and asks, and never reads an answer.
#[test]
fn a_client_that_does_not_read_is_not_read() {
    let encoder = Encoder::start(&[]);
    let mut glutton = encoder.connect();
    glutton.stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let ask = encode_frame(&Request::Status { id: 1 }).unwrap().repeat(1000);
    let mut sent = 0;
    while let Ok(n) = glutton.stream.write(&ask) {
        sent += n;
        assert!(sent < 16 << 20, "the encoder goes on reading");
    }
    assert!(encoder.connect().images(&[jpeg(1)])[0].is_ok());
}
