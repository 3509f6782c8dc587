// SPDX-License-Identifier: Apache-2.0

//! Misbehaviour on demand: `KIND@STEP`.

use std::str::FromStr;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The engine ends without a word.
    Die,
    /// The engine announces its death and ends.
    Sentinel,
    /// A message that is no MessagePack goes before the step's.
    Garbage,
    /// The step's message is cut in half.
    Truncated,
    /// The first output of the step has an unknown finish reason.
    BadFinish,
    /// The first output of the step has a string for its tokens.
    WrongType,
    /// The step's message has a tenth element.
    Tenth,
    /// The statistics lack a key.
    MissingStats,
    /// A message without payload goes before the step's.
    Empty,
    /// From this step on the engine neither reads nor writes.
    Silent,
    /// The engine does nothing until a request is aborted, then goes on.
    Stall,
    /// The engine closes its sockets, then connects and registers again, its requests lost.
    Disconnect,
}

const KINDS: [(&str, FaultKind); 12] = [
    ("die", FaultKind::Die),
    ("sentinel", FaultKind::Sentinel),
    ("garbage", FaultKind::Garbage),
    ("truncated", FaultKind::Truncated),
    ("bad-finish", FaultKind::BadFinish),
    ("wrong-type", FaultKind::WrongType),
    ("tenth", FaultKind::Tenth),
    ("missing-stats", FaultKind::MissingStats),
    ("empty", FaultKind::Empty),
    ("silent", FaultKind::Silent),
    ("stall", FaultKind::Stall),
    ("disconnect", FaultKind::Disconnect),
];

/// A fault and the step (from 1) it happens in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// When.
    pub step: u64,
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = KINDS
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, kind)| *kind);
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        known.ok_or_else(|| format!("unknown fault {text:?}; known: {}", names.join(", ")))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, step) = text.split_once('@').unwrap_or((text, "1"));
        let kind = kind.parse()?;
        let step = step
            .parse()
            .map_err(|_| format!("step {step:?} is no number"))?;
        Ok(Self { kind, step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_kind_and_a_step() {
        assert_eq!(
            "die@7".parse(),
            Ok(Fault {
                kind: FaultKind::Die,
                step: 7
            })
        );
        assert_eq!(
            "silent".parse(),
            Ok(Fault {
                kind: FaultKind::Silent,
                step: 1
            })
        );
        let error = "burn@1".parse::<Fault>().expect_err("no such fault");
        assert!(
            error.contains("burn") && error.contains("disconnect"),
            "{error}"
        );
        assert!("die@x".parse::<Fault>().is_err());
    }
}
