// SPDX-License-Identifier: Apache-2.0

//! Which engine gets the next request.

/// Index of the least loaded engine, `None` when none takes requests.
///
/// `loads` has one entry per engine, `None` where it takes none. Of equal ones the first from
/// `start` on wins, so that a caller who advances `start` deals ties out in turn.
pub fn least_loaded(
    loads: impl Fn(usize) -> Option<u64>,
    count: usize,
    start: usize,
) -> Option<usize> {
    (0..count)
        .map(|at| (start.wrapping_add(at)) % count)
        .filter_map(|engine| loads(engine).map(|load| (load, engine)))
        .min_by_key(|(load, _)| *load)
        .map(|(_, engine)| engine)
}

#[cfg(test)]
mod tests {
    use super::least_loaded;

    #[test]
    fn ties_rotate_and_absent_engines_are_passed_over() {
        let loads = [Some(2), Some(1), None, Some(1)];
        let pick = |start| least_loaded(|at| loads[at], loads.len(), start);
        assert_eq!([0, 1, 2, 3].map(pick), [Some(1), Some(1), Some(3), Some(3)]);
        assert_eq!(least_loaded(|_| None, 3, 1), None);
        assert_eq!(least_loaded(|_| Some(0), 0, 0), None);
    }
}
