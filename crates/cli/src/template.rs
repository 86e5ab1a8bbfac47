//! Go templates for `--format`, with the functions that Docker adds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use gotmpl::{MissingKey, Template, TemplateError, Value};

use crate::json::{Json, escape_html, string};
use crate::omitted;

/// The order of members of each map made from JSON, by the map's address: gotmpl's own maps are sorted.
type Orders = Arc<RwLock<HashMap<usize, Vec<Arc<str>>>>>;

/// A parsed template.
pub(crate) struct Format {
    source: String,
    template: Template,
    orders: Orders,
}

impl Format {
    /// Parses a template; the error is the text behind Docker's `template parsing error: `.
    pub fn parse(source: &str) -> Result<Format, String> {
        let orders: Orders = Arc::default();
        let for_json = Arc::clone(&orders);
        let template = Template::new("")
            .missing_key(MissingKey::Error)
            .func("json", move |values| Ok(to_json(first(values), &for_json).into()))
            .func("split", |values| Ok(split(&text(values, 0), &text(values, 1))))
            .func("join", |values| Ok(join(first(values), &text(values, 1)).into()))
            .func("title", |values| Ok(title(&text(values, 0)).into()))
            .func("upper", |values| Ok(text(values, 0).to_uppercase().into()))
            .func("lower", |values| Ok(text(values, 0).to_lowercase().into()))
            .func("pad", |values| Ok(pad(&text(values, 0), number(values, 1), number(values, 2)).into()))
            .func("truncate", |values| Ok(truncate(&text(values, 0), number(values, 1)).into()))
            .parse(&call_methods(source))
            .map_err(|error| parse_error(&error))?;
        Ok(Format { source: source.to_owned(), template, orders })
    }

    /// Renders data.
    pub fn render(&self, data: &Value) -> Result<String, String> {
        self.template.execute_to_string(data).map_err(|error| execution_error(&self.source, error.to_string()))
    }

    /// Makes data for this template from JSON. At the top, `ID` is another name of `Id`, as in Docker's own types.
    pub fn data(&self, json: &Json) -> Value {
        let value = self.convert(json);
        let Value::Map(map) = &value else { return value };
        let Some(id) = map.get("Id").cloned().filter(|_| !map.contains_key("ID")) else { return value };
        let mut with_alias = BTreeMap::clone(map);
        with_alias.insert("ID".into(), id);
        let with_alias = Arc::new(with_alias);
        let order = map_order(&self.orders, map);
        self.remember(&with_alias, order.unwrap_or_default());
        Value::Map(with_alias)
    }

    fn convert(&self, json: &Json) -> Value {
        match json {
            Json::Null => Value::Nil,
            Json::Bool(on) => Value::Bool(*on),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Value::Int(integer),
                None => Value::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Value::String(text.as_str().into()),
            Json::Array(items) => Value::List(items.iter().map(|item| self.convert(item)).collect()),
            Json::Object(members) => {
                let mut map: BTreeMap<Arc<str>, Value> =
                    members.iter().map(|(name, value)| (name.as_str().into(), self.convert(value))).collect();
                omitted::complete(&mut map);
                let map = Arc::new(map);
                self.remember(&map, members.iter().map(|(name, _)| name.as_str().into()).collect());
                Value::Map(map)
            }
        }
    }

    fn remember(&self, map: &Arc<BTreeMap<Arc<str>, Value>>, order: Vec<Arc<str>>) {
        if let Ok(mut orders) = self.orders.write() {
            orders.insert(Arc::as_ptr(map) as usize, order);
        }
    }
}

fn map_order(orders: &Orders, map: &Arc<BTreeMap<Arc<str>, Value>>) -> Option<Vec<Arc<str>>> {
    orders.read().ok()?.get(&(Arc::as_ptr(map) as usize)).cloned()
}

/// gotmpl calls functions only through `call`; Docker's one method with an argument is `.Label "key"`.
fn call_methods(source: &str) -> String {
    const METHOD: &str = ".Label ";
    let mut rewritten = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find(METHOD) {
        let (before, after) = rest.split_at(at);
        rewritten.push_str(before);
        let is_operand = before.ends_with(['{', ' ', '(', '-', '|']);
        rewritten.push_str(if is_operand { "call .Label " } else { METHOD });
        rest = &after[METHOD.len()..];
    }
    rewritten.push_str(rest);
    rewritten
}

/// Go says where in the template a member is missing.
fn execution_error(source: &str, text: String) -> String {
    let Some(key) = text.strip_prefix("map has no entry for key: ") else { return text };
    let Some((at, chain)) = find_field(source, key) else { return text };
    let line = source[..at].matches('\n').count() + 1;
    let column = at - source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    format!("template: :{line}:{column}: executing \"\" at <{chain}>: map has no entry for key \"{key}\"")
}

/// The first chain of fields (`.A.B`) with the field `key`: its text, and the place that Go names, which is that of the
/// second field when there are several.
fn find_field<'a>(source: &'a str, key: &str) -> Option<(usize, &'a str)> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut from = 0;
    while let Some(at) = source[from..].find('.').map(|offset| from + offset) {
        let length = source[at..].find(|character: char| !is_word(character) && character != '.');
        let chain = &source[at..length.map_or(source.len(), |length| at + length)];
        if chain[1..].split('.').any(|field| field == key) {
            let second = chain[1..].find('.').map_or(0, |offset| offset + 1);
            return Some((at + second, chain));
        }
        from = at + chain.len();
    }
    None
}

/// Go names no column in its parse errors.
fn parse_error(error: &TemplateError) -> String {
    let text = error.to_string();
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    match parts[..] {
        ["template", line, column, message] if column.trim().parse::<usize>().is_ok() => {
            format!("template: :{}:{message}", line.trim())
        }
        _ => text,
    }
}

fn first(values: &[Value]) -> &Value {
    values.first().unwrap_or(&Value::Nil)
}

fn text(values: &[Value], index: usize) -> String {
    values.get(index).map(Value::to_string).unwrap_or_default()
}

fn number(values: &[Value], index: usize) -> usize {
    values.get(index).and_then(Value::as_int).and_then(|number| usize::try_from(number).ok()).unwrap_or_default()
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return Value::List(text.chars().map(|character| Value::String(character.to_string().into())).collect());
    }
    Value::List(text.split(separator).map(|part| Value::String(part.into())).collect())
}

fn join(list: &Value, separator: &str) -> String {
    match list {
        Value::List(items) => items.iter().map(Value::to_string).collect::<Vec<_>>().join(separator),
        Value::Nil => String::new(),
        other => other.to_string(),
    }
}

fn title(text: &str) -> String {
    let mut at_start = true;
    text.chars()
        .map(|character| {
            let shown = if at_start { character.to_uppercase().next().unwrap_or(character) } else { character };
            at_start = !character.is_alphanumeric() && character != '_' && character != '\'';
            shown
        })
        .collect()
}

fn pad(text: &str, before: usize, after: usize) -> String {
    if text.is_empty() { String::new() } else { format!("{:before$}{text}{:after$}", "", "") }
}

fn truncate(text: &str, length: usize) -> String {
    text[..text.floor_char_boundary(length.min(text.len()))].to_owned()
}

/// Maps that came from JSON keep their order. A row of a list does not come from JSON: Docker writes it sorted and with
/// HTML's signs escaped.
fn to_json(value: &Value, orders: &Orders) -> String {
    match value {
        Value::Map(map) if map_order(orders, map).is_none() => escape_html(&write_json(value, orders)),
        other => write_json(other, orders),
    }
}

fn write_json(value: &Value, orders: &Orders) -> String {
    match value {
        Value::Nil | Value::Function(_) => "null".to_owned(),
        Value::String(text) => string(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| write_json(item, orders)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Map(map) => {
            let names = map_order(orders, map).unwrap_or_else(|| map.keys().cloned().collect());
            let members: Vec<String> = names
                .iter()
                .filter_map(|name| Some((name, map.get(name).filter(|value| !value.is_function())?)))
                .map(|(name, value)| format!("{}:{}", string(name), write_json(value, orders)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, json: &str, expect: &str) {
        let json: Json = serde_json::from_str(json).expect("valid");
        let shown = Format::parse(source).and_then(|format| format.render(&format.data(&json)));
        assert_eq!(shown.unwrap_or_else(|error| error), expect, "{source}");
    }

    #[test]
    fn dockers_functions() {
        check("{{json .}}", r#"{"z":1,"a":["<"],"n":null}"#, r#"{"z":1,"a":["<"],"n":null}"#);
        check("{{json .b}}", r#"{"b":{"z":1,"a":{}}}"#, r#"{"z":1,"a":{}}"#);
        check("{{.ID}} {{.Id}} {{json .}}", r#"{"Id":"x"}"#, r#"x x {"Id":"x"}"#);
        check(r#"{{join .a ", "}}"#, r#"{"a":["x","y"]}"#, "x, y");
        check(r#"{{range split .a ","}}[{{.}}]{{end}}"#, r#"{"a":"x,y"}"#, "[x][y]");
        check("{{upper .a}}{{lower .a}}{{title .b}}", r#"{"a":"aB","b":"two words"}"#, "ABabTwo Words");
        check("{{pad .a 1 2}}|{{truncate .a 1}}", r#"{"a":"xyz"}"#, " xyz  |x");
        check("{{range $k, $v := .m}}{{println $k $v}}{{end}}", r#"{"m":{"b":2,"a":1}}"#, "a 1\nb 2\n");
        check("{{if .r}}up{{else}}down{{end}} {{len .l}} {{index .l 0}}", r#"{"r":true,"l":[5]}"#, "up 1 5");
    }

    #[test]
    fn omitted_members_are_empty() {
        let bind = r#"{"Mounts":[{"Type":"bind","Destination":"/t","RW":true}]}"#;
        check(
            "{{range .Mounts}}[{{.Name}}]{{json .}}{{end}}",
            bind,
            r#"[]{"Type":"bind","Destination":"/t","RW":true}"#,
        );
        let config = r#"{"AttachStdin":false,"OpenStdin":false}"#;
        check("{{if .Healthcheck}}x{{end}}{{len .ExposedPorts}}{{.StopSignal}}", config, "0");
    }

    #[test]
    fn errors() {
        check("{{.Foo}}", r#"{"a":1}"#, "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"");
        check(
            "{{.a}} {{.a.Foo}}",
            r#"{"a":{}}"#,
            "template: :1:11: executing \"\" at <.a.Foo>: map has no entry for key \"Foo\"",
        );
        check("{{.a", r#"{"a":1}"#, "template: :1: unclosed action");
    }
}
