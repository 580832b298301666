/// The sample below which this part of all samples lies; not a number if there are none.
pub fn quantile(mut samples: Vec<f64>, part: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let place = samples.len().saturating_sub(1) as f64 * part;
    let sample = samples.get(place.round() as usize);
    sample.copied().unwrap_or(f64::NAN)
}

/// The sample in the middle.
pub fn median(samples: Vec<f64>) -> f64 {
    quantile(samples, 0.5)
}
