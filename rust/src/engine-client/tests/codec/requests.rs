// SPDX-License-Identifier: Apache-2.0

//! Requests as the engine reads them.

use bytes::Bytes;
use rmpv::Value;
use vllm_engine_client::protocol::*;

use crate::messages::*;

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
