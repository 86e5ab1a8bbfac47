//! JSON as Go's encoder lays it out, made from text without reading it into values: numbers, escapes and the order of
//! members stay as they are, so that a document keeps its digest through Docker's files and back.

/// Without white space, and with the signs escaped that Go's `json.Marshal` escapes. The text is valid JSON.
pub(crate) fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for (sign, is_quoted) in signs(json) {
        match sign {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if is_quoted => {
                text.push_str(&format!("\\u{:04x}", u32::from(sign)));
            }
            ' ' | '\t' | '\n' | '\r' if !is_quoted => {}
            _ => text.push(sign),
        }
    }
    text
}

/// One member or element a line, each level set in by `unit`: Go's `json.Indent`. White space at the end stays. The text
/// is valid JSON.
pub(crate) fn indent(json: &str, unit: &str) -> String {
    let body = json.trim_end_matches([' ', '\t', '\n', '\r']);
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    // An object or array is broken up when it turns out to have something inside.
    let mut has_opened = false;
    for (sign, is_quoted) in signs(body) {
        if !is_quoted && matches!(sign, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        let is_end = !is_quoted && matches!(sign, '}' | ']');
        if has_opened && !is_end {
            depth += 1;
            new_line(&mut text, depth, unit);
        } else if is_end && !has_opened {
            depth -= 1;
            new_line(&mut text, depth, unit);
        }
        has_opened = !is_quoted && matches!(sign, '{' | '[');
        text.push(sign);
        match sign {
            ',' if !is_quoted => new_line(&mut text, depth, unit),
            ':' if !is_quoted => text.push(' '),
            _ => {}
        }
    }
    text + &json[body.len()..]
}

fn new_line(text: &mut String, depth: usize, unit: &str) {
    text.push('\n');
    text.extend(std::iter::repeat_n(unit, depth));
}

/// The signs of a document, each with whether it belongs to a string; the closing quote does.
fn signs(json: &str) -> impl Iterator<Item = (char, bool)> + '_ {
    let (mut is_quoted, mut is_escaped) = (false, false);
    json.chars().map(move |sign| {
        let belongs = is_quoted;
        match sign {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        (sign, belongs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        let check = |json: &str, unit: &str, dense: &str, broad: &str| {
            assert_eq!(compact(json), dense);
            assert_eq!(indent(json, unit), broad);
        };
        check("[ ]\n", "\t", "[]", "[]\n");
        check(" { \"a\" : { } }", "  ", r#"{"a":{}}"#, "{\n  \"a\": {}\n}");
        check("1.50e3", "\t", "1.50e3", "1.50e3");
        check(
            r#"{"a":[1,"x, y: \"{\\"],"b":null}"#,
            "   ",
            r#"{"a":[1,"x, y: \"{\\"],"b":null}"#,
            "{\n   \"a\": [\n      1,\n      \"x, y: \\\"{\\\\\"\n   ],\n   \"b\": null\n}",
        );
        check("[\"<&>\u{2028}\"]", "", r#"["\u003c\u0026\u003e\u2028"]"#, "[\n\"<&>\u{2028}\"\n]");
    }
}
