// SPDX-License-Identifier: Apache-2.0

//! Bucket bounds, equal to those of vLLM's Python side so that dashboards keep working.

/// Seconds to the first token.
pub const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
/// Seconds between tokens.
pub const BETWEEN_TOKENS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
/// Seconds of a request or one of its phases.
pub const REQUEST: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
/// Tokens of an engine step.
pub const STEP_TOKENS: &[f64; 13] = &[
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
];
/// Choices of a request.
pub const CHOICES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];
/// Seconds of an HTTP request, by handler.
pub const HTTP: &[f64] = &[0.1, 0.5, 1.0];
/// Seconds of the frontend's own steps (not in upstream).
pub const STEP: &[f64] = &[
    0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0,
];

/// 1, 2, 5, 10, 20, 50, ... up to and including `max`.
pub fn one_two_five(max: u64) -> Vec<f64> {
    let decades = (0..19).map(|exponent| 10u64.pow(exponent));
    decades
        .flat_map(|decade| [1, 2, 5].map(|digit| digit * u128::from(decade)))
        .take_while(|&bound| bound <= u128::from(max))
        .map(|bound| bound as f64)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_two_five_ends_at_the_maximum() {
        assert_eq!(
            super::one_two_five(100),
            [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
        );
        assert_eq!(super::one_two_five(99), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
    }
}
