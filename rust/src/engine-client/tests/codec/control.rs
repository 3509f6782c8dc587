// SPDX-License-Identifier: Apache-2.0

//! Utility calls, aborts, waves and the handshake.

use rmpv::Value;
use vllm_engine_client::protocol::*;

use crate::messages::*;

#[test]
fn utility_and_abort_and_wave_messages_equal_the_specification() {
    let request = UtilityRequest {
        client_index: 0,
        call_id: 42,
        method: "is_sleeping".into(),
        args: vec![],
    };
    assert_eq!(
        request.encode(),
        hex("94 00 2a ab 69 73 5f 73 6c 65 65 70 69 6e 67 90")
    );
    assert_eq!(UtilityRequest::decode(&request.encode()), Ok(request));
    let reply = hex("99 00 90 c0 cb 3f f0 00 00 00 00 00 00 93 2a c0 92 c0 c2 c0 c0 c0 c0");
    let reply = EngineCoreOutputs::decode(&frames(reply)).expect("the specification's bytes");
    let reply = reply.header.utility_output.expect("a reply");
    assert_eq!(
        (reply.call_id, reply.result),
        (42, Ok(Value::Boolean(false)))
    );
    let abort = vec![
        RequestType::Abort.frame(),
        hex("92 a3 72 2d 31 a3 72 2d 32").into(),
    ];
    let ids = InputMessage::Abort(vec!["r-1".into(), "r-2".into()]);
    assert_eq!(InputMessage::decode(abort), Ok(ids));
    let wave = StartDpWave {
        wave: 4,
        exclude_engine: Some(1),
    };
    assert_eq!(wave.encode(), hex("92 04 01"));
    assert_eq!(StartDpWave::decode(&wave.encode()), Ok(wave));
    let load = |waiting, running, kv_cache_usage| EngineLoad {
        waiting,
        running,
        kv_cache_usage,
    };
    let loads = Some(vec![load(1, 2, 0.5), load(0, 0, 0.0)]);
    let update = CoordinatorUpdate {
        loads,
        current_wave: 7,
        engines_running: true,
    };
    let bytes =
        hex("93 92 93 01 02 cb 3f e0 00 00 00 00 00 00 93 00 00 cb 00 00 00 00 00 00 00 00 07 c3");
    assert_eq!(update.encode(), bytes);
    assert_eq!(CoordinatorUpdate::decode(&bytes), Ok(update));
}

#[test]
fn large_and_negative_call_ids_survive() {
    for call_id in [i128::from(u64::MAX), -2, 0] {
        let request = UtilityRequest {
            client_index: 1,
            call_id,
            method: "m".into(),
            args: vec![Value::Nil],
        };
        assert_eq!(UtilityRequest::decode(&request.encode()), Ok(request));
        let header = OutputsHeader {
            utility_output: Some(Box::new(UtilityOutput {
                call_id,
                result: Err("no".into()),
            })),
            ..OutputsHeader::default()
        };
        let message = EngineCoreOutputs {
            header,
            outputs: vec![],
        };
        assert_eq!(
            EngineCoreOutputs::decode(&Frames::new(message.encode())),
            Ok(message)
        );
    }
}

#[test]
fn handshake_messages_equal_the_specification() {
    let hello = HandshakeMessage {
        status: EngineStatus::Hello,
        local: true,
        headless: false,
        parallel_config_hash: None,
    };
    let bytes = hex(
        "83 a6 73 74 61 74 75 73 a5 48 45 4c 4c 4f a5 6c 6f 63 61 6c c3 a8 68 65 61 64 6c 65 73 73 c2",
    );
    assert_eq!(hello.encode(), bytes);
    assert_eq!(HandshakeMessage::decode(&bytes), Ok(hello));
    let init = InitMessage {
        addresses: EngineAddresses {
            inputs: vec!["ipc:///x/i".into()],
            outputs: vec!["ipc:///x/o".into()],
            ..EngineAddresses::default()
        },
        parallel_config: vec![("data_parallel_size".into(), 2.into())],
    };
    assert_eq!(InitMessage::decode(&init.encode()), Ok(init));
}

#[test]
fn a_registration_names_the_key_it_lacks() {
    let ready = ReadyResponse {
        dtype: "bfloat16".into(),
        max_loras: 3,
        ..Default::default()
    };
    assert_eq!(ReadyResponse::decode(&ready.encode()), Ok(ready.clone()));
    let bytes = ready.encode();
    let Ok(Value::Map(entries)) = rmpv::decode::read_value(&mut bytes.as_slice()) else {
        panic!("a registration is a map")
    };
    assert_eq!(entries.len(), 28);
    let without = entries
        .into_iter()
        .filter(|(key, _)| key.as_str() != Some("instance_id"));
    let missing = pack(&Value::Map(without.collect()));
    let error = ReadyResponse::decode(missing.payload()).expect_err("a key is missing");
    assert_eq!(
        error,
        DecodeError::Missing {
            field: "instance_id"
        }
    );
}
