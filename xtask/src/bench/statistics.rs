//! Order statistics of a list of durations.

/// Durations in microseconds, sorted.
pub struct Sample(Vec<f64>);

impl Sample {
    /// Sorts what was measured.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value below which `fraction` (0 to 1) of the sample lies, in microseconds; 0 of an empty sample.
    pub fn quantile(&self, fraction: f64) -> f64 {
        let last = self.0.len().saturating_sub(1) as f64;
        self.0.get((last * fraction).round() as usize).copied().unwrap_or_default()
    }

    /// The middle value, in microseconds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn quantiles() {
        let sample = Sample::new(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((sample.quantile(0.0), sample.median(), sample.quantile(1.0)), (1.0, 3.0, 5.0));
        assert_eq!(Sample::new(Vec::new()).median(), 0.0);
    }
}
