//! Rows of figures, as a table.

use serde::Serialize;

/// One thing measured of one program.
#[derive(Serialize)]
pub struct Row {
    what: String,
    program: String,
    unit: &'static str,
    /// How often it was measured.
    runs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    median: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p90: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

impl Row {
    /// A row of samples.
    pub fn new(what: &str, unit: &'static str, program: &str, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let [median, p90, p99] = [50, 90, 99].map(|percent| percentile(&samples, percent));
        Self { what: what.into(), program: program.into(), unit, runs: samples.len(), median, p90, p99, missing: None }
    }

    /// A row without figures.
    pub fn absent(what: &str, unit: &'static str, program: &str, why: &str) -> Self {
        let (what, program) = (what.into(), program.into());
        Self { what, program, unit, runs: 0, median: None, p90: None, p99: None, missing: Some(why.into()) }
    }

    /// A row of samples, or the reason why there are none.
    pub fn of(what: &str, unit: &'static str, program: &str, samples: Result<Vec<f64>, String>) -> Self {
        match samples {
            Ok(samples) => Self::new(what, unit, program, samples),
            Err(why) => Self::absent(what, unit, program, &why),
        }
    }
}

/// The nearest-rank percentile of sorted samples.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Where rows go: each is shown as soon as it is there, for what comes after it may take minutes, or fail.
pub struct Report {
    json: bool,
    rows: Vec<Row>,
}

impl Report {
    /// A table, or one list of JSON at the end, and then the rows beside it for who waits.
    pub fn new(json: bool) -> Self {
        Self { json, rows: Vec::new() }
    }

    /// Takes a row.
    pub fn add(&mut self, row: Row) {
        if self.json {
            eprintln!("{}", row.line());
        } else {
            if self.rows.is_empty() {
                println!(
                    "{:WIDTH$}  {:10} {:>9} {:>9} {:>9}  {:4} {:>4}",
                    "what", "program", "median", "p90", "p99", "unit", "runs"
                );
            }
            println!("{}", row.line());
        }
        self.rows.push(row);
    }

    /// Takes several.
    pub fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        rows.into_iter().for_each(|row| self.add(row));
    }

    /// There are no more.
    pub fn finish(self) -> serde_json::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self.rows)?);
        }
        Ok(())
    }
}

/// The column of what was measured.
const WIDTH: usize = 72;

impl Row {
    fn line(&self) -> String {
        let Row { what, program, unit, runs, .. } = self;
        match (self.median, self.p90, self.p99, &self.missing) {
            (Some(median), Some(p90), Some(p99), _) => {
                format!("{what:WIDTH$}  {program:10} {median:9.2} {p90:9.2} {p99:9.2}  {unit:4} {runs:4}")
            }
            (_, _, _, why) => {
                format!("{what:WIDTH$}  {program:10} not measured: {}", why.as_deref().unwrap_or("no runs"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!([50, 90, 99].map(|percent| percentile(&ten, percent)), [Some(5.0), Some(9.0), Some(10.0)]);
        assert_eq!((percentile(&[3.0], 50), percentile(&[3.0], 90)), (Some(3.0), Some(3.0)));
        assert_eq!(percentile(&[], 50), None);
    }
}
