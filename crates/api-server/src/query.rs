//! Query strings and `filters`, with Docker's idea of truth and numbers.

use crate::error::Failure;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A request's query: of several values of one name, the first counts unless all are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// Filters by name.
pub(crate) type Filters = BTreeMap<String, Vec<String>>;

impl Query {
    pub(crate) fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    /// The value, empty when absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The value when there is one that is not empty.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|value| !value.is_empty())
    }

    /// All values of a name.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Everything but nothing, `0`, `no`, `false` and `none` is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.text(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A whole number, none when absent or empty.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Failure> {
        let Some(text) = self.given(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Failure::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))),
        }
    }

    /// A point in time as Unix seconds with a fraction, in nanoseconds; none when absent, empty or `0`.
    pub(crate) fn time_ns(&self, name: &str) -> Result<Option<i64>, Failure> {
        match self.given(name) {
            None | Some("0") => Ok(None),
            Some(text) => Ok(Some(corten_base::time::unix_nanos(corten_base::time::parse_unix(text)?))),
        }
    }

    /// `filters`: `{"name": {"value": true}}`, or `{"name": ["value"]}` from old clients.
    pub(crate) fn filters(&self) -> Result<Filters, Failure> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            Set(BTreeMap<String, bool>),
            List(Vec<String>),
        }
        let Some(text) = self.given("filters") else { return Ok(Filters::new()) };
        let filters: Option<BTreeMap<String, Values>> =
            serde_json::from_str(text).map_err(|_| Failure::invalid("invalid filter"))?;
        let values = |values| match values {
            Values::Set(set) => set.into_iter().filter(|(_, wanted)| *wanted).map(|(value, _)| value).collect(),
            Values::List(list) => list,
        };
        Ok(filters.unwrap_or_default().into_iter().map(|(name, v)| (name, values(v))).collect())
    }
}

/// Refuses filters that an operation doesn't know, with Docker's text.
pub(crate) fn only(filters: &Filters, known: &[&str]) -> Result<(), Failure> {
    match filters.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Failure::invalid(format!("invalid filter '{name}'"))),
        None => Ok(()),
    }
}

/// A filter that is true or false.
pub(crate) fn boolean(filters: &Filters, name: &str) -> Result<Option<bool>, Failure> {
    let Some(values) = filters.get(name) else { return Ok(None) };
    match values.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(None),
        ["1" | "true" | "True" | "TRUE" | "t" | "T"] => Ok(Some(true)),
        ["0" | "false" | "False" | "FALSE" | "f" | "F"] => Ok(Some(false)),
        _ => Err(Failure::invalid(format!("invalid filter '{name}=[{}]'", values.join(" ")))),
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let query = Query::parse("a=1&b=&c&d=x%2Fy+z&a=2&e=no&f=maybe&since=1.5");
        assert_eq!(query.text("a"), "1");
        assert_eq!(query.all("a"), ["1", "2"]);
        assert_eq!(query.text("d"), "x/y z");
        assert_eq!(query.given("b"), None);
        assert!(query.flag("a") && query.flag("f") && !query.flag("c") && !query.flag("e") && !query.flag("zz"));
        assert_eq!(query.number::<i64>("a").unwrap(), Some(1));
        assert!(query.number::<i64>("d").is_err());
        assert_eq!(query.time_ns("since").unwrap(), Some(1_500_000_000));
        assert!(query.time_ns("d").is_err());
    }

    #[test]
    fn filters() {
        let check = |text: &str| Query::parse(&format!("filters={text}")).filters();
        let expect = Filters::from([("label".to_owned(), vec!["a=b".to_owned()])]);
        assert_eq!(check("{%22label%22:{%22a=b%22:true}}").unwrap(), expect);
        assert_eq!(check("{%22label%22:[%22a=b%22]}").unwrap(), expect);
        assert_eq!(check("{}").unwrap(), Filters::new());
        assert_eq!(check("").unwrap(), Filters::new());
        assert_eq!(check("x").unwrap_err().message, "invalid filter");
        assert_eq!(only(&expect, &["id"]).unwrap_err().message, "invalid filter 'label'");
        assert!(only(&expect, &["label"]).is_ok());
    }
}
