// SPDX-License-Identifier: Apache-2.0

//! What is broken in a message fails alone.

use rmpv::Value;
use vllm_engine_client::protocol::*;

use crate::messages::*;

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

#[test]
fn broken_statistics_cost_only_themselves() {
    let stats = Value::Map(vec![("num_running_reqs".into(), "three".into())]);
    let outputs = array(vec![array(vec!["a".into(), array(vec![1.into()])])]);
    let message = array(vec![0.into(), outputs, stats, 3.0.into()]);
    let message = EngineCoreOutputs::decode(&pack(&message)).expect("the rest is fine");
    assert_eq!(message.header.scheduler_stats, None);
    assert_eq!((message.outputs.len(), message.header.timestamp), (1, 3.0));
}
