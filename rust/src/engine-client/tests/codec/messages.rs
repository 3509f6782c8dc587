// SPDX-License-Identifier: Apache-2.0

//! Messages of the specification, and messages that no encoder of ours would write.

use rmpv::Value;
use vllm_engine_client::protocol::*;

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex digits only") as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

pub fn frames(payload: Vec<u8>) -> Frames {
    Frames::from(payload)
}

/// MessagePack of a value, to build messages no encoder of ours would write.
pub fn pack(value: &Value) -> Frames {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("writing to memory cannot fail");
    frames(out)
}

pub fn array(items: Vec<Value>) -> Value {
    Value::Array(items)
}

pub type Decoded = (String, Result<EngineOutput, DecodeError>);

/// Every output, and whether the message as a whole could be read.
pub fn decode_each(frames: &Frames) -> (Vec<Decoded>, bool) {
    let mut seen = Vec::new();
    let header = decode_outputs(frames, |id, output| {
        seen.push((String::from_utf8_lossy(id).into_owned(), output));
    });
    (seen, header.is_ok())
}

pub const ADD: &str = "
    dc 00 16 a3 72 2d 31 93 01 02 cd 01 2c c0 de 00 07 ab 74 65 6d 70 65 72 61 74 75 72 65 cb 00 00 00 00 00 00 00 00
    a4 73 74 6f 70 90 ae 73 74 6f 70 5f 74 6f 6b 65 6e 5f 69 64 73 90 aa 6d 61 78 5f 74 6f 6b 65 6e 73 04
    ab 6f 75 74 70 75 74 5f 6b 69 6e 64 01 a9 62 61 64 5f 77 6f 72 64 73 90
    b9 73 6b 69 70 5f 72 65 61 64 69 6e 67 5f 70 72 65 66 69 78 5f 63 61 63 68 65 c2
    c0 cb 3f f8 00 00 00 00 00 00 c0 c0 c0 c0 c0 00 00 00 c0 c2 a1 72 c0 c0 c2 c0 c0";

pub const FINAL: &str = "
    99 00 91 dc 00 13 a3 72 2d 31 91 02 c0 c0 c0 00 c0 c0 c0 c0 c0 c0 c0 00 c0 c0 c0 c0 c0
    c0 cb 40 25 00 00 00 00 00 00 c0 91 a3 72 2d 31 c0 c0 a7 64 65 66 61 75 6c 74";

pub fn add_request() -> EngineCoreRequest {
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

pub fn feature(small: Tensor, large: Tensor) -> MmFeature {
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

pub fn every_sampling_field() -> SamplingParams {
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

pub fn prompt_logprobs() -> EngineCoreOutputs {
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
