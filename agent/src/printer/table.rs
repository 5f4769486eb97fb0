//! Tables without borders, as kubectl draws them.

/// Columns under upper-case headings, three spaces apart.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&h| h.to_owned()).collect()] }
    }

    /// Adds a row; an empty cell shows as `<none>`.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let named = |cell: String| if cell.is_empty() { "<none>".to_owned() } else { cell };
        self.rows.push(cells.into_iter().map(Into::into).map(named).collect());
    }

    /// The whole table, headings included, each line ended.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}   "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let mut table = Table::new(&["NAME", "TAG", "SIZE"]);
        table.row(["nginx", "latest", "11MB"]);
        table.row(["a", "", "1B"]);
        assert_eq!(
            table.render(),
            "NAME    TAG      SIZE\n\
             nginx   latest   11MB\n\
             a       <none>   1B\n"
        );
    }
}
