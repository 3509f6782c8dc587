// SPDX-License-Identifier: Apache-2.0

//! The golden vectors that both languages read (`tests/wire/README.md` at the repository's root).
//!
//! A message is decoded, encoded again, and what our encoder wrote is compared with the vector's
//! value by field name: that checks both directions. Fields at their default may be on either side.

use std::path::PathBuf;

use bytes::Bytes;
use rmpv::Value as Wire;
use serde_json::{Map, Value, json};
use vllm_engine_client::protocol::*;

fn wire_folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/wire"))
}

fn read_json(name: &str) -> Value {
    let path = wire_folder().join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("the vectors are JSON")
}

struct Case {
    name: String,
    kind: String,
    frames: Vec<Bytes>,
    json: Value,
}

fn cases(file: &str) -> Vec<Case> {
    let file = read_json(&format!("golden/{file}.json"));
    let case = |json: &Value| {
        let text = |key: &str| json[key].as_str().expect("a string").to_owned();
        let frames = json["frames"].as_array().expect("frames").iter();
        let frames = frames
            .map(|frame| unhex(frame.as_str().expect("hex")).into())
            .collect();
        Case {
            name: text("name"),
            kind: text("kind"),
            frames,
            json: json.clone(),
        }
    };
    file.as_array().expect("a list").iter().map(case).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Names of an array-like struct's slots, with what their content is.
enum Shape {
    Plain,
    Slots(&'static [(&'static str, &'static Shape)]),
    Each(&'static Shape),
}

const P: &Shape = &Shape::Plain;
const REQUEST: &Shape = &Shape::Slots(&[
    ("request_id", P),
    ("prompt_token_ids", P),
    ("mm_features", P),
    ("sampling_params", P),
    ("pooling_params", POOLING),
    ("arrival_time", P),
    ("lora_request", LORA),
    ("cache_salt", P),
    ("data_parallel_rank", P),
    ("prompt_embeds", P),
    ("prompt_is_token_ids", P),
    ("client_index", P),
    ("current_wave", P),
    ("priority", P),
    ("trace_headers", P),
    ("resumable", P),
    ("external_req_id", P),
    ("reasoning_ended", P),
    ("reasoning_parser_kwargs", P),
    ("abort_immediately", P),
    ("session_id", P),
    ("kv_hints", P),
]);
const POOLING: &Shape = &Shape::Slots(&[
    ("use_activation", P),
    ("dimensions", P),
    ("step_tag_id", P),
    ("returned_token_ids", P),
    ("task", P),
    ("requires_token_ids", P),
    ("skip_reading_prefix_cache", P),
    ("late_interaction_params", P),
    ("extra_kwargs", P),
    ("pooling_output_kind", P),
    ("late_chunking_params", P),
]);
const LORA: &Shape = &Shape::Slots(&[
    ("lora_name", P),
    ("lora_int_id", P),
    ("lora_path", P),
    ("base_model_name", P),
    ("load_inplace", P),
    ("is_3d_lora_weight", P),
]);
const OUTPUTS: &Shape = &Shape::Slots(&[
    ("engine_index", P),
    ("outputs", &Shape::Each(OUTPUT)),
    ("scheduler_stats", P),
    ("timestamp", P),
    ("utility_output", UTILITY_OUTPUT),
    ("finished_requests", P),
    ("wave_complete", P),
    ("start_wave", P),
    ("weight_version", P),
]);
const OUTPUT: &Shape = &Shape::Slots(&[
    ("request_id", P),
    ("new_token_ids", P),
    ("new_logprobs", LISTS),
    ("new_prompt_logprobs_tensors", TENSORS),
    ("pooling_output", P),
    ("finish_reason", P),
    ("stop_reason", P),
    ("events", P),
    ("kv_transfer_params", P),
    ("ec_transfer_params", P),
    ("trace_headers", P),
    ("prefill_stats", P),
    ("routed_experts", P),
    ("num_nans_in_logits", P),
    ("mm_cache_miss_hashes", P),
    ("new_sampling_mask", MASK),
    ("spec_decode_metrics", P),
    ("prompt_token_id_logprobs", P),
    ("error", P),
]);
const LISTS: &Shape = &Shape::Slots(&[
    ("token_ids", P),
    ("logprobs", P),
    ("sampled_token_ranks", P),
    ("cu_num_generated_tokens", P),
]);
const TENSORS: &Shape = &Shape::Slots(&[
    ("token_ids", P),
    ("logprobs", P),
    ("selected_token_ranks", P),
    ("cu_num_generated_tokens", P),
    ("cu_num_generated_tokens_tensor", P),
]);
const MASK: &Shape = &Shape::Slots(&[
    ("token_ids", P),
    ("offsets", P),
    ("cu_num_generated_tokens", P),
]);
const UTILITY_OUTPUT: &Shape = &Shape::Slots(&[
    ("call_id", P),
    ("failure_message", P),
    ("result", &Shape::Slots(&[("type_info", P), ("value", P)])),
]);
const UTILITY: &Shape = &Shape::Slots(&[
    ("client_index", P),
    ("call_id", P),
    ("method", P),
    ("args", P),
]);
const WAVE: &Shape = &Shape::Slots(&[("wave", P), ("exclude_engine_index", P)]);
const COUNTS: &Shape = &Shape::Slots(&[("waiting", P), ("running", P), ("kv_cache_usage", P)]);
const COORDINATOR: &Shape = &Shape::Slots(&[
    ("counts", &Shape::Each(COUNTS)),
    ("current_wave", P),
    ("engines_running", P),
]);

/// What our encoder wrote, in the form of the vectors.
fn named(wire: &Wire, shape: &Shape, frames: &[Bytes]) -> Value {
    match (shape, wire) {
        (Shape::Slots(names), Wire::Array(items)) => {
            assert!(
                items.len() <= names.len(),
                "more slots than the protocol has"
            );
            let named_items = items
                .iter()
                .zip(*names)
                .map(|(item, (name, inner))| ((*name).to_owned(), named(item, inner, frames)));
            Value::Object(named_items.collect())
        }
        (Shape::Each(inner), Wire::Array(items)) => items
            .iter()
            .map(|item| named(item, inner, frames))
            .collect(),
        (_, wire) => plain(wire, frames),
    }
}

fn plain(wire: &Wire, frames: &[Bytes]) -> Value {
    match wire {
        Wire::Nil => Value::Null,
        Wire::Boolean(value) => json!(value),
        Wire::Integer(value) => match value.as_u64() {
            Some(value) => json!(value),
            None => json!(value.as_i64()),
        },
        // JSON has no NaN, and the vectors have none outside arrays.
        Wire::F32(value) => json!(value),
        Wire::F64(value) => json!(value),
        Wire::String(text) => json!(text.as_str().expect("UTF-8")),
        Wire::Array(items) => tensor(items, frames)
            .unwrap_or_else(|| items.iter().map(|item| plain(item, frames)).collect()),
        Wire::Map(entries) if entries.iter().all(|(key, _)| key.is_str()) => {
            let entries = entries.iter().map(|(key, value)| {
                (
                    key.as_str().expect("checked").to_owned(),
                    plain(value, frames),
                )
            });
            Value::Object(entries.collect())
        }
        Wire::Map(entries) => {
            let pairs = entries
                .iter()
                .map(|(key, value)| json!([plain(key, frames), plain(value, frames)]));
            json!({"$map": pairs.collect::<Vec<_>>()})
        }
        other => panic!("{other} outside an array"),
    }
}

fn tensor(items: &[Wire], frames: &[Bytes]) -> Option<Value> {
    let [Wire::String(dtype), Wire::Array(shape), data] = items else {
        return None;
    };
    let data = match data {
        Wire::Ext(3, data) => data.clone(),
        Wire::Integer(index) => frames.get(index.as_u64()? as usize)?.to_vec(),
        _ => return None,
    };
    let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    let shape: Value = shape.iter().map(|dim| plain(dim, frames)).collect();
    Some(json!({"$array": {"dtype": dtype.as_str()?, "shape": shape, "data": data}}))
}

/// Values that mean the same as a missing key. What is not listed has an empty or zero default.
fn is_default(key: &str, value: &Value) -> bool {
    let special = match key {
        "n" | "temperature" | "repetition_penalty" | "top_p" => Some(1.0),
        "world_size" | "data_parallel_size" | "tensor_parallel_size" => Some(1.0),
        "pipeline_parallel_size" | "decode_context_parallel_size" => Some(1.0),
        "max_tokens" => Some(16.0),
        "pooling_output_kind" => Some(2.0),
        _ => None,
    };
    if let Some(default) = special {
        return value.as_f64() == Some(default);
    }
    let true_by_default = [
        "detokenize",
        "skip_special_tokens",
        "spaces_between_special_tokens",
    ]
    .contains(&key);
    match value {
        Value::Null => true,
        Value::Bool(flag) => *flag == true_by_default,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.iter().all(|(key, value)| is_default(key, value)),
    }
}

fn elements(array: &Value) -> (Value, Vec<i128>) {
    let dtype = array["dtype"]
        .as_str()
        .expect("a dtype")
        .trim_start_matches(['<', '|']);
    let bytes = unhex(array["data"].as_str().expect("hex"));
    let wide = ["i8", "int64"].contains(&dtype);
    let narrow = ["i4", "int32"].contains(&dtype);
    let values = match (wide, narrow) {
        (true, _) => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b).into())
            .collect(),
        (_, true) => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b).into())
            .collect(),
        _ => bytes.iter().map(|byte| i128::from(*byte)).collect(),
    };
    (array["shape"].clone(), values)
}

fn compare(path: &str, ours: &Value, golden: &Value) {
    match (ours, golden) {
        (Value::Object(a), Value::Object(b)) if a.contains_key("$array") => {
            let ours = elements(&a["$array"]);
            let array = b
                .get("$array")
                .unwrap_or_else(|| panic!("{path}: no array in the vector"));
            assert_eq!(ours, elements(array), "{path}");
        }
        (Value::Object(a), Value::Object(b)) => compare_objects(path, a, b),
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{path}");
            for (at, (ours, golden)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{at}]"), ours, golden);
            }
        }
        (Value::Number(a), Value::Number(b)) if a != b => {
            assert_eq!(a.as_f64(), b.as_f64(), "{path}");
        }
        (a, b) => assert_eq!(a, b, "{path}"),
    }
}

fn compare_objects(path: &str, ours: &Map<String, Value>, golden: &Map<String, Value>) {
    let keys: std::collections::BTreeSet<&String> = ours.keys().chain(golden.keys()).collect();
    for key in keys {
        let path = format!("{path}.{key}");
        match (ours.get(key), golden.get(key)) {
            (Some(ours), Some(golden)) => compare(&path, ours, golden),
            (Some(only), None) | (None, Some(only)) => {
                assert!(is_default(key, only), "{path}: {only} on one side only");
            }
            (None, None) => {}
        }
    }
}

/// What was read, written again.
fn rewrite(case: &Case) -> Result<(Vec<Bytes>, &'static Shape, &'static str), DecodeError> {
    let one = |payload: Vec<u8>| vec![Bytes::from(payload)];
    let payload = case.frames.first().cloned().unwrap_or_default();
    Ok(match case.kind.as_str() {
        "request" => return rewrite_request(case.frames.clone()),
        "outputs" => (rewrite_outputs(case)?, OUTPUTS, ""),
        "hello" => (one(HandshakeMessage::decode(&payload)?.encode()), P, ""),
        "init" => (one(InitMessage::decode(&payload)?.encode()), P, ""),
        "registration" => (one(ReadyResponse::decode(&payload)?.encode()), P, ""),
        "coordinator_update" => (
            one(CoordinatorUpdate::decode(&payload)?.encode()),
            COORDINATOR,
            "",
        ),
        other => panic!("unknown kind {other}"),
    })
}

fn rewrite_request(
    frames: Vec<Bytes>,
) -> Result<(Vec<Bytes>, &'static Shape, &'static str), DecodeError> {
    let one = |payload: Vec<u8>| vec![Bytes::from(payload)];
    Ok(match InputMessage::decode(frames)? {
        InputMessage::Add(request) => {
            let params = request.sampling_params.as_ref();
            if params.is_some_and(|params| params.validate().is_err()) {
                return Err(DecodeError::Message("refused by validation"));
            }
            (request.encode(), REQUEST, "ADD")
        }
        InputMessage::Abort(ids) => {
            let ids = Wire::Array(ids.into_iter().map(Wire::from).collect());
            let mut payload = Vec::new();
            rmpv::encode::write_value(&mut payload, &ids).expect("memory");
            (one(payload), P, "ABORT")
        }
        InputMessage::StartDpWave(wave) => (one(wave.encode()), WAVE, "START_DP_WAVE"),
        InputMessage::Utility(call) => (one(call.encode()), UTILITY, "UTILITY"),
    })
}

fn rewrite_outputs(case: &Case) -> Result<Vec<Bytes>, DecodeError> {
    let frames = Frames::new(case.frames.clone());
    let (mut outputs, mut failed) = (Vec::new(), Vec::new());
    let header = decode_outputs(&frames, |id, output| {
        let request_id = String::from_utf8(id.to_vec()).expect("ids of the vectors are UTF-8");
        match output {
            Ok(output) => outputs.push(EngineCoreOutput { request_id, output }),
            Err(_) => failed.push(json!(request_id)),
        }
    })?;
    let expected = case.json.get("failed").cloned().unwrap_or(json!([]));
    assert_eq!(Value::Array(failed), expected, "{}", case.name);
    Ok(EngineCoreOutputs { header, outputs }.encode())
}

#[test]
fn good_messages_mean_the_same_in_both_languages() {
    let mut seen = 0;
    for case in ["requests", "outputs", "startup", "coordinator"]
        .into_iter()
        .flat_map(cases)
    {
        if case.kind == "death" {
            assert!(Frames::new(case.frames).is_death_sentinel());
            continue;
        }
        let (frames, shape, kind) =
            rewrite(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let wire = rmpv::decode::read_value(&mut frames[0].as_ref()).expect("our own bytes");
        let mut golden = &case.json["value"];
        if case.kind == "request" {
            assert_eq!(golden["type"], kind, "{}", case.name);
            golden = &golden["message"];
        }
        let golden = rename_pooling(golden);
        compare(&case.name, &named(&wire, shape, &frames), &golden);
        seen += 1;
    }
    assert!(seen >= 45, "only {seen} vectors found");
}

/// Pooling's `output_kind` has another default than sampling's.
fn rename_pooling(golden: &Value) -> Value {
    let mut golden = golden.clone();
    let params = golden
        .get_mut("pooling_params")
        .and_then(Value::as_object_mut);
    if let Some((params, kind)) = params.and_then(|p| p.remove("output_kind").map(|kind| (p, kind)))
    {
        params.insert("pooling_output_kind".to_owned(), kind);
    }
    golden
}

#[test]
fn broken_messages_are_refused_and_their_sender_is_known() {
    let mut seen = 0;
    for case in cases("broken") {
        assert!(rewrite(&case).is_err(), "{} was accepted", case.name);
        if case.kind == "request" {
            assert_eq!(
                recovered(&case.frames),
                case.json["recovered"],
                "{}",
                case.name
            );
        }
        seen += 1;
    }
    assert!(seen >= 75, "only {seen} vectors found");
}

fn recovered(frames: &[Bytes]) -> Value {
    let (Some(kind), Some(payload)) = (frames.first(), frames.get(1)) else {
        return Value::Null;
    };
    match kind.as_ref() {
        [0] => json!(request_id_of(payload)),
        [3] => utility_call_of(payload)
            .map_or(Value::Null, |(client, call)| json!([client, call as i64])),
        _ => Value::Null,
    }
}

#[test]
fn damaged_vectors_never_panic() {
    let files = ["requests", "outputs", "startup", "coordinator", "broken"];
    for case in files
        .into_iter()
        .flat_map(cases)
        .filter(|case| case.kind != "death")
    {
        let at = usize::from(case.kind == "request");
        let Some(payload) = case.frames.get(at).cloned() else {
            continue;
        };
        // Every byte of short messages; a spread of long ones.
        let stride = 1 + payload.len() / 200;
        for place in (0..payload.len()).step_by(stride) {
            for damage in [0x00, 0x7f, 0x90, 0xc1, 0xdd, 0xdf, 0xff] {
                let mut bytes = payload.to_vec();
                bytes[place] = damage;
                try_all(&case, at, bytes);
            }
            try_all(&case, at, payload[..place].to_vec());
        }
    }
}

fn try_all(case: &Case, at: usize, payload: Vec<u8>) {
    let mut frames = case.frames.clone();
    frames[at] = payload.into();
    let payload = frames[0].clone();
    match case.kind.as_str() {
        "request" => drop(rewrite_request(frames)),
        "outputs" => drop(EngineCoreOutputs::decode(&Frames::new(frames))),
        "hello" => drop(HandshakeMessage::decode(&payload)),
        "init" => drop(InitMessage::decode(&payload)),
        "registration" => drop(ReadyResponse::decode(&payload)),
        _ => drop(CoordinatorUpdate::decode(&payload)),
    }
}

type Change = fn(&mut SamplingParams, f64);

#[test]
fn limits_equal_the_shared_file() {
    let limits = read_json("limits.json");
    assert_eq!(
        limits["zero_copy_threshold_bytes"],
        limits::ZERO_COPY_THRESHOLD
    );
    assert_eq!(limits["greedy_below"], limits::GREEDY_EPSILON);
    assert_eq!(
        limits["logit_bias_clamp"]["maximum"].as_f64(),
        Some(limits::MAX_LOGIT_BIAS)
    );
    assert_eq!(
        limits["repetition_detection"]["maximum"],
        limits::MAX_PATTERN_SIZE
    );
    assert_eq!(
        limits["structured_outputs"]["backends"],
        json!(limits::BACKENDS)
    );
    let changes: [(&str, Change, f64); 11] = [
        ("presence_penalty", |p, v| p.presence_penalty = v, 1e-6),
        ("frequency_penalty", |p, v| p.frequency_penalty = v, 1e-6),
        ("repetition_penalty", |p, v| p.repetition_penalty = v, 1e-6),
        ("temperature", |p, v| p.temperature = v, 1e-6),
        ("top_p", |p, v| p.top_p = v, 1e-6),
        ("top_k", |p, v| p.top_k = v as i64, 1.0),
        ("min_p", |p, v| p.min_p = v, 1e-6),
        ("max_tokens", |p, v| p.max_tokens = Some(v as u64), 1.0),
        (
            "stream_interval",
            |p, v| p.stream_interval = Some(v as u64),
            1.0,
        ),
        ("logprobs", |p, v| p.logprobs = Some(v as i64), 1.0),
        (
            "prompt_logprobs",
            |p, v| p.prompt_logprobs = Some(v as i64),
            1.0,
        ),
    ];
    for (name, change, step) in changes {
        let rule = &limits["parameters"][name];
        assert!(rule.is_object(), "{name} left the shared file");
        for (key, outside) in [("minimum", -step), ("maximum", step)] {
            if let Some(bound) = rule[key].as_f64() {
                assert!(accepts(change, bound), "{name} = {bound}");
                assert!(
                    !accepts(change, bound + outside),
                    "{name} = {}",
                    bound + outside
                );
            }
        }
        if let Some(bound) = rule["exclusive_minimum"].as_f64() {
            assert!(!accepts(change, bound), "{name} = {bound}");
            assert!(accepts(change, bound + step), "{name} = {}", bound + step);
        }
    }
}

fn accepts(change: Change, value: f64) -> bool {
    let mut params = SamplingParams::default();
    change(&mut params, value);
    params.validate().is_ok()
}
