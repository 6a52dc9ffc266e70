//! The tables as Markdown, for a document that holds more than them.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::results::Results;
use super::tables::{self, Table};
use crate::show::{self, printable};

const BEGIN: &str = "<!-- loadgen bench: begin -->";
const END: &str = "<!-- loadgen bench: end -->";

/// Fails now if the file could not be written after the run.
pub(super) fn check(path: &Path) -> Result<(), String> {
    document(path, "").map(|_| ())?;
    show::check_output(path)
}

/// Writes the tables: between the marks of a file that exists, or as a file of their own.
pub(super) fn write(path: &Path, tables: &str) -> Result<(), String> {
    show::write_output(path, &document(path, tables)?)
}

/// All tables, with the machine above them.
pub(super) fn render(results: &Results) -> String {
    let mut text = format!("{}\n\n{}\n", tables::place(results), tables::method(results));
    for table in tables::all(results) {
        push_table(&mut text, &table);
    }
    text
}

/// The file as it will be.
fn document(path: &Path, tables: &str) -> Result<String, String> {
    let marked = format!("{BEGIN}\n\n{tables}\n{END}\n");
    if path.as_os_str() == "-" {
        return Ok(tables.to_owned());
    }
    let old = match fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(marked),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    if old.is_empty() {
        return Ok(marked);
    }
    let parts = old.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after.strip_prefix('\n').unwrap_or(after)))
    });
    match parts {
        Some((before, after)) => Ok(format!("{before}{marked}{after}")),
        None => Err(format!(
            "{} has no lines `{BEGIN}` and `{END}` to write between; add them, or name a new file",
            path.display()
        )),
    }
}

fn push_table(text: &mut String, table: &Table) {
    let _ = writeln!(text, "\n### {}\n", escape(&table.name));
    let _ = writeln!(text, "`loadgen {}`: {}.\n", table.arguments, escape(&table.meaning));
    let has_remarks = table.lines.iter().any(|line| !line.remark.is_empty());
    let remark_head = if has_remarks { "  |" } else { "" };
    let remark_rule = if has_remarks { "---|" } else { "" };
    let _ = writeln!(text, "| server | {} |{remark_head}", table.heads.join(" | "));
    let _ = writeln!(text, "|---|{}{remark_rule}", "---:|".repeat(table.heads.len()));
    for line in &table.lines {
        let mut texts = line.texts.clone();
        texts.resize(table.heads.len(), String::new());
        let remark =
            if has_remarks { format!(" {} |", escape(&line.remark)) } else { String::new() };
        let _ = writeln!(text, "| {} | {} |{remark}", escape(&line.server), texts.join(" | "));
    }
}

/// The text with what Markdown or HTML would take for their own made harmless.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '*' | '`' | '[' | ']' | '\\' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::bench::sample;

    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("loadgen-{name}-{}.md", std::process::id()));
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn table_has_as_many_columns_in_every_line() {
        let text = render(&sample::results());
        let expected = "
### echo 20 B

`loadgen echo --size 20`: server_cpu_us_per_message, less is better.

| server | median | lowest .. highest | to bare | to ours | messages_per_s |  |
|---|---:|---:|---:|---:|---:|---|
| bare | 6.00 us | 4.00 us .. 8.00 us | 1.00 | 0.67 | 187,500/s |  |
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("could not be run: sh: broken: &lt;not found> |\n"), "{text}");
        assert!(text.contains("n/a: it has no &lt;topics> \\| yet |\n"), "{text}");
    }

    #[test]
    fn only_the_marked_part_of_a_document_is_changed() {
        let path = file("marked", &format!("# Title\n\n{BEGIN}\nold\n{END}\nmore\n"));
        check(&path).unwrap();
        write(&path, "new\n").unwrap();
        write(&path, "newer\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(text, format!("# Title\n\n{BEGIN}\n\nnewer\n\n{END}\nmore\n"));
    }

    #[test]
    fn document_without_marks_is_refused_and_left_alone() {
        let path = file("plain", "# Title\n");
        let error = check(&path).unwrap_err();
        assert!(error.contains("has no lines `<!-- loadgen bench: begin -->`"), "{error}");
        assert!(write(&path, "new").is_err());
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(text, "# Title\n");
    }
}
