//! The tables on a terminal.

use std::fmt::Write as _;

use super::results::Results;
use super::tables::{self, Table};
use crate::show::printable;

/// All tables, with the machine above them.
pub(super) fn render(results: &Results) -> String {
    let mut text = format!("{}\n{}\n", tables::place(results), tables::method(results));
    for table in tables::all(results) {
        push_table(&mut text, &table);
    }
    text
}

fn push_table(text: &mut String, table: &Table) {
    let _ = writeln!(text, "\n{}: {}\n  loadgen {}", table.name, table.meaning, table.arguments);
    let head = [String::new()].into_iter().chain(table.heads.iter().cloned()).collect();
    let mut lines: Vec<(Vec<String>, &str)> = vec![(head, "")];
    for line in &table.lines {
        let cells = [line.server.clone()].into_iter().chain(line.texts.iter().cloned()).collect();
        lines.push((cells, &line.remark));
    }
    let widths = widths(&lines);
    for (cells, remark) in &lines {
        let mut row = String::new();
        for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ = if index == 0 {
                write!(row, "  {cell:width$}")
            } else {
                write!(row, "  {cell:>width$}")
            };
        }
        let _ = writeln!(text, "{}", format!("{row}  {}", printable(remark)).trim_end());
    }
}

fn widths(lines: &[(Vec<String>, &str)]) -> Vec<usize> {
    let columns = lines.iter().map(|(cells, _)| cells.len()).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|(cells, _)| cells.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn columns_line_up_and_remarks_follow() {
        let text = render(&sample::results());
        let expected = "
echo 20 B: server_cpu_us_per_message, less is better
  loadgen echo --size 20
          median   lowest .. highest  to bare  to ours  messages_per_s
  bare   6.00 us  4.00 us .. 8.00 us     1.00     0.67       187,500/s
  ours   9.00 us  6.00 us .. 12.0 us     1.50     1.00       125,000/s  WRONG ANSWERS: 3; the generator was the limit in 1 of 2
  third  could not be run: sh: broken: <not found>
";
        assert!(text.contains(expected), "{text}");
        assert!(text.starts_with("2026-11-21, Intel"));
    }
}
