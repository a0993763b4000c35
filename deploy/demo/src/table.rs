//! A table in plain text.

use std::fmt;

/// Which side a column's words stand on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Align {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// Rows under a head, as wide as their words.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    columns: [Align; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with no rows but its head.
    #[must_use]
    pub fn new(head: &[(&str, Align); N]) -> Self {
        let columns = head.map(|(_, align)| align);
        Self { columns, rows: vec![head.map(|(words, _)| words.to_owned())] }
    }

    /// Adds a row at the end.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(self.columns).zip(widths) {
                line.push_str(&match align {
                    Align::Left => format!("  {cell:<width$}"),
                    Align::Right => format!("  {cell:>width$}"),
                });
            }
            let end = if number + 1 == self.rows.len() { "" } else { "\n" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("city", Align::Left), ("ms", Align::Right)]);
        table.row(["São Paulo".into(), "195".into()]);
        table.row(["Rome".into(), "20".into()]);
        assert_eq!(table.to_string(), "  city        ms\n  São Paulo  195\n  Rome        20");
    }
}
