// SPDX-License-Identifier: Apache-2.0

//! Messages of engines and peers: read or refused, the same in any pieces, and what was read survives being written.
//!
//! The first byte says what the rest is: a ZMTP conversation, or the frames of one message, cut at each 0xC1 (which
//! MessagePack never uses).

use bytes::{Bytes, BytesMut};
use vllm_engine_client::protocol::{
    CoordinatorUpdate, EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, EngineOutput,
    Frames, HandshakeMessage, InitMessage, InputMessage, OutputsHeader, ReadyResponse,
    SamplingParams, decode_outputs, request_id_of, utility_call_of,
};
use vllm_zmtp::Limits;
use vllm_zmtp::command::{SocketType, opening, ping};
use vllm_zmtp::frame::encode_message;
use vllm_zmtp::session::{Event, Session};

const CONVERSATION: u8 = 0;
const FRAMES: u8 = 1;

pub(crate) fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    if kind % 2 == CONVERSATION {
        conversation(rest);
        return;
    }
    let frames: Vec<Bytes> = rest
        .split(|byte| *byte == 0xC1)
        .map(Bytes::copy_from_slice)
        .collect();
    message(frames);
}

/// A hostile peer's bytes: the same events in one piece and byte by byte, within the limits.
fn conversation(data: &[u8]) {
    let limits = Limits {
        frame: 1000,
        message: 1500,
        frames: 8,
        ..Limits::default()
    };
    for ours in [SocketType::Router, SocketType::Pull] {
        let whole = events(
            &mut Session::new(ours, limits.clone()),
            std::iter::once(data),
        );
        let single = events(&mut Session::new(ours, limits.clone()), data.chunks(1));
        assert_eq!(whole, single, "pieces show");
    }
}

fn events<'a>(session: &mut Session, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Event>, bool) {
    let (mut buf, mut seen) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match session.next(&mut buf) {
                Ok(Some(event)) => seen.push(within_limits(event)),
                Ok(None) => break,
                Err(_) => return (seen, false),
            }
        }
        assert!(session.missing(&buf) <= 4096, "asks for more than a frame");
    }
    (seen, true)
}

fn within_limits(event: Event) -> Event {
    if let Event::Message(message) = &event {
        assert!(message.len() <= 8 && message.iter().map(Bytes::len).sum::<usize>() <= 1500);
    }
    event
}

fn message(frames: Vec<Bytes>) {
    let payload = frames[0].clone();
    let whole = Frames::new(frames.clone());
    let _ = decode_outputs(&whole, |_, _| ());
    if let Ok(outputs) = EngineCoreOutputs::decode(&whole) {
        let again = outputs.encode();
        let read =
            EngineCoreOutputs::decode(&Frames::new(again.clone())).expect("what we write, we read");
        assert_eq!(read.encode(), again, "an output changes on its way");
    }
    if let Ok(request) = EngineCoreRequest::decode(&whole) {
        let again = request.encode();
        let read =
            EngineCoreRequest::decode(&Frames::new(again.clone())).expect("what we write, we read");
        assert_eq!(read.encode(), again, "a request changes on its way");
    }
    let _ = HandshakeMessage::decode(&payload);
    let _ = InitMessage::decode(&payload);
    let _ = ReadyResponse::decode(&payload);
    let _ = CoordinatorUpdate::decode(&payload);
    let _ = request_id_of(&payload);
    let _ = utility_call_of(&payload);
    for kind in 0..5u8 {
        let input = std::iter::once(Bytes::from(vec![kind])).chain(frames.iter().cloned());
        let _ = InputMessage::decode(input.collect());
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let request = EngineCoreRequest {
        request_id: "r-1".to_owned(),
        prompt_token_ids: Some([1, 2, 300].into()),
        sampling_params: Some(SamplingParams {
            max_tokens: Some(4),
            ..SamplingParams::default()
        }),
        ..EngineCoreRequest::default()
    };
    let output = |ids: &[u32]| EngineCoreOutput {
        request_id: "r-1".to_owned(),
        output: EngineOutput {
            new_token_ids: ids.into(),
            ..EngineOutput::default()
        },
    };
    let outputs = EngineCoreOutputs {
        header: OutputsHeader {
            timestamp: 1.5,
            finished_requests: vec!["r-1".to_owned()],
            ..OutputsHeader::default()
        },
        outputs: vec![output(&[1]), output(&[70_000, 2])],
    };
    let mut spoken = opening(SocketType::Dealer, b"\x01\0");
    encode_message(
        &mut spoken,
        &[Bytes::from_static(b"\x00"), request.encode()[0].clone()],
    );
    spoken.extend(ping());
    let messages = [
        request.encode().concat(),
        outputs.encode().concat(),
        ReadyResponse::default().encode(),
        InitMessage::default().encode(),
    ];
    let framed = messages
        .into_iter()
        .map(|message| [vec![FRAMES], message].concat());
    framed
        .chain([[vec![CONVERSATION], spoken].concat()])
        .collect()
}
