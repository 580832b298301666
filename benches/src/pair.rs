use std::cell::RefCell;
use std::time::Duration;

use crate::{median, quantile};

/// Shorter samples say little.
const SHORTEST: Duration = Duration::from_millis(10);

/// The same work measured twice in each sample: by the backend alone, and by the replica on it.
///
/// Criterion says how long each takes; this says what matters between machines, the ratio of their
/// rates.
#[derive(Debug, Default)]
pub struct Pair {
    samples: RefCell<Vec<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    iterations: u64,
    raw: Duration,
    ours: Duration,
}

impl Pair {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a sample: how long so many iterations took each.
    pub fn note(&self, iterations: u64, raw: Duration, ours: Duration) {
        self.samples.borrow_mut().push(Sample {
            iterations,
            raw,
            ours,
        });
    }

    /// Prints the median rates of both, and the median of the samples' ratios with its quartiles.
    pub fn report(&self, name: &str) {
        let mut samples = self.samples.borrow().clone();
        let is_long = |sample: &Sample| sample.raw.min(sample.ours) >= SHORTEST;
        if samples.iter().any(is_long) {
            samples.retain(is_long);
        }
        if samples.is_empty() {
            return;
        }
        let each = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
        let ours = each(|sample| sample.iterations as f64 / sample.ours.as_secs_f64());
        let raw = each(|sample| sample.iterations as f64 / sample.raw.as_secs_f64());
        let ratio = each(|sample| sample.raw.div_duration_f64(sample.ours));
        println!(
            "ratio {name}: ours {:.0}/s, raw {:.0}/s, ours/raw {:.2} ({:.2}–{:.2})",
            median(ours),
            median(raw),
            median(ratio.clone()),
            quantile(ratio.clone(), 0.25),
            quantile(ratio, 0.75),
        );
    }
}
