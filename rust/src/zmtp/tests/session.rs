// SPDX-License-Identifier: Apache-2.0

//! Bytes of honest and hostile peers, in any pieces.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use vllm_zmtp::command::{Command, SocketType, greeting, opening, ping, pong};
use vllm_zmtp::frame::{Decoder, Item, encode_command, encode_message};
use vllm_zmtp::session::{Event, PeerInfo, Session};
use vllm_zmtp::{Limits, Message, ZmtpError};

fn small() -> Limits {
    Limits {
        frame: 1000,
        message: 1500,
        frames: 8,
        ..Limits::default()
    }
}

/// Feeds pieces; events until the first error.
fn feed(session: &mut Session, pieces: &[&[u8]]) -> (Vec<Event>, Option<ZmtpError>) {
    let (mut buf, mut events) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match session.next(&mut buf) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let (mut from, mut pieces) = (0, Vec::new());
    for cut in cuts {
        pieces.push(&bytes[from..cut]);
        from = cut;
    }
    pieces.push(&bytes[from..]);
    pieces
}

fn conversation(identity: &[u8], messages: &[Message]) -> Vec<u8> {
    let mut bytes = opening(SocketType::Dealer, identity);
    for message in messages {
        encode_message(&mut bytes, message);
        bytes.extend(ping());
    }
    bytes
}

fn expected(identity: &[u8], messages: &[Message]) -> Vec<Event> {
    let peer = PeerInfo {
        identity: Bytes::copy_from_slice(identity),
        answers_pings: true,
    };
    let traffic = messages
        .iter()
        .flat_map(|message| [Event::Message(message.clone()), Event::Ping(Bytes::new())]);
    std::iter::once(Event::Ready(peer)).chain(traffic).collect()
}

fn any_message() -> impl Strategy<Value = Message> {
    let frame = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::collection::vec(any::<u8>(), 250..262),
        Just(vec![7; 900]),
    ];
    // At most what `small` allows: 8 frames would be 7200 bytes, so long ones come alone.
    prop_oneof![
        prop::collection::vec(frame, 1..2),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..180), 1..9),
    ]
    .prop_map(|frames| frames.into_iter().map(Bytes::from).collect())
}

/// Longer runs by `nox -s fuzz`.
fn fuzz_factor() -> u32 {
    let word = std::env::var("VLLM_FUZZ_FACTOR").unwrap_or_default();
    word.parse().unwrap_or(1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512 * fuzz_factor()))]

    #[test]
    fn any_split_of_a_conversation_gives_the_same_events(
        identity in prop::collection::vec(any::<u8>(), 0..4),
        messages in prop::collection::vec(any_message(), 0..5),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes = conversation(&identity, &messages);
        let mut session = Session::new(SocketType::Router, small());
        let (events, error) = feed(&mut session, &cut(&bytes, &cuts));
        prop_assert!(error.is_none(), "{error:?}");
        prop_assert_eq!(events, expected(&identity, &messages));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_ask_for_more_than_the_limit(
        start in 0..4usize,
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        // Garbage from the first byte, after the greeting, after READY, and inside a message.
        let honest = [
            Vec::new(),
            greeting().to_vec(),
            opening(SocketType::Dealer, b"\x01\0"),
            [opening(SocketType::Dealer, b"\x01\0"), vec![1, 3, 7, 7, 7]].concat(),
        ];
        let all = [honest[start].clone(), bytes].concat();
        let mut session = Session::new(SocketType::Router, small());
        let mut buf = BytesMut::new();
        for piece in cut(&all, &cuts) {
            buf.extend_from_slice(piece);
            while let Ok(Some(event)) = session.next(&mut buf) {
                if let Event::Message(message) = event {
                    prop_assert!(message.len() <= 8);
                    prop_assert!(message.iter().map(Bytes::len).sum::<usize>() <= 1500);
                }
            }
            prop_assert!(session.missing(&buf) <= 4096);
        }
    }

    #[test]
    fn arbitrary_commands_never_panic(body in prop::collection::vec(any::<u8>(), 0..80), ready: bool) {
        let body = if ready { [&b"\x05READY"[..], &body].concat() } else { body };
        let _ = Command::decode(body.into(), SocketType::Pull);
    }
}

#[test]
fn a_conversation_may_arrive_byte_by_byte() {
    let messages: Vec<Message> = vec![
        vec![Bytes::new()],
        vec![
            Bytes::from_static(b"\x01\0"),
            vec![3; 256].into(),
            vec![4; 255].into(),
        ],
        vec![vec![5; 1000].into()],
    ];
    let bytes = conversation(b"\x01\0", &messages);
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    let mut session = Session::new(SocketType::Router, small());
    let (events, error) = feed(&mut session, &pieces);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, expected(b"\x01\0", &messages));
}

#[test]
fn a_header_is_judged_before_its_body_comes() {
    let header = |flags: u8, len: u64| [&[flags][..], &len.to_be_bytes()].concat();
    let cases: [(Vec<u8>, &str); 6] = [
        (header(2, 256 << 30), "frame of 274877906944 bytes"),
        (header(2, u64::MAX), "frame of 18446744073709551615 bytes"),
        (header(6, 5000), "command of 5000 bytes"),
        (
            [header(3, 900), vec![0; 900], header(2, 700)].concat(),
            "message of 1600 bytes",
        ),
        (vec![8, 0], "flags 0x08"),
        (vec![5, 0], "flags 0x05"),
    ];
    for (bytes, text) in cases {
        let mut decoder = Decoder::new(small());
        let error = decoder
            .next(&mut BytesMut::from(&bytes[..]))
            .expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_message_has_a_limit_of_frames() {
    let mut decoder = Decoder::new(small());
    let error = decoder.next(&mut BytesMut::from(&[1, 0].repeat(9)[..]));
    assert!(matches!(error, Err(ZmtpError::TooManyFrames(8))));
}

#[test]
fn strangers_are_told_apart_as_soon_as_they_speak() {
    let mut curve = greeting().to_vec();
    curve[12..17].copy_from_slice(b"CURVE");
    let mut old = greeting().to_vec();
    old[10] = 1;
    let push = opening(SocketType::Push, b"");
    let silent = [greeting().to_vec(), vec![0, 1, 7]].concat();
    let mut refused = greeting().to_vec();
    encode_command(&mut refused, b"\x05ERROR\x04busy");
    let cases: [(&[u8], &str); 6] = [
        (b"GET / HTTP/1.1\r\n", "does not greet"),
        (&old, "ZMTP 1"),
        (&curve, "\"CURVE\""),
        (&push, "PUSH socket can't talk to ROUTER"),
        (&silent, "a message instead of READY"),
        (&refused, "busy"),
    ];
    for (bytes, text) in cases {
        let mut session = Session::new(SocketType::Router, small());
        let (events, error) = feed(&mut session, &[bytes]);
        assert!(events.is_empty(), "{events:?}");
        let error = error.expect(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn later_minor_versions_and_unknown_commands_are_taken() {
    let mut zmtp30 = opening(SocketType::Dealer, b"\x02\0");
    zmtp30[11] = 0;
    encode_command(&mut zmtp30, b"\x07SHUFFLE");
    zmtp30.extend(pong(b"x"));
    let mut session = Session::new(SocketType::Router, small());
    let (events, error) = feed(&mut session, &[&zmtp30]);
    assert!(error.is_none(), "{error:?}");
    let peer = PeerInfo {
        identity: Bytes::from_static(b"\x02\0"),
        answers_pings: false,
    };
    assert_eq!(events, [Event::Ready(peer), Event::Alive, Event::Alive]);
}

#[test]
fn a_ping_is_answered_with_its_context() {
    let mut body = BytesMut::from(&pong(b"context")[..]);
    let item = Decoder::new(small()).next(&mut body).expect("well formed");
    let Some(Item::Command(body)) = item else {
        panic!("{item:?}")
    };
    assert_eq!(body.as_ref(), b"\x04PONGcontext");
}
