// SPDX-License-Identifier: Apache-2.0

//! Outputs in every form that an engine writes.

use bytes::Bytes;
use rmpv::Value;
use vllm_engine_client::protocol::*;

use crate::messages::*;

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
fn an_output_of_one_token_is_read_whatever_its_width_and_its_id() {
    let output = |id: &str, token| EngineCoreOutput {
        request_id: id.to_owned(),
        output: EngineOutput {
            new_token_ids: [token].into_iter().collect(),
            ..EngineOutput::default()
        },
    };
    let long = "x".repeat(40);
    let tokens = [0, 127, 128, 65_535, 65_536, u32::MAX];
    let outputs: Vec<_> = tokens
        .iter()
        .flat_map(|&token| ["", "r-1", &long].map(|id| output(id, token)))
        .collect();
    let mut message = EngineCoreOutputs {
        outputs,
        ..EngineCoreOutputs::default()
    };
    // Almost plain: read slot by slot.
    let rare = RareOutput {
        num_nans_in_logits: 1,
        ..RareOutput::default()
    };
    message.outputs[1].output.rare = Some(Box::new(rare));
    let decoded = EngineCoreOutputs::decode(&Frames::from(message.encode()[0].to_vec()));
    assert_eq!(decoded, Ok(message));
}
