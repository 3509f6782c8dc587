// SPDX-License-Identifier: Apache-2.0

//! Which engine gets the next request: the one with the shortest queue.

/// How much an engine has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests of this frontend that have not ended, those just admitted included.
    pub own: usize,
    /// Requests of other frontends that run or wait, by the last statistics.
    pub others: usize,
}

/// The least loaded engine and its load, `None` when none takes requests.
///
/// `loads` has one entry per engine, `None` where it takes none. Of equal ones the first from
/// `start` on wins, so that a caller who advances `start` deals ties out in turn.
pub fn least_loaded(
    loads: impl Fn(usize) -> Option<Load>,
    count: usize,
    start: usize,
) -> Option<(usize, Load)> {
    (0..count)
        .map(|at| (start.wrapping_add(at)) % count)
        .filter_map(|engine| loads(engine).map(|load| (engine, load)))
        .min_by_key(|(_, load)| load.own + load.others)
}

#[cfg(test)]
mod tests {
    use super::{Load, least_loaded};

    fn load(own: usize, others: usize) -> Option<Load> {
        Some(Load { own, others })
    }

    #[test]
    fn ties_rotate_and_absent_engines_are_passed_over() {
        let loads = [load(1, 1), load(0, 1), None, load(1, 0)];
        let pick = |start| least_loaded(|at| loads[at], loads.len(), start).map(|(at, _)| at);
        assert_eq!([0, 1, 2, 3].map(pick), [Some(1), Some(1), Some(3), Some(3)]);
        assert_eq!(least_loaded(|_| None, 3, 1), None);
        assert_eq!(least_loaded(|_| load(0, 0), 0, 0), None);
    }
}
