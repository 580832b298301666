use std::cell::RefCell;
use std::time::Duration;

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
        let rate = |took: Duration, sample: &Sample| sample.iterations as f64 / took.as_secs_f64();
        let ours = Sorted::of(samples.iter().map(|sample| rate(sample.ours, sample)));
        let raw = Sorted::of(samples.iter().map(|sample| rate(sample.raw, sample)));
        let ratio = Sorted::of(
            samples
                .iter()
                .map(|sample| sample.raw.as_secs_f64() / sample.ours.as_secs_f64()),
        );
        println!(
            "ratio {name}: ours {:.0}/s, raw {:.0}/s, ours/raw {:.2} ({:.2}–{:.2})",
            ours.quantile(0.5),
            raw.quantile(0.5),
            ratio.quantile(0.5),
            ratio.quantile(0.25),
            ratio.quantile(0.75),
        );
    }
}

/// Not empty.
struct Sorted(Vec<f64>);

impl Sorted {
    fn of(samples: impl Iterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.collect();
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    fn quantile(&self, part: f64) -> f64 {
        let place = (self.0.len() - 1) as f64 * part;
        self.0
            .get(place.round() as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }
}
