// SPDX-License-Identifier: Apache-2.0

//! The worked examples of the wire's specification, its tolerance rules, and hostile input.

use bytes::Bytes;
use proptest::prelude::*;
use rmpv::Value;
use vllm_engine_client::protocol::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex digits only") as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn frames(payload: Vec<u8>) -> Frames {
    Frames::from(payload)
}

/// MessagePack of a value, to build messages no encoder of ours would write.
fn pack(value: &Value) -> Frames {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("writing to memory cannot fail");
    frames(out)
}

fn array(items: Vec<Value>) -> Value {
    Value::Array(items)
}

type Decoded = (String, Result<EngineOutput, DecodeError>);

/// Every output, and whether the message as a whole could be read.
fn decode_each(frames: &Frames) -> (Vec<Decoded>, bool) {
    let mut seen = Vec::new();
    let header = decode_outputs(frames, |id, output| {
        seen.push((String::from_utf8_lossy(id).into_owned(), output));
    });
    (seen, header.is_ok())
}

const ADD: &str = "
    dc 00 16 a3 72 2d 31 93 01 02 cd 01 2c c0 de 00 07 ab 74 65 6d 70 65 72 61 74 75 72 65 cb 00 00 00 00 00 00 00 00
    a4 73 74 6f 70 90 ae 73 74 6f 70 5f 74 6f 6b 65 6e 5f 69 64 73 90 aa 6d 61 78 5f 74 6f 6b 65 6e 73 04
    ab 6f 75 74 70 75 74 5f 6b 69 6e 64 01 a9 62 61 64 5f 77 6f 72 64 73 90
    b9 73 6b 69 70 5f 72 65 61 64 69 6e 67 5f 70 72 65 66 69 78 5f 63 61 63 68 65 c2
    c0 cb 3f f8 00 00 00 00 00 00 c0 c0 c0 c0 c0 00 00 00 c0 c2 a1 72 c0 c0 c2 c0 c0";

const FINAL: &str = "
    99 00 91 dc 00 13 a3 72 2d 31 91 02 c0 c0 c0 00 c0 c0 c0 c0 c0 c0 c0 00 c0 c0 c0 c0 c0
    c0 cb 40 25 00 00 00 00 00 00 c0 91 a3 72 2d 31 c0 c0 a7 64 65 66 61 75 6c 74";

fn add_request() -> EngineCoreRequest {
    EngineCoreRequest {
        request_id: "r-1".to_owned(),
        prompt_token_ids: Some([1, 2, 300].into()),
        sampling_params: Some(SamplingParams {
            temperature: 0.0,
            max_tokens: Some(4),
            output_kind: OutputKind::Delta,
            skip_reading_prefix_cache: Some(false),
            ..SamplingParams::default()
        }),
        arrival_time: 1.5,
        external_req_id: Some("r".to_owned()),
        ..EngineCoreRequest::default()
    }
}

#[test]
fn an_add_of_the_python_encoder_is_read() {
    let request = EngineCoreRequest::decode(&frames(hex(ADD))).expect("the specification's bytes");
    assert_eq!(request, add_request());
}

#[test]
fn an_add_survives_the_round_trip_with_every_field() {
    let tensor = |bytes: usize| Tensor {
        dtype: "bfloat16".into(),
        shape: smallvec::smallvec![bytes as u64 / 2],
        data: Bytes::from(vec![7; bytes]),
    };
    let kwargs = Value::Map(vec![("chat_template_kwargs".into(), Value::Map(vec![]))]);
    let mut request = add_request();
    request.prompt_embeds = Some(tensor(256));
    request.prompt_is_token_ids = Some(vec![true, false]);
    request.mm_features = Some(vec![feature(tensor(12), tensor(512))]);
    request.pooling_params = Some(PoolingParams {
        dimensions: Some(8),
        task: Some("embed".to_owned()),
        output_kind: 2,
        late_interaction: Some(LateInteraction {
            mode: "m".into(),
            ..Default::default()
        }),
        late_chunk_size: Some(3),
        ..PoolingParams::default()
    });
    request.lora_request = Some(LoraRequest {
        name: "a".into(),
        int_id: 1,
        ..Default::default()
    });
    request.trace_headers = Some(vec![("traceparent".into(), "00".into())]);
    request.reasoning_parser_kwargs = Some(kwargs);
    request.kv_hints = Some(Value::from("h"));
    request.priority = -3;
    request.data_parallel_rank = Some(70_000);
    request.sampling_params = Some(every_sampling_field());
    let encoded = request.encode();
    assert_eq!(
        encoded.len(),
        3,
        "embeddings and one feature travel out of band"
    );
    let back = EngineCoreRequest::decode(&Frames::new(encoded)).expect("our own bytes");
    assert_eq!(back, request);
}

fn feature(small: Tensor, large: Tensor) -> MmFeature {
    let flat = FieldKind::Flat {
        keep_on_cpu: false,
        slices: vec![vec![[Some(0), Some(3), None]]],
        dim: 0,
    };
    let nested = FieldKind::Flat {
        keep_on_cpu: true,
        slices: vec![vec![[Some(0), None, None], [None, Some(2), Some(1)]]],
        dim: 1,
    };
    let list = FeatureData::List(vec![FeatureData::Int(1), FeatureData::Float(0.5)]);
    MmFeature {
        data: Some(vec![
            (
                "pixel_values".into(),
                FeatureField {
                    data: FeatureData::Tensor(small),
                    field: FieldKind::Batched { keep_on_cpu: false },
                },
            ),
            (
                "grid".into(),
                FeatureField {
                    data: list,
                    field: flat,
                },
            ),
            (
                "y".into(),
                FeatureField {
                    data: FeatureData::Nil,
                    field: nested,
                },
            ),
            (
                "x".into(),
                FeatureField {
                    data: FeatureData::Float(1.5),
                    field: FieldKind::Shared {
                        keep_on_cpu: false,
                        batch_size: 1,
                    },
                },
            ),
        ]),
        modality: "image".into(),
        identifier: "abc".into(),
        position: MmPosition {
            offset: 2,
            length: 4,
            is_embed: Some(large),
        },
        mm_hash: Some("abc".into()),
    }
}

fn every_sampling_field() -> SamplingParams {
    SamplingParams {
        n: 2,
        presence_penalty: 0.5,
        frequency_penalty: -0.5,
        repetition_penalty: 1.1,
        temperature: 0.7,
        watermarking: Some(true),
        top_p: 0.9,
        top_k: -1,
        min_p: 0.1,
        seed: Some(-5),
        stop: vec!["x".into()],
        stop_token_ids: vec![2],
        ignore_eos: true,
        max_tokens: None,
        min_tokens: 3,
        logprobs: Some(-1),
        prompt_logprobs: Some(2),
        prompt_logprob_token_ids: Some(Tensor::from_i32(&[1, 2], &[2])),
        prompt_logprob_start: Some(1),
        logprob_token_ids: Some(vec![1]),
        flat_logprobs: true,
        detokenize: false,
        skip_special_tokens: false,
        spaces_between_special_tokens: false,
        include_stop_str_in_output: true,
        output_kind: OutputKind::FinalOnly,
        stream_interval: Some(2),
        skip_clone: true,
        output_text_buffer_length: 4,
        eos_token_id: Some(2),
        all_stop_token_ids: vec![2, 3],
        watermarking_skipped: true,
        structured_outputs: Some(StructuredOutputs {
            json: Some(Value::Map(vec![("type".into(), "object".into())])),
            backend: Some("xgrammar".into()),
            ..StructuredOutputs::default()
        }),
        logit_bias: Some([(1, 2.5), (100_000, -100.0)].into()),
        allowed_token_ids: Some(vec![1, 2]),
        extra_args: Some(Value::Map(vec![("k".into(), Value::from(1))])),
        bad_words: vec!["w".into()],
        bad_words_token_ids: Some(vec![vec![1, 2], vec![]]),
        skip_reading_prefix_cache: Some(true),
        thinking_token_budget: Some(9),
        repetition_detection: Some(RepetitionDetection {
            min_count: 3,
            ..Default::default()
        }),
        routed_experts_prompt_start: 1,
        trace_decode_token_ids: Some(vec![4]),
    }
}

#[test]
fn a_short_add_is_read_and_a_shorter_one_names_what_is_missing() {
    let Value::Array(mut slots) =
        rmpv::decode::read_value(&mut hex(ADD).as_slice()).expect("the specification's bytes")
    else {
        panic!("an ADD is an array")
    };
    slots.truncate(9);
    let request = EngineCoreRequest::decode(&pack(&array(slots.clone()))).expect("nine are enough");
    assert_eq!(request.external_req_id, None);
    slots.truncate(8);
    let error = EngineCoreRequest::decode(&pack(&array(slots))).expect_err("eight are not");
    assert_eq!(
        error,
        DecodeError::Missing {
            field: "data_parallel_rank"
        }
    );
}

#[test]
fn the_id_of_a_broken_add_is_still_found() {
    let broken = pack(&array(vec!["r-9".into(), "not a prompt".into()]));
    assert!(EngineCoreRequest::decode(&broken).is_err());
    assert_eq!(request_id_of(broken.payload()).as_deref(), Some("r-9"));
    assert_eq!(request_id_of(&[0x90]), None);
}

#[test]
fn the_final_output_of_the_python_encoder_is_read() {
    let message =
        EngineCoreOutputs::decode(&frames(hex(FINAL))).expect("the specification's bytes");
    assert_eq!(message.header.timestamp, 10.5);
    assert_eq!(message.header.finished_requests, ["r-1"]);
    assert_eq!(message.header.weight_version.as_deref(), Some("default"));
    let [output] = &message.outputs[..] else {
        panic!("one output")
    };
    assert_eq!(output.request_id, "r-1");
    assert_eq!(output.output.new_token_ids[..], [2]);
    assert_eq!(output.output.finish, Some(FinishReason::Stop));
    assert_eq!(output.output.rare, None);
    let again = EngineCoreOutputs::decode(&Frames::new(message.encode())).expect("our own bytes");
    assert_eq!(again, message);
}

#[test]
fn inline_logprobs_events_and_prefill_stats_are_read() {
    let ndarray = |dtype: &str, shape: &[u64], data: &str| {
        let shape = shape.iter().map(|dim| Value::from(*dim)).collect();
        array(vec![dtype.into(), array(shape), Value::Ext(3, hex(data))])
    };
    let logprobs = array(vec![
        ndarray("<i4", &[1, 3], "05000000 09000000 01000000"),
        ndarray("<f4", &[1, 3], "cdccccbd 000080bf 000000c0"),
        ndarray("<i4", &[1], "01000000"),
        Value::Nil,
    ]);
    let event = Value::Map(vec![
        ("type".into(), 1.into()),
        ("timestamp".into(), 1.0.into()),
    ]);
    let stats = Value::Map(vec![("num_prompt_tokens".into(), 3.into())]);
    let mut output = vec![Value::Nil; 19];
    output[0] = "r-1".into();
    output[1] = array(vec![5.into()]);
    output[2] = logprobs;
    output[7] = array(vec![event]);
    output[11] = stats;
    output[13] = 0.into();
    let message = array(vec![
        0.into(),
        array(vec![array(output)]),
        Value::Nil,
        10.25.into(),
    ]);
    let message = EngineCoreOutputs::decode(&pack(&message)).expect("nine slots are not needed");
    let output = &message.outputs[0].output;
    let logprobs = output.logprobs.as_deref().expect("asked for");
    assert_eq!((logprobs.rows(), logprobs.width), (1, 3));
    let row: Vec<_> = logprobs
        .row(0)
        .iter()
        .map(|c| (c.token_id, c.logprob))
        .collect();
    assert_eq!(row, [(5, -0.1), (9, -1.0), (1, -2.0)]);
    assert_eq!(logprobs.ranks[..], [1]);
    assert_eq!(
        output
            .prefill_stats
            .as_ref()
            .map(|stats| stats.num_prompt_tokens),
        Some(3)
    );
    assert_eq!(output.rare.as_ref().expect("events").events[0].kind, 1);
    assert_eq!(output.timestamp, 10.25);
}

fn prompt_logprobs() -> EngineCoreOutputs {
    let entries = (0..120).map(|id| TokenLogprob {
        token_id: id,
        logprob: -(id as f32),
    });
    let logprobs = Logprobs {
        width: 3,
        entries: entries.collect(),
        ranks: (0..40).collect(),
    };
    EngineCoreOutputs {
        outputs: vec![EngineCoreOutput {
            request_id: "r".to_owned(),
            output: EngineOutput {
                prompt_logprobs: Some(Box::new(logprobs)),
                ..Default::default()
            },
        }],
        ..EngineCoreOutputs::default()
    }
}

#[test]
fn large_arrays_travel_in_frames_of_their_own() {
    let message = prompt_logprobs();
    let frames = message.encode();
    assert_eq!(
        frames[1..].iter().map(Bytes::len).collect::<Vec<_>>(),
        [480, 480]
    );
    assert_eq!(EngineCoreOutputs::decode(&Frames::new(frames)), Ok(message));
}

#[test]
fn a_missing_frame_fails_its_output_alone() {
    let mut frames = prompt_logprobs().encode();
    frames.pop();
    let (seen, header) = decode_each(&Frames::new(frames));
    assert!(header);
    assert_eq!(seen[0].0, "r");
    let field = "new_prompt_logprobs_tensors";
    assert_eq!(
        seen[0].1,
        Err(DecodeError::Frame {
            field,
            index: 2,
            count: 2
        })
    );
}

/// A message with three outputs, of which the middle one is `bad`.
fn around(bad: Value) -> Frames {
    let good = |id: &str| array(vec![id.into(), array(vec![1.into()])]);
    pack(&array(vec![
        0.into(),
        array(vec![good("a"), bad, good("c")]),
    ]))
}

#[test]
fn one_bad_output_fails_alone() {
    let finish = |value: Value| {
        let mut slots = vec![Value::Nil; 6];
        slots[0] = "b".into();
        slots[1] = array(vec![]);
        slots[5] = value;
        array(slots)
    };
    let pickle = array(vec![
        "b".into(),
        array(vec![]),
        Value::Ext(1, vec![1, 2, 3]),
    ]);
    let array_of_pickle = array(vec![
        "<i4".into(),
        array(vec![3.into()]),
        Value::Ext(2, vec![1]),
    ]);
    let nested = array(vec![
        "b".into(),
        array(vec![]),
        array(vec![array_of_pickle]),
    ]);
    for bad in [
        finish(9.into()),
        finish("stop".into()),
        array(vec!["b".into(), "tokens".into()]),
        array(vec!["b".into(), array(vec![(-1).into()])]),
        array(vec!["b".into()]),
        pickle,
        nested,
    ] {
        let (seen, header) = decode_each(&around(bad.clone()));
        assert!(header, "{bad}");
        let outcome: Vec<_> = seen
            .iter()
            .map(|(id, out)| (id.as_str(), out.is_ok()))
            .collect();
        assert_eq!(outcome, [("a", true), ("b", false), ("c", true)], "{bad}");
    }
}

#[test]
fn pickles_are_refused_by_name() {
    let logprobs = array(vec![
        "<i4".into(),
        array(vec![3.into()]),
        Value::Ext(2, vec![1]),
    ]);
    let bad = array(vec!["b".into(), array(vec![]), array(vec![logprobs])]);
    let (seen, _) = decode_each(&around(bad));
    assert_eq!(
        seen[1].1,
        Err(DecodeError::Extension {
            field: "new_logprobs",
            code: 2
        })
    );
}

/// Slots 3 to 18 in their usual form are taken as one: any other form means the same, or is looked at.
#[test]
fn an_output_of_tokens_alone_reads_the_same_in_every_form() {
    let output = |length: usize, nans: Value| {
        let mut output = vec![Value::Nil; length];
        output[0] = "a".into();
        output[1] = array(vec![5.into()]);
        output[13] = nans;
        let message = array(vec![0.into(), array(vec![array(output)])]);
        let message = EngineCoreOutputs::decode(&pack(&message)).expect("sound");
        message.outputs[0].output.clone()
    };
    let usual = output(19, 0.into());
    assert_eq!(usual.new_token_ids[..], [5]);
    assert_eq!(usual.rare, None);
    for other in [
        output(19, Value::Nil),
        output(20, 0.into()),
        output(14, 0.into()),
    ] {
        assert_eq!(other, usual);
    }
    let nans = output(19, 2.into()).rare.expect("rare");
    assert_eq!(nans.num_nans_in_logits, 2);
}

#[test]
fn longer_messages_and_missing_keys_are_accepted() {
    let stats = Value::Map(vec![
        ("num_running_reqs".into(), 3.into()),
        ("future".into(), array(vec![1.into()])),
        (7.into(), "no string key".into()),
    ]);
    let mut output = vec![Value::Nil; 25];
    output[0] = "a".into();
    output[1] = array(vec![70_000.into()]);
    let outputs = array(vec![array(output)]);
    let mut slots = vec![1.into(), outputs, stats, 2.into()];
    slots.resize(10, Value::Nil);
    slots.push("eleventh".into());
    let message = EngineCoreOutputs::decode(&pack(&array(slots))).expect("longer is fine");
    assert_eq!(message.outputs[0].output.new_token_ids[..], [70_000]);
    let stats = message.header.scheduler_stats.expect("attached");
    assert_eq!((stats.num_running_reqs, stats.num_waiting_reqs), (3, 0));
    assert_eq!(
        message.header.timestamp, 2.0,
        "an integer where a float is expected"
    );
}

#[test]
fn a_message_without_payload_and_an_empty_one_are_accepted() {
    for message in [
        array(vec![0.into(), array(vec![]), Value::Nil, 1.0.into()]),
        array(vec![]),
    ] {
        assert!(EngineCoreOutputs::decode(&pack(&message)).is_ok());
    }
}

#[test]
fn broken_statistics_cost_only_themselves() {
    let stats = Value::Map(vec![("num_running_reqs".into(), "three".into())]);
    let outputs = array(vec![array(vec!["a".into(), array(vec![1.into()])])]);
    let message = array(vec![0.into(), outputs, stats, 3.0.into()]);
    let message = EngineCoreOutputs::decode(&pack(&message)).expect("the rest is fine");
    assert_eq!(message.header.scheduler_stats, None);
    assert_eq!((message.outputs.len(), message.header.timestamp), (1, 3.0));
}

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

#[test]
fn what_an_engine_would_refuse_is_refused_with_field_and_limit() {
    type Change = fn(&mut SamplingParams);
    let cases: [(&str, Change); 13] = [
        ("presence_penalty", |p| p.presence_penalty = 2.1),
        ("frequency_penalty", |p| p.frequency_penalty = f64::NAN),
        ("repetition_penalty", |p| p.repetition_penalty = 0.0),
        ("temperature", |p| p.temperature = 2.5),
        ("top_p", |p| p.top_p = 0.0),
        ("top_k", |p| p.top_k = -2),
        ("min_p", |p| p.min_p = 1.5),
        ("max_tokens", |p| p.max_tokens = Some(0)),
        ("min_tokens", |p| p.min_tokens = 17),
        ("logprobs", |p| p.logprobs = Some(-2)),
        ("stop", |p| p.stop = vec![String::new()]),
        ("structured_outputs", |p| {
            p.structured_outputs = Some(StructuredOutputs::default())
        }),
        ("structured_outputs.json", |p| {
            let json = Some(Value::Boolean(true));
            p.structured_outputs = Some(StructuredOutputs {
                json,
                ..Default::default()
            });
        }),
    ];
    assert_eq!(SamplingParams::default().validate(), Ok(()));
    for (field, change) in cases {
        let mut params = SamplingParams::default();
        change(&mut params);
        assert_eq!(params.validate().map_err(|error| error.field), Err(field));
    }
}

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
