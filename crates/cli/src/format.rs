//! Lists: default tables, and `--format` over the fields that Docker's formatters name.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::streams::{Sink, write_plain};
use crate::table;
use crate::template::Format;

/// One row: its fields by the names that templates use.
pub(crate) struct Row {
    pub fields: Vec<(&'static str, String)>,
    pub labels: BTreeMap<String, String>,
}

/// A kind of list: every field's column header, and the columns of the default table.
pub(crate) struct List {
    pub headers: &'static [(&'static str, &'static str)],
    pub columns: Vec<&'static str>,
    /// The field that `-q` shows.
    pub quiet_field: &'static str,
    /// The name that Go gives the rows' type in messages about unknown fields.
    pub type_name: &'static str,
}

/// Prints rows as `--format`, `-q` or else the configured format asks.
pub(crate) fn print(list: &List, rows: &[Row], matches: &Matches, configured: Option<&str>) -> Outcome {
    write_plain(Sink::Stdout, render(list, rows, matches, configured)?.as_bytes())
}

/// What [`print()`] prints.
pub(crate) fn render(list: &List, rows: &[Row], matches: &Matches, configured: Option<&str>) -> Outcome<String> {
    let format = matches.get("format").or(configured).filter(|format| !format.is_empty()).unwrap_or("table");
    Ok(match format {
        _ if matches.is_on("quiet") && !matches.is_set("format") => quiet(list, rows),
        "table" if matches.is_on("quiet") => quiet(list, rows),
        "table" => default_table(list, rows),
        "json" => templated(list, rows, "{{json .}}", false)?,
        _ => match format.strip_prefix("table") {
            Some(source) => table::align(&templated(list, rows, &unescape(source), true)?),
            None => templated(list, rows, &unescape(format), false)?,
        },
    })
}

/// Prints only what `-q` shows.
pub(crate) fn print_quiet(list: &List, rows: &[Row]) -> Outcome {
    write_plain(Sink::Stdout, quiet(list, rows).as_bytes())
}

/// Whether the format shows a field that has to be asked for.
pub(crate) fn mentions(matches: &Matches, field: &str) -> bool {
    matches.get("format").is_some_and(|format| format.contains(field))
}

/// In a format, backslash-t and backslash-n are the characters they stand for.
pub(crate) fn unescape(source: &str) -> String {
    source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n")
}

fn quiet(list: &List, rows: &[Row]) -> String {
    rows.iter().map(|row| format!("{}\n", row.get(list.quiet_field))).collect()
}

/// The usual table, made without the template engine.
fn default_table(list: &List, rows: &[Row]) -> String {
    let header = |column: &&str| list.headers.iter().find(|(name, _)| name == column).map_or("", |(_, header)| header);
    let mut text = list.columns.iter().map(header).collect::<Vec<_>>().join("\t");
    text.push('\n');
    for row in rows {
        text.push_str(&list.columns.iter().map(|column| visible(row.get(column))).collect::<Vec<_>>().join("\t"));
        text.push('\n');
    }
    table::align(&text)
}

/// What others have written (an image's history, say) gives the terminal no orders. Who asks for a format gets it as it is.
fn visible(field: &str) -> String {
    field.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn templated(list: &List, rows: &[Row], source: &str, with_header: bool) -> Outcome<String> {
    let format =
        Format::parse(source).map_err(|error| Failure::message(format!("failed to parse template: {error}")))?;
    let mut text = String::new();
    let mut add = |value: &Value| -> Outcome {
        let line = format.render(value).map_err(|error| Failure::message(explain(&error, list)))?;
        text.push_str(&line);
        text.push('\n');
        Ok(())
    };
    // The header is rendered even without rows, which also finds unknown fields then.
    if with_header {
        add(&header_value(list))?;
    }
    for row in rows {
        add(&row.to_value())?;
    }
    Ok(text)
}

/// Docker's rows are structs, to which a missing field is another error than to a map.
fn explain(error: &str, list: &List) -> String {
    match error.split_once("map has no entry for key \"") {
        Some((before, rest)) => {
            let field = rest.trim_end_matches('"');
            format!(
                "failed to execute template: {before}can't evaluate field {field} in type *formatter.{}",
                list.type_name
            )
        }
        None => format!("failed to execute template: {error}"),
    }
}

impl Row {
    fn get(&self, field: &str) -> &str {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn to_value(&self) -> Value {
        let mut map: BTreeMap<Arc<str>, Value> =
            self.fields.iter().map(|(name, value)| ((*name).into(), field_value(name, value))).collect();
        let labels = self.labels.clone();
        let label = move |arguments: &[Value]| {
            let key = arguments.first().map(Value::to_string).unwrap_or_default();
            Ok(Value::String(labels.get(&key).map(String::as_str).unwrap_or_default().into()))
        };
        map.insert("Label".into(), Value::Function(Arc::new(label)));
        Value::Map(Arc::new(map))
    }
}

/// A container's platform is an object in Docker's answer, absent before API 1.48's successor: null, not a text.
fn field_value(name: &str, value: &str) -> Value {
    if name == "Platform" && value.is_empty() { Value::Nil } else { Value::String(value.into()) }
}

fn header_value(list: &List) -> Value {
    let mut map: BTreeMap<Arc<str>, Value> =
        list.headers.iter().map(|(name, header)| ((*name).into(), Value::String((*header).into()))).collect();
    let label = |arguments: &[Value]| {
        let key = arguments.first().map(Value::to_string).unwrap_or_default();
        let last = key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ");
        Ok(Value::String(last.as_str().into()))
    };
    map.insert("Label".into(), Value::Function(Arc::new(label)));
    Value::Map(Arc::new(map))
}

/// Labels as one field: `a=1,b=2`.
pub(crate) fn join_labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// An id without its algorithm, twelve digits of it unless all is wanted.
pub(crate) fn short_id(id: &str, truncate: bool) -> String {
    if !truncate {
        return id.to_owned();
    }
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.chars().take(12).collect()
}

/// `2026-10-12 02:10:19 +0000 UTC`
pub(crate) fn timestamp(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => String::new(),
    }
}

/// `2 hours ago`
pub(crate) fn ago(seconds: i64) -> String {
    let now = corten_base::time::unix_seconds(std::time::SystemTime::now());
    let age = std::time::Duration::from_secs(u64::try_from(now - seconds).unwrap_or_default());
    format!("{} ago", corten_base::units::human_duration(age))
}

/// Orders names as people do: `a2` before `a10`.
pub(crate) fn natural_order(left: &str, right: &str) -> std::cmp::Ordering {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (mut left, mut right) = (left, right);
    loop {
        let (left_digits, right_digits) = (digits(left), digits(right));
        if left_digits > 0 && right_digits > 0 {
            let left_number = left[..left_digits].trim_start_matches('0');
            let right_number = right[..right_digits].trim_start_matches('0');
            let order = left_number.len().cmp(&right_number.len()).then_with(|| left_number.cmp(right_number));
            let order = order.then_with(|| left_digits.cmp(&right_digits));
            if order.is_ne() {
                return order;
            }
            (left, right) = (&left[left_digits..], &right[right_digits..]);
            continue;
        }
        let (mut left_rest, mut right_rest) = (left.chars(), right.chars());
        match (left_rest.next(), right_rest.next()) {
            (Some(one), Some(other)) if one == other => (left, right) = (left_rest.as_str(), right_rest.as_str()),
            (one, other) => return one.cmp(&other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_give_the_terminal_no_orders() {
        assert_eq!(visible("a\u{1b}[2J\u{9b}\r\u{7f}\u{e9}\nb"), "a\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}\u{e9}\nb");
    }

    #[test]
    fn natural() {
        let mut names = vec!["a10", "b", "a2", "a", "a02", "a2b"];
        names.sort_by(|left, right| natural_order(left, right));
        assert_eq!(names, ["a", "a2", "a2b", "a02", "a10", "b"]);
    }

    #[test]
    fn times() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(short_id("sha256:0123456789abcdef", true), "0123456789ab");
    }
}
