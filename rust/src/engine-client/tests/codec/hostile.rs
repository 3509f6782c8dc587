// SPDX-License-Identifier: Apache-2.0

//! Bytes that nobody who means well sends.

use bytes::Bytes;
use proptest::prelude::*;
use vllm_engine_client::protocol::*;

use crate::messages::*;

/// Every decoder on the same bytes: none may panic, whatever they are.
fn decode_everything(frames: Vec<Bytes>) {
    let payload = frames[0].clone();
    let message = Frames::new(frames.clone());
    let _ = EngineCoreOutputs::decode(&message);
    decode_each(&message);
    let _ = EngineCoreRequest::decode(&message);
    let _ = HandshakeMessage::decode(&payload);
    let _ = InitMessage::decode(&payload);
    let _ = ReadyResponse::decode(&payload);
    let _ = CoordinatorUpdate::decode(&payload);
    let _ = request_id_of(&payload);
    for kind in 0..5u8 {
        let mut input = vec![Bytes::from(vec![kind])];
        input.extend(frames.iter().cloned());
        let _ = InputMessage::decode(input);
    }
}

fn seeds() -> Vec<Vec<Bytes>> {
    let mut request = add_request();
    request.sampling_params = Some(every_sampling_field());
    let tensor = Tensor::from_i32(&[1; 80], &[80]);
    request.mm_features = Some(vec![feature(tensor.clone(), tensor)]);
    let mask = SamplingMask {
        token_ids: vec![1, 2, 3],
        offsets: Some(vec![0, 1, 3]),
    };
    let mut rare = prompt_logprobs();
    rare.outputs[0].output.rare = Some(Box::new(RareOutput {
        sampling_mask: Some(mask),
        events: vec![EngineEvent {
            kind: 3,
            timestamp: 1.0,
        }],
        spec_decode_metrics: Some(SpecDecodeMetrics::default()),
        ..RareOutput::default()
    }));
    rare.header.scheduler_stats = Some(Box::default());
    vec![
        vec![hex(ADD).into()],
        vec![hex(FINAL).into()],
        request.encode(),
        rare.encode(),
        vec![ReadyResponse::default().encode().into()],
        vec![InitMessage::default().encode().into()],
        vec![hex("94 00 2a ab 69 73 5f 73 6c 65 65 70 69 6e 67 90").into()],
    ]
}

/// Longer runs by `nox -s fuzz`.
fn fuzz_factor() -> u32 {
    let word = std::env::var("VLLM_FUZZ_FACTOR").unwrap_or_default();
    word.parse().unwrap_or(1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512 * fuzz_factor()))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        decode_everything(vec![bytes.into()]);
    }

    #[test]
    fn no_mutation_of_a_good_message_panics(
        seed in 0..7usize,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        truncate: bool,
    ) {
        let mut frames = seeds()[seed].clone();
        let mut payload = frames[0].to_vec();
        for (at, byte) in edits {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if truncate {
            payload.truncate(cut.index(payload.len()));
        }
        frames[0] = payload.into();
        decode_everything(frames);
    }

    #[test]
    fn announced_lengths_allocate_nothing(length in any::<u32>(), marker in 0..6usize) {
        let marker = [0xdd, 0xdf, 0xdb, 0xc6, 0xc9, 0xdc][marker];
        let mut payload = hex("99 00");
        payload.push(marker);
        payload.extend(length.to_be_bytes());
        decode_everything(vec![payload.into()]);
    }
}

#[test]
fn deep_nesting_is_refused_without_recursion() {
    let mut payload = hex("99 00 91 99 a1 62 90 c0 c0 c0 c0 c0 c0");
    payload.extend(std::iter::repeat_n(0x91, 2_000_000));
    let (seen, header) = decode_each(&frames(payload));
    assert_eq!(seen[0].0, "b");
    let depth = DecodeError::Depth {
        field: "kv_transfer_params",
        limit: 64,
    };
    assert_eq!(seen[0].1, Err(depth));
    assert!(!header, "the message ends inside the nesting");
}
