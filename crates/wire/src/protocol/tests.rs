//! Tests of messages and frames: everything comes back as it was sent, however it is
//! cut, and no bytes make the reader panic or allocate without bound.

use super::frame::{HEADER, MAX_FRAME};
use super::*;
use proptest::prelude::*;

fn model() -> ModelRef {
    ModelRef {
        directory: "/models/tiny".into(),
        digest: [7; 32],
        language: Some("deu_Latn".into()),
    }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Hello { version: VERSION },
        Request::Images {
            id: 1,
            model: model(),
            images: vec![
                vec![0xff, 0xd8].into(),
                Image::File { root: "/srv/archive".into(), path: "day 1/ä.jpg".into() },
            ],
        },
        Request::Texts { id: u64::MAX, model: model(), texts: vec!["ein Bär".into(), "".into()] },
        Request::Describe { id: 3, directory: "/models/tiny".into() },
        Request::Status { id: 4 },
        Request::Cancel { id: 5 },
    ]
}

fn responses() -> Vec<Response> {
    let error = ItemError { kind: ErrorKind::BadImage, message: "not an image".into() };
    let loaded = LoadedModel {
        name: "tiny".into(),
        directory: "/models/tiny".into(),
        digest: [1; 32],
        dimensions: 128,
        device: "cpu".into(),
        bytes: 123_456_789,
        idle_seconds: 2.5,
    };
    vec![
        Response::Hello { version: VERSION },
        Response::Embeddings {
            id: 9,
            dimensions: 2,
            items: vec![Ok(ByteBuf::from(vec![0, 0x3c, 0, 0])), Err(error)],
        },
        Response::Model {
            id: 10,
            model: ModelInfo {
                name: "tiny".into(),
                architecture: "ViT".into(),
                digest: [3; 32],
                dimensions: 128,
                image_size: 64,
                context_length: 77,
                logit_scale: 100.0,
                precision: "fp16".into(),
                mean_text_embedding: Some(vec![0.5; 128]),
                device: "cpu".into(),
            },
        },
        Response::Status {
            id: 11,
            status: Box::new(Status { pid: 12, models: vec![loaded], ..Default::default() }),
        },
        Response::Failed {
            id: 12,
            kind: ErrorKind::Internal,
            message: "broken".into(),
            hint: "mend it".into(),
        },
    ]
}

/// Feeds a stream in pieces of `step` bytes and collects its messages.
fn read_all<T: serde::de::DeserializeOwned>(stream: &[u8], step: usize) -> Vec<T> {
    let mut reader = FrameReader::new();
    let mut messages = Vec::new();
    for piece in stream.chunks(step) {
        reader.push(piece);
        while let Some(message) = reader.next_message().unwrap() {
            messages.push(message);
        }
    }
    assert_eq!(reader.buffered(), 0);
    messages
}

#[test]
fn messages_come_back_however_the_stream_is_cut() {
    let stream: Vec<u8> = requests().iter().flat_map(|m| encode_frame(m).unwrap()).collect();
    let answers: Vec<u8> = responses().iter().flat_map(|m| encode_frame(m).unwrap()).collect();
    for step in [1, 2, 3, 7, 64, 100_000] {
        assert_eq!(read_all::<Request>(&stream, step), requests());
        assert_eq!(read_all::<Response>(&answers, step), responses());
    }
}

/// The bytes that this version writes: a change here needs a new [`VERSION`].
#[test]
fn the_format_stays_as_it_is() {
    let frame = |m: &Request| encode_frame(m).unwrap();
    assert_eq!(frame(&Request::Hello { version: 1 }), [2, 0, 0, 0, 0, 1]);
    assert_eq!(frame(&Request::Status { id: 300 }), [3, 0, 0, 0, 4, 0xac, 2]);
    let model = ModelRef { directory: "/m".into(), digest: [9; 32], language: None };
    let images = Request::Images { id: 1, model, images: vec![vec![5, 6].into()] };
    let mut expected = vec![43, 0, 0, 0, 1, 1, 2, b'/', b'm'];
    expected.extend([9; 32]);
    expected.extend([0, 1, 0, 2, 5, 6]);
    assert_eq!(frame(&images), expected);
    let failed =
        Response::Failed { id: 2, kind: ErrorKind::Internal, message: "a".into(), hint: "".into() };
    assert_eq!(encode_frame(&failed).unwrap(), [6, 0, 0, 0, 4, 2, 11, 1, b'a', 0]);
}

#[test]
fn a_length_out_of_bounds_is_refused_before_the_body_arrives() {
    for length in [0u32, MAX_FRAME as u32 + 1, u32::MAX] {
        let mut reader = FrameReader::new();
        reader.push(&length.to_le_bytes());
        let error = ProtocolError::FrameLength(length as usize);
        assert_eq!(reader.next_message::<Request>(), Err(error.clone()));
        // Valid bytes do not bring it back.
        reader.push(&encode_frame(&Request::Status { id: 1 }).unwrap());
        assert_eq!(reader.next_message::<Request>(), Err(error));
        assert_eq!(reader.buffered(), 0);
    }
}

#[test]
fn lists_are_bounded_while_they_are_read() {
    let texts = |n| Request::Texts { id: 1, model: model(), texts: vec![String::new(); n] };
    let mut reader = FrameReader::new();
    reader.push(&encode_frame(&texts(MAX_ITEMS)).unwrap());
    assert_eq!(reader.next_message(), Ok(Some(texts(MAX_ITEMS))));
    reader.push(&encode_frame(&texts(MAX_ITEMS + 1)).unwrap());
    assert!(matches!(reader.next_message::<Request>(), Err(ProtocolError::Malformed(_))));
}

#[test]
fn bytes_after_a_message_are_refused() {
    let mut frame = encode_frame(&Request::Status { id: 1 }).unwrap();
    frame[0] += 1;
    frame.push(0);
    let mut reader = FrameReader::new();
    reader.push(&frame);
    assert_eq!(reader.next_message::<Request>(), Err(ProtocolError::Malformed(3)));
}

#[test]
fn an_arriving_frame_is_known_early_and_can_be_skipped() {
    let images = vec![vec![1; 5000].into()];
    let big = encode_frame(&Request::Images { id: 77, model: model(), images }).unwrap();
    let next = Request::Status { id: 78 };
    let stream = [big.clone(), encode_frame(&next).unwrap()].concat();
    for cut in [6, 100, big.len() - 1, big.len(), stream.len()] {
        let mut reader = FrameReader::new();
        reader.push(&stream[..cut]);
        let length = big.len() - HEADER;
        assert_eq!(reader.incoming(), Ok(Some(Incoming { length, id: 77 })), "cut at {cut}");
        reader.skip_incoming().unwrap();
        reader.push(&stream[cut..]);
        assert_eq!(reader.next_message(), Ok(Some(next.clone())), "cut at {cut}");
    }
}

#[test]
fn memory_of_a_large_frame_is_given_back() {
    let images = vec![vec![1; 4 << 20].into()];
    let mut reader = FrameReader::new();
    reader.push(&encode_frame(&Request::Images { id: 1, model: model(), images }).unwrap());
    assert!(reader.next_message::<Request>().unwrap().is_some());
    assert_eq!(reader.capacity(), 0);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let mut reader = FrameReader::new();
        for piece in &pieces {
            reader.push(piece);
            let _ = reader.incoming();
            while let Ok(Some(_)) = reader.next_message::<Request>() {}
        }
    }

    #[test]
    fn no_body_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 1..300)) {
        let frame = [&(body.len() as u32).to_le_bytes()[..], &body].concat();
        let mut reader = FrameReader::new();
        reader.push(&frame);
        let _ = reader.incoming();
        let _ = reader.next_message::<Request>();
        let mut reader = FrameReader::new();
        reader.push(&frame);
        let _ = reader.next_message::<Response>();
    }

    #[test]
    fn a_damaged_message_is_an_error_or_another_message(
        which in 0usize..6, at in 0usize..60, with in any::<u8>(), skip in any::<bool>(),
    ) {
        let mut frame = encode_frame(&requests()[which]).unwrap();
        let at = HEADER + at % (frame.len() - HEADER);
        frame[at] = with;
        let mut reader = FrameReader::new();
        reader.push(&frame);
        let _ = reader.incoming();
        if skip {
            let _ = reader.skip_incoming();
        }
        let _ = reader.next_message::<Request>();
    }

    #[test]
    fn texts_and_images_come_back(
        id in any::<u64>(),
        texts in prop::collection::vec(".*", 0..5),
        images in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5),
        step in 1usize..40,
    ) {
        let images = images.into_iter().map(Image::from).collect();
        let sent = vec![
            Request::Texts { id, model: model(), texts },
            Request::Images { id, model: model(), images },
        ];
        let stream: Vec<u8> = sent.iter().flat_map(|m| encode_frame(m).unwrap()).collect();
        prop_assert_eq!(read_all::<Request>(&stream, step), sent);
    }
}
