//! `corten volume create`, `ls` and `rm`

use std::collections::BTreeMap;

use corten_api_types::{Volume, VolumeCreateRequest, VolumeListResponse};

use crate::args::report;
use crate::command::{Arguments, Command, switch, value};
use crate::commands::{LIST_FORMAT, for_each, print_line, segment};
use crate::container::label;
use crate::failure::{Failure, Outcome};
use crate::filters;
use crate::format::{self, List, Row, join_labels, natural_order};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static CREATE: Command = Command {
    spellings: &["volume create"],
    usage: "[OPTIONS] [VOLUME]",
    about: "Create a volume",
    flags: &[&[
        value("driver", "string", "Volume driver").short('d').default("\"local\""),
        value("label", "list", "Set a label").check(label),
        value("name", "string", "Name of the volume").hidden(),
        value("opt", "map", "Option for the driver").short('o').default("map[]"),
    ]],
    arguments: Arguments::AtMost(1),
    interspersed: true,
    run: create,
};

pub(crate) static LS: Command = Command {
    spellings: &["volume ls", "volume list"],
    usage: "[OPTIONS]",
    about: "List volumes",
    flags: &[&[
        value("filter", "filter", "Show only volumes that match (e.g. \"dangling=true\")")
            .short('f')
            .check(filters::filter),
        value("format", "string", LIST_FORMAT),
        switch("quiet", "Show only names").short('q'),
    ]],
    arguments: Arguments::None,
    interspersed: true,
    run: ls,
};

pub(crate) static RM: Command = Command {
    spellings: &["volume rm", "volume remove"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove volumes that no container uses",
    flags: &[&[switch("force", "Don't mind volumes that don't exist").short('f')]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run: rm,
};

/// `key=value` strings as a map, or none.
pub(super) fn string_map<'a>(items: impl Iterator<Item = &'a str>) -> Option<BTreeMap<String, String>> {
    let map: BTreeMap<String, String> = items
        .map(|item| {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect();
    (!map.is_empty()).then_some(map)
}

fn create(session: &Session, matches: &Matches) -> Outcome {
    let name = match (matches.arguments.first(), matches.get("name")) {
        (Some(_), Some(_)) => {
            return Err(Failure::message(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        (Some(name), None) => name.clone(),
        (None, name) => name.unwrap_or_default().to_owned(),
    };
    let request = VolumeCreateRequest {
        name,
        driver: matches.get("driver").unwrap_or("local").to_owned(),
        driver_opts: string_map(matches.all("opt")),
        labels: string_map(matches.all("label")),
        ..VolumeCreateRequest::default()
    };
    let volume: Volume = session.client()?.post("/volumes/create").json(&request).send()?.json()?;
    print_line(volume.name)
}

fn ls(session: &Session, matches: &Matches) -> Outcome {
    let mut answer: VolumeListResponse = session
        .client()?
        .get("/volumes")
        .query_if("filters", filters::to_query(matches, &[]).as_deref())
        .send()?
        .json()?;
    for warning in answer.warnings.iter().flatten() {
        report(&format!("WARNING: {warning}"));
    }
    answer.volumes.sort_by(|left, right| natural_order(&left.name, &right.name));
    let rows: Vec<Row> = answer.volumes.iter().map(row).collect();
    let list =
        List { headers: HEADERS, columns: vec!["Driver", "Name"], quiet_field: "Name", type_name: "volumeContext" };
    let configured = if matches.is_on("quiet") { None } else { session.config().volumes_format.as_deref() };
    format::print(&list, &rows, matches, configured)
}

static HEADERS: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
    ("Group", "GROUP"),
    ("Availability", "AVAILABILITY"),
    ("Status", "STATUS"),
];

fn row(volume: &Volume) -> Row {
    let unknown = || "N/A".to_owned();
    let usage = volume.usage_data.as_ref();
    let labels = volume.labels.clone().unwrap_or_default();
    let size = usage.and_then(|usage| u64::try_from(usage.size).ok()).map(corten_base::units::human_size);
    Row {
        fields: vec![
            ("Name", volume.name.clone()),
            ("Driver", volume.driver.clone()),
            ("Labels", join_labels(&labels)),
            ("Links", usage.map_or_else(unknown, |usage| usage.ref_count.to_string())),
            ("Mountpoint", volume.mountpoint.clone()),
            ("Scope", volume.scope.clone()),
            ("Size", size.unwrap_or_else(unknown)),
            ("Group", unknown()),
            ("Availability", unknown()),
            ("Status", unknown()),
        ],
        labels,
    }
}

fn rm(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    for_each(&matches.arguments, |name| {
        client.delete(&format!("/volumes/{}", segment(name))).flag("force", matches.is_on("force")).start()
    })
}
