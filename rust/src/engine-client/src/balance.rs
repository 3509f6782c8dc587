// SPDX-License-Identifier: Apache-2.0

//! Which engine gets the next request: the one with the shortest queue, unless its prompt has a home.

/// How much an engine has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests of this frontend that have not ended, those just admitted included.
    pub own: usize,
    /// Requests of other frontends that run or wait, by the last statistics.
    pub others: usize,
    /// What its full KV cache weighs, in requests.
    pub pressure: usize,
}

impl Load {
    pub(crate) fn total(&self) -> usize {
        // Statistics may hold any number.
        self.own
            .saturating_add(self.others)
            .saturating_add(self.pressure)
    }
}

/// Requests that wait because the KV cache fills up weigh more than others, as in upstream's
/// balancing: up to three more each as its usage grows from half to full.
pub(crate) fn pressure(waiting: u64, kv_cache_usage: f64) -> usize {
    let above_half = (kv_cache_usage - 0.5).clamp(0.0, 0.5);
    (waiting as f64 * 6.0 * above_half) as usize
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
        .min_by_key(|(_, load)| load.total())
}

#[cfg(test)]
mod tests {
    use super::{Load, least_loaded, pressure};

    fn load(own: usize, others: usize) -> Option<Load> {
        Some(Load {
            own,
            others,
            pressure: 0,
        })
    }

    #[test]
    fn ties_rotate_and_absent_engines_are_passed_over() {
        let loads = [load(1, 1), load(0, 1), None, load(1, 0)];
        let pick = |start| least_loaded(|at| loads[at], loads.len(), start).map(|(at, _)| at);
        assert_eq!([0, 1, 2, 3].map(pick), [Some(1), Some(1), Some(3), Some(3)]);
        assert_eq!(least_loaded(|_| None, 3, 1), None);
        assert_eq!(least_loaded(|_| load(0, 0), 0, 0), None);
    }

    #[test]
    fn a_full_cache_weighs_only_where_requests_wait_for_it() {
        assert_eq!(pressure(0, 1.0), 0);
        assert_eq!(
            [0.0, 0.5, 0.75, 1.0].map(|usage| pressure(4, usage)),
            [0, 0, 6, 12]
        );
        assert_eq!(
            [-1.0, 7.0, f64::NAN].map(|usage| pressure(4, usage)),
            [0, 12, 0]
        );
        let full = Load {
            own: 2,
            others: 0,
            pressure: 3,
        };
        let loads = [Some(full), load(3, 1)];
        assert_eq!(
            least_loaded(|at| loads[at], 2, 0).map(|(at, _)| at),
            Some(1)
        );
    }
}
