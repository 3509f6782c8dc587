// SPDX-License-Identifier: Apache-2.0

//! Orders to engines that run, one a line: what goes wrong next, and what they have seen so far.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, Write};
use std::sync::Mutex;

use crate::Counters;
use crate::fault::FaultKind;

/// What an engine does in its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It misbehaves.
    Fault(FaultKind),
    /// It ends every request that runs, each with one more token.
    Finish,
}

/// Orders that wait for the next step of an engine.
#[derive(Debug, Default)]
pub struct Orders(Mutex<BTreeMap<u32, VecDeque<Order>>>);

impl Orders {
    /// Adds an order for an engine; one is carried out per step.
    pub fn give(&self, engine: u32, order: Order) {
        self.waiting().entry(engine).or_default().push_back(order);
    }

    pub(crate) fn take(&self, engine: u32) -> Option<Order> {
        self.waiting().get_mut(&engine)?.pop_front()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, VecDeque<Order>>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads lines until the end: `fault KIND ENGINE`, `finish ENGINE`, or `counters`. Each is
    /// answered by one line: `ok`, the counters as a JSON object, or what is wrong with it.
    pub fn serve(
        &self,
        counters: &Counters,
        lines: impl BufRead,
        mut answers: impl Write,
    ) -> std::io::Result<()> {
        for line in lines.lines() {
            let answer = self.obey(&line?, counters).unwrap_or_else(|wrong| wrong);
            writeln!(answers, "{answer}")?;
            answers.flush()?;
        }
        Ok(())
    }

    fn obey(&self, line: &str, counters: &Counters) -> Result<String, String> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["counters"] => Ok(counters.to_json()),
            ["fault", kind, engine] => {
                let kind = kind.parse().map_err(|error| format!("error: {error}"))?;
                self.note(engine, Order::Fault(kind))
            }
            ["finish", engine] => self.note(engine, Order::Finish),
            _ => Err(format!(
                "error: {line:?} is no order; known: fault KIND ENGINE, finish ENGINE, counters"
            )),
        }
    }

    fn note(&self, engine: &str, order: Order) -> Result<String, String> {
        let index = engine
            .parse()
            .map_err(|_| format!("error: engine {engine:?} is no number"))?;
        self.give(index, order);
        Ok("ok".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_obeyed_in_turn_and_mistakes_are_told() {
        let orders = Orders::default();
        let lines = "fault tenth 3\nfinish 3\ncounters\nfault burn 3\nfault die x\nsing\n";
        let mut answers = Vec::new();
        orders
            .serve(&Counters::default(), lines.as_bytes(), &mut answers)
            .expect("memory takes everything");
        let answers = String::from_utf8(answers).expect("text");
        let answers: Vec<_> = answers.lines().collect();
        assert_eq!(answers[..2], ["ok", "ok"]);
        assert!(
            answers[2].starts_with("{\"added\":0,") && answers[2].ends_with("\"calls\":0}"),
            "{answers:?}"
        );
        assert!(answers[3].contains("burn"), "{answers:?}");
        assert!(answers[4].contains("\"x\""), "{answers:?}");
        assert!(answers[5].contains("sing"), "{answers:?}");
        assert_eq!(orders.take(0), None);
        assert_eq!(orders.take(3), Some(Order::Fault(FaultKind::Tenth)));
        assert_eq!(orders.take(3), Some(Order::Finish));
        assert_eq!(orders.take(3), None);
    }
}
