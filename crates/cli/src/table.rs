//! Aligned columns, by the rules of Go's `text/tabwriter`, which lays out Docker's tables.
//!
//! A cell ends with a tab; the text behind the last tab of a line belongs to no column. A column is a run of neighbouring
//! lines that all have a cell at that place, and is as wide as its widest cell and a gap, ten at least.

const MIN_WIDTH: usize = 10;
const GAP: usize = 3;

/// Aligns `text`, lines of cells that end with tabs.
pub(crate) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    measure(&lines, &mut widths, 0, 0, lines.len());
    let mut aligned = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (index, cell) in cells.iter().enumerate() {
            aligned.push_str(cell);
            let width = widths.get(index).copied().unwrap_or_default();
            aligned.extend(std::iter::repeat_n(' ', width.saturating_sub(width_of(cell))));
        }
        aligned.push('\n');
    }
    aligned
}

/// Sets the width of column `column` in each run of lines within `from..to`, and of those to its right.
fn measure(lines: &[Vec<&str>], widths: &mut [Vec<usize>], column: usize, from: usize, to: usize) {
    let has_cell = |line: usize| lines[line].len() > column + 1;
    let mut line = from;
    while line < to {
        if !has_cell(line) {
            line += 1;
            continue;
        }
        let end = (line..to).find(|other| !has_cell(*other)).unwrap_or(to);
        let width = (line..end).map(|row| width_of(lines[row][column]) + GAP).max().unwrap_or_default().max(MIN_WIDTH);
        for row in widths.iter_mut().take(end).skip(line) {
            row[column] = width;
        }
        measure(lines, widths, column + 1, line, end);
        line = end;
    }
}

/// Go's tabwriter counts characters, not screen cells.
fn width_of(cell: &str) -> usize {
    cell.chars().count()
}

/// Shortens text to `limit` characters, the last of them an ellipsis.
pub(crate) fn ellipsis(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let text = "ID\tNAMES\tSIZE\nabc\tx\t0B\nabcdefghijk\tlonger name\t1GB\n";
        let expect =
            "ID            NAMES         SIZE\nabc           x             0B\nabcdefghijk   longer name   1GB\n";
        assert_eq!(align(text), expect);
    }

    #[test]
    fn a_line_without_the_cell_ends_the_column() {
        assert_eq!(align("aaaaaaaaaaaa\tb\nc\nd\te\n"), "aaaaaaaaaaaa   b\nc\nd         e\n");
    }

    #[test]
    fn shortening() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
    }
}
