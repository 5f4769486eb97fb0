//! How often what took how long.

use super::text::Page;

/// Counts by upper bound; the bounds are said by whoever counts.
#[derive(Clone, Debug)]
pub struct Histogram<const N: usize> {
    count: u64,
    sum: f64,
    buckets: [u64; N],
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, buckets: [0; N] }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a value, in every bucket that holds it.
    pub fn note(&mut self, value: f64, bounds: &[f64; N]) {
        self.count += 1;
        self.sum += value;
        for (bucket, bound) in self.buckets.iter_mut().zip(bounds) {
            *bucket += u64::from(value <= *bound);
        }
    }

    /// Adds what another one has counted, with the same bounds.
    pub fn add(&mut self, other: &Self) {
        (self.count, self.sum) = (self.count + other.count, self.sum + other.sum);
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Writes its samples.
    pub fn write(&self, page: &mut Page, name: &str, labels: &[(&str, &str)], bounds: &[f64; N]) {
        let texts = bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        let counts = self.buckets.iter().chain([&self.count]);
        for (bound, count) in texts.zip(counts) {
            let all: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            page.sample(&format!("{name}_bucket"), &all, *count as f64);
        }
        page.sample(&format!("{name}_sum"), labels, self.sum);
        page.sample(&format!("{name}_count"), labels, self.count as f64);
    }
}
