// SPDX-License-Identifier: Apache-2.0

//! The Prometheus text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::Write as _;

use crate::cell::Histogram;

/// Label pairs of a series.
pub type Labels<'a> = [(&'a str, &'a str)];

/// A page being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Starts a family.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: &Labels<'_>, value: f64) {
        self.text.push_str(name);
        self.labels(labels, None);
        self.value(value);
    }

    /// All series of a histogram that is the sum of several with equal bounds.
    pub fn histogram(&mut self, name: &str, labels: &Labels<'_>, parts: &[&Histogram]) {
        let Some(first) = parts.first() else { return };
        let mut counts: Vec<_> = parts.iter().map(|part| part.counts()).collect();
        let added = || Some(counts.iter_mut().filter_map(Iterator::next).sum());
        let sum = parts.iter().map(|part| part.sum()).sum();
        self.buckets(name, labels, first.bounds(), std::iter::from_fn(added), sum);
    }

    /// All series of a histogram: `counts` are not cumulative, one per bound and one for everything above.
    pub fn buckets(
        &mut self,
        name: &str,
        labels: &Labels<'_>,
        bounds: &[f64],
        counts: impl Iterator<Item = u64>,
        sum: f64,
    ) {
        let mut total = 0;
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(counts) {
            total += count;
            let _ = write!(self.text, "{name}_bucket");
            self.labels(labels, Some(bound));
            self.value(total as f64);
        }
        self.sample(&format!("{name}_count"), labels, total as f64);
        self.sample(&format!("{name}_sum"), labels, sum);
    }

    /// The page's text.
    pub fn finish(self) -> String {
        self.text
    }

    fn labels(&mut self, labels: &Labels<'_>, bound: Option<f64>) {
        let bound = bound.map(number);
        let pairs = labels
            .iter()
            .copied()
            .chain(bound.iter().map(|b| ("le", b.as_str())));
        let mut open = '{';
        for (name, value) in pairs {
            let _ = write!(self.text, "{open}{name}=\"{}\"", escape(value));
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
    }

    fn value(&mut self, value: f64) {
        let _ = writeln!(self.text, " {}", number(value));
    }
}

/// Floats as Python writes them: `1.0`, `+Inf`.
fn number(value: f64) -> String {
    match value {
        v if v == f64::INFINITY => "+Inf".to_owned(),
        v => format!("{v:?}"),
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_over_its_parts() {
        let (a, b) = (Histogram::new(&[1.0]), Histogram::new(&[1.0]));
        a.observe(0.5);
        b.observe(3.0);
        let mut page = Page::default();
        page.histogram("h", &[("m", "x\"y")], &[&a, &b]);
        assert_eq!(
            page.finish(),
            "h_bucket{m=\"x\\\"y\",le=\"1.0\"} 1.0\nh_bucket{m=\"x\\\"y\",le=\"+Inf\"} 2.0\nh_count{m=\"x\\\"y\"} 2.0\nh_sum{m=\"x\\\"y\"} 3.5\n"
        );
    }

    #[test]
    fn a_sample_without_labels_has_no_braces() {
        let mut page = Page::default();
        page.sample("up", &[], 1.0);
        assert_eq!(page.finish(), "up 1.0\n");
    }
}
