//! `corten search`

use corten_api_types::SearchResult;
use corten_client::auth_header;

use crate::command::{Arguments, Command, switch, value};
use crate::commands::LIST_FORMAT;
use crate::failure::Outcome;
use crate::filters;
use crate::format::{self, List, Row};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["search"],
    usage: "[OPTIONS] TERM",
    about: "Search Docker Hub for images",
    flags: &[&[
        value("filter", "filter", "Show only what matches (e.g. \"stars=3\", \"is-official=true\")")
            .short('f')
            .check(filters::filter),
        value("format", "string", LIST_FORMAT),
        value("limit", "int", "The most results to show").check(number),
        switch("no-trunc", "Show whole descriptions"),
    ]],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

fn number(text: &str) -> Result<(), String> {
    text.parse::<i64>().map(drop).map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
}

static HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

/// So much of a description fits into a table.
const WIDEST: usize = 45;

fn run(session: &Session, matches: &Matches) -> Outcome {
    let term = &matches.arguments[0];
    let domain = term.split_once('/').map(|(domain, _)| domain).filter(|domain| domain.contains(['.', ':']));
    let auth = session.config().auth_for(domain.unwrap_or("docker.io")).unwrap_or_default();
    let found: Vec<SearchResult> = session
        .client()?
        .get("/images/search")
        .query("term", term)
        .query_if("limit", matches.get("limit"))
        .query_if("filters", filters::to_query(matches, &[]).as_deref())
        .header("X-Registry-Auth", &auth_header(&auth))
        .send()?
        .json()?;
    let truncate = !matches.is_on("no-trunc");
    let rows: Vec<Row> = found.iter().map(|result| row(result, truncate)).collect();
    let columns = vec!["Name", "Description", "StarCount", "IsOfficial"];
    let list = List { headers: HEADERS, columns, quiet_field: "Name", type_name: "searchContext" };
    format::print(&list, &rows, matches, None)
}

fn row(result: &SearchResult, truncate: bool) -> Row {
    let mark = |is_so| if is_so { "[OK]" } else { "" }.to_owned();
    Row {
        fields: vec![
            ("Name", result.name.clone()),
            ("Description", description(&result.description, truncate)),
            ("StarCount", result.star_count.to_string()),
            ("IsOfficial", mark(result.is_official)),
            ("IsAutomated", mark(result.is_automated)),
        ],
        labels: Default::default(),
    }
}

/// On one line, and with an ellipsis where it is cut.
fn description(text: &str, truncate: bool) -> String {
    let line: String = text.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }).collect();
    if !truncate || line.chars().count() <= WIDEST {
        return line;
    }
    line.chars().take(WIDEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions() {
        assert_eq!(description("a\nb", true), "a b");
        let long = "x".repeat(50);
        assert_eq!(description(&long, true), format!("{}…", "x".repeat(44)));
        assert_eq!(description(&long, false), long);
    }
}
