//! `corten system df`

use std::collections::BTreeMap;

use corten_api_types::{ContainerSummary, DiskUsageBefore52, ImageSummary, Volume};
use corten_base::units::human_size;

use crate::command::{Arguments, Command, switch, value};
use crate::commands::{LIST_FORMAT, images, print_line, ps};
use crate::failure::{Failure, Outcome};
use crate::format::{self, List, Row};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["system df"],
    usage: "[OPTIONS]",
    about: "Show what images, containers and volumes take on the disk",
    flags: &[&[
        value("format", "string", LIST_FORMAT),
        switch("verbose", "Show each image, container and volume").short('v'),
    ]],
    arguments: Arguments::None,
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    if matches.is_on("verbose") && matches.get("format").is_some_and(|format| !format.is_empty()) {
        return Err(Failure::message("the verbose and the format options conflict"));
    }
    let usage: DiskUsageBefore52 = session.client()?.get("/system/df").send()?.json()?;
    if matches.is_on("verbose") {
        return verbose(&usage, matches);
    }
    let rows = [images_row(&usage), containers_row(&usage), volumes_row(&usage), row("Build Cache", 0, 0, 0, 0)];
    let columns = vec!["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    let list = List { headers: HEADERS, columns, quiet_field: "Type", type_name: "diskUsageContext" };
    format::print(&list, &rows, matches, None)
}

static HEADERS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

fn row(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> Row {
    let reclaimable_text = match (size, kind) {
        (1.., "Images" | "Containers" | "Local Volumes") => {
            format!("{} ({}%)", bytes(reclaimable), i128::from(reclaimable) * 100 / i128::from(size))
        }
        _ => bytes(reclaimable),
    };
    Row {
        fields: vec![
            ("Type", kind.to_owned()),
            ("TotalCount", total.to_string()),
            ("Active", active.to_string()),
            ("Size", bytes(size)),
            ("Reclaimable", reclaimable_text),
        ],
        labels: BTreeMap::new(),
    }
}

fn bytes(bytes: i64) -> String {
    human_size(u64::try_from(bytes).unwrap_or(0))
}

fn images_row(usage: &DiskUsageBefore52) -> Row {
    let images = usage.images.as_deref().unwrap_or_default();
    let active = images.iter().filter(|image| image.containers > 0);
    // What the images in use have for themselves stays.
    let used: i64 = active.clone().map(|image| image.size - image.shared_size).sum();
    row("Images", images.len(), active.count(), usage.layers_size, (usage.layers_size - used).max(0))
}

fn containers_row(usage: &DiskUsageBefore52) -> Row {
    let containers = usage.containers.as_deref().unwrap_or_default();
    let is_active =
        |container: &&ContainerSummary| ["running", "paused", "restarting"].contains(&container.state.as_str());
    let own = |container: &ContainerSummary| container.size_rw.unwrap_or(0);
    let active = containers.iter().filter(is_active).count();
    let idle = containers.iter().filter(|container| !is_active(container)).map(own).sum();
    row("Containers", containers.len(), active, containers.iter().map(own).sum(), idle)
}

fn volumes_row(usage: &DiskUsageBefore52) -> Row {
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let known = || volumes.iter().filter_map(|volume| volume.usage_data.as_ref());
    let active = known().filter(|usage| usage.ref_count > 0).count();
    let size = known().map(|usage| usage.size.max(0)).sum();
    let idle = known().filter(|usage| usage.ref_count == 0).map(|usage| usage.size.max(0)).sum();
    row("Local Volumes", volumes.len(), active, size, idle)
}

/// Every object in tables of its kind.
fn verbose(usage: &DiskUsageBefore52, matches: &Matches) -> Outcome {
    let images = usage.images.as_deref().unwrap_or_default();
    let rows: Vec<Row> = images.iter().flat_map(|image: &ImageSummary| images::rows(image, true, false)).collect();
    let columns = vec!["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"];
    print_line("Images space usage:\n")?;
    format::print(&List { columns, ..images::list() }, &rows, matches, None)?;
    print_line("\nContainers space usage:\n")?;
    let containers = usage.containers.as_deref().unwrap_or_default();
    let rows: Vec<Row> = containers.iter().map(container_row).collect();
    let columns = vec!["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"];
    format::print(&List { columns, ..ps::list() }, &rows, matches, None)?;
    print_line("\nLocal Volumes space usage:\n")?;
    let rows: Vec<Row> = usage.volumes.as_deref().unwrap_or_default().iter().map(volume_row).collect();
    let columns = vec!["Name", "Links", "Size"];
    let list = List { headers: VOLUME_HEADERS, columns, quiet_field: "Name", type_name: "volumeContext" };
    format::print(&list, &rows, matches, None)?;
    print_line("\nBuild cache usage: 0B\n")?;
    let list = List {
        headers: CACHE_HEADERS,
        columns: CACHE_COLUMNS.to_vec(),
        quiet_field: "ID",
        type_name: "buildCacheContext",
    };
    format::print(&list, &[], matches, None)
}

/// A container's own bytes; what lies below isn't its own.
fn container_row(container: &ContainerSummary) -> Row {
    let mut row = ps::row(container, true);
    let own = human_size(u64::try_from(container.size_rw.unwrap_or(0)).unwrap_or(0));
    row.fields.iter_mut().filter(|(name, _)| *name == "Size").for_each(|(_, value)| value.clone_from(&own));
    row
}

fn volume_row(volume: &Volume) -> Row {
    let usage = volume.usage_data.clone().unwrap_or_default();
    Row {
        fields: vec![
            ("Name", volume.name.clone()),
            ("Links", usage.ref_count.to_string()),
            ("Size", bytes(usage.size)),
        ],
        labels: BTreeMap::new(),
    }
}

static VOLUME_HEADERS: &[(&str, &str)] = &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];

static CACHE_HEADERS: &[(&str, &str)] = &[
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];
const CACHE_COLUMNS: [&str; 7] = ["ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reclaimable_is_what_no_container_needs_alone() {
        let image =
            |size, shared_size, containers| ImageSummary { size, shared_size, containers, ..ImageSummary::default() };
        let images = Some(vec![image(300, 100, 1), image(150, 100, 0)]);
        let usage = DiskUsageBefore52 { layers_size: 350, images, ..DiskUsageBefore52::default() };
        let shown: Vec<String> = images_row(&usage).fields.into_iter().map(|(_, value)| value).collect();
        assert_eq!(shown, ["Images", "2", "1", "350B", "150B (42%)"]);
        let nothing: Vec<String> = volumes_row(&usage).fields.into_iter().map(|(_, value)| value).collect();
        assert_eq!(nothing, ["Local Volumes", "0", "0", "0B", "0B"]);
    }
}
