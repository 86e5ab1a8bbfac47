//! `corten history`

use std::collections::BTreeMap;

use corten_api_types::HistoryItem;
use corten_base::units::human_size_with_precision;

use crate::command::{Arguments, Command, switch, value};
use crate::commands::{LIST_FORMAT, segment};
use crate::failure::Outcome;
use crate::format::{self, List, Row, short_id};
use crate::matches::Matches;
use crate::session::Session;
use crate::table::ellipsis;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image history", "history"],
    usage: "[OPTIONS] IMAGE",
    about: "Show how an image was made",
    flags: &[&[
        value("format", "string", LIST_FORMAT),
        switch("human", "Show sizes and times as people say them").short('H').default("true"),
        switch("no-trunc", "Show everything in full length"),
        value("platform", "string", "Show the history of this platform's image"),
        switch("quiet", "Show only image IDs").short('q'),
    ]],
    arguments: Arguments::Exactly(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let platform = matches.get("platform").map(super::pull::platform_json).transpose()?;
    let items: Vec<HistoryItem> = session
        .client()?
        .get(&format!("/images/{}/history", segment(&matches.arguments[0])))
        .query_if("platform", platform.as_deref())
        .send()?
        .json()?;
    let human = matches.is_on_by_default("human");
    let truncate = !matches.is_on("no-trunc");
    let rows: Vec<Row> = items.iter().map(|item| row(item, human, truncate)).collect();
    let created = if human { "CreatedSince" } else { "CreatedAt" };
    let columns = vec!["ID", created, "CreatedBy", "Size", "Comment"];
    let list = List { headers: HEADERS, columns, quiet_field: "ID", type_name: "historyContext" };
    format::print(&list, &rows, matches, None)
}

static HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

fn row(item: &HistoryItem, human: bool, truncate: bool) -> Row {
    const WIDTH: usize = 45;
    let created_by = item.created_by.replace('\t', " ");
    let time = std::time::Duration::from_secs(u64::try_from(item.created).unwrap_or_default());
    Row {
        fields: vec![
            ("ID", short_id(&item.id, truncate)),
            ("CreatedSince", format::ago(item.created)),
            ("CreatedAt", corten_base::time::rfc3339(std::time::UNIX_EPOCH + time)),
            ("CreatedBy", if truncate { ellipsis(&created_by, WIDTH) } else { created_by }),
            ("Size", if human { human_size_with_precision(item.size.max(0) as f64, 3) } else { item.size.to_string() }),
            ("Comment", item.comment.clone()),
        ],
        labels: BTreeMap::new(),
    }
}
