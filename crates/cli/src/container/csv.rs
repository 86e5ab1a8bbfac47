//! One line of comma-separated fields with double quotes, as `--mount`, `--network` and `--gpus` take (RFC 4180).

/// Splits a line into its fields.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) =
            if let Some(quoted) = rest.strip_prefix('"') { take_quoted(quoted)? } else { take_plain(rest)? };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("parse error on line 1: extraneous or missing \" in quoted-field".to_owned()),
        }
    }
}

fn take_plain(text: &str) -> Result<(String, &str), String> {
    let end = text.find(',').unwrap_or(text.len());
    let field = &text[..end];
    if field.contains('"') {
        return Err("parse error on line 1: bare \" in non-quoted-field".to_owned());
    }
    Ok((field.to_owned(), &text[end..]))
}

fn take_quoted(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('"') {
        field.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
    Err("parse error on line 1: extraneous or missing \" in quoted-field".to_owned())
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes() {
        assert_eq!(fields("a=1,b"), Ok(vec!["a=1".to_owned(), "b".to_owned()]));
        assert_eq!(fields(r#""x=1,2",y"#), Ok(vec!["x=1,2".to_owned(), "y".to_owned()]));
        assert_eq!(fields(r#""a""b""#), Ok(vec!["a\"b".to_owned()]));
        assert_eq!(fields(""), Ok(vec![String::new()]));
        assert!(fields(r#""a"#).is_err());
        assert!(fields(r#"a"b"#).is_err());
    }
}
