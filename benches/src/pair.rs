use std::cell::RefCell;
use std::time::Duration;

/// Which of the two is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The backend alone.
    Raw,
    /// The replica on it.
    Ours,
}

/// Two measurements of the same work in one run: the backend alone, and the replica on it.
///
/// Criterion says how long each takes; this says what matters between machines, the ratio of their
/// rates.
#[derive(Debug, Default)]
pub struct Pair {
    raw: RefCell<Vec<f64>>,
    ours: RefCell<Vec<f64>>,
}

impl Pair {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a sample: how long so many iterations took.
    pub fn note(&self, side: Side, iterations: u64, took: Duration) {
        let samples = match side {
            Side::Raw => &self.raw,
            Side::Ours => &self.ours,
        };
        samples
            .borrow_mut()
            .push(took.as_secs_f64() / iterations as f64);
    }

    /// Prints the medians of both, as rates, and the ratio of the rates.
    pub fn report(&self, name: &str) {
        let (Some(raw), Some(ours)) = (median(&self.raw), median(&self.ours)) else {
            return;
        };
        println!(
            "ratio {name}: ours {:.0}/s, raw {:.0}/s, ours/raw {:.2}",
            1.0 / ours,
            1.0 / raw,
            raw / ours,
        );
    }
}

fn median(samples: &RefCell<Vec<f64>>) -> Option<f64> {
    let mut samples = samples.borrow().clone();
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}
