//! `corten ps`

use corten_api_types::{ContainerSummary, PortSummary};
use corten_base::Reference;
use corten_base::units::human_size_with_precision;

use crate::args::report;
use crate::command::{Arguments, Command, switch, value};
use crate::commands::LIST_FORMAT;
use crate::container::signed;
use crate::failure::Outcome;
use crate::filters;
use crate::format::{self, List, Row, join_labels, mentions, short_id};
use crate::json;
use crate::matches::Matches;
use crate::session::Session;
use crate::table::ellipsis;

pub(crate) static COMMAND: Command = Command {
    spellings: &["container ls", "container list", "container ps", "ps"],
    usage: "[OPTIONS]",
    about: "List containers",
    flags: &[&[
        switch("all", "Show all containers, not only running ones").short('a'),
        value("filter", "filter", "Show only containers that match (e.g. \"status=exited\")")
            .short('f')
            .check(filters::filter),
        value("format", "string", LIST_FORMAT),
        value("last", "int", "Show the n containers created last, in whatever state")
            .short('n')
            .check(signed)
            .default("-1"),
        switch("latest", "Show the container created last, in whatever state").short('l'),
        switch("no-trunc", "Show everything in full length"),
        switch("quiet", "Show only container IDs").short('q'),
        switch("size", "Show the size of containers' files").short('s'),
    ]],
    arguments: Arguments::None,
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    if matches.is_on("quiet") && matches.is_set("format") {
        report("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let with_size = matches.is_on("size") || mentions(matches, ".Size");
    let last = match matches.get("last") {
        Some(number) if !number.starts_with('-') => Some(number),
        _ => matches.is_on("latest").then_some("1"),
    };
    let containers: Vec<ContainerSummary> = session
        .client()?
        .get("/containers/json")
        .flag("all", matches.is_on("all"))
        .query_if("limit", last)
        .flag("size", with_size)
        .query_if("filters", filters::to_query(matches, &[]).as_deref())
        .send()?
        .json()?;
    let truncate = !matches.is_on("no-trunc");
    let rows: Vec<Row> = containers.iter().map(|container| row(container, truncate)).collect();
    let mut columns = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    if matches.is_on("size") {
        columns.push("Size");
    }
    let list = List { columns, ..list() };
    if matches.is_on("quiet") {
        return format::print_quiet(&list, &rows);
    }
    let configured = session.config().ps_format.as_deref();
    format::print(&list, &rows, matches, configured)
}

/// Lists of containers, without columns.
pub(super) fn list() -> List {
    List { headers: HEADERS, columns: Vec::new(), quiet_field: "ID", type_name: "ContainerContext" }
}

static HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

pub(super) fn row(container: &ContainerSummary, truncate: bool) -> Row {
    let local = container.mounts.iter().filter(|mount| mount.driver == "local").count();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    Row {
        fields: vec![
            ("ID", short_id(&container.id, truncate)),
            ("Names", names(&container.names, truncate)),
            ("Image", image(container, truncate)),
            ("Command", command(&container.command, truncate)),
            ("CreatedAt", format::timestamp(container.created)),
            ("RunningFor", format::ago(container.created)),
            ("Ports", ports(&container.ports)),
            ("State", container.state.clone()),
            ("Status", container.status.clone()),
            ("Size", size(container)),
            ("Labels", join_labels(&container.labels)),
            ("Mounts", mounts(container, truncate)),
            ("LocalVolumes", local.to_string()),
            ("Networks", networks.join(",")),
            ("Platform", String::new()),
        ],
        labels: container.labels.clone(),
    }
}

/// A container's own name; names that links gave it have a second slash, and are shown in full output only.
fn names(names: &[String], truncate: bool) -> String {
    let plain = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    plain.filter(|name| !truncate || !name.contains('/')).collect::<Vec<_>>().join(",")
}

fn image(container: &ContainerSummary, truncate: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_owned();
    }
    if !truncate {
        return container.image.clone();
    }
    let id = short_id(&container.image_id, true);
    if !id.is_empty() && id == short_id(&container.image, true) {
        return id;
    }
    match Reference::parse_normalized(&container.image) {
        Ok(reference) => match reference.tag() {
            Some(tag) => format!("{}:{tag}", reference.familiar_name()),
            None => reference.familiar_name(),
        },
        Err(_) => container.image.clone(),
    }
}

fn command(command: &str, truncate: bool) -> String {
    const WIDTH: usize = 20;
    json::string(&if truncate { ellipsis(command, WIDTH) } else { command.to_owned() })
}

fn size(container: &ContainerSummary) -> String {
    let shown = |bytes: Option<i64>| human_size_with_precision(bytes.unwrap_or_default() as f64, 3);
    match container.size_root_fs {
        Some(total) if total > 0 => format!("{} (virtual {})", shown(container.size_rw), shown(container.size_root_fs)),
        _ => shown(container.size_rw),
    }
}

fn mounts(container: &ContainerSummary, truncate: bool) -> String {
    const WIDTH: usize = 15;
    let name = |mount: &corten_api_types::MountPoint| {
        let name = if mount.name.is_empty() { mount.source.clone() } else { mount.name.clone() };
        if truncate { ellipsis(&name, WIDTH) } else { name }
    };
    container.mounts.iter().map(name).collect::<Vec<_>>().join(",")
}

/// Neighbouring ports that are mapped alike are shown as a range; those on another port of the host follow one by one.
fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by_key(|port| (port.private_port, &port.ip, port.public_port, &port.protocol));
    let mut finished = Vec::new();
    let mut open: Vec<Range<'_>> = Vec::new();
    let mut mapped = Vec::new();
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            mapped.push(format!("{}->{}/{}", address(&port.ip, port.public_port), port.private_port, port.protocol));
            continue;
        }
        let same = open.iter_mut().find(|range| range.ip == port.ip && range.protocol == port.protocol);
        match same {
            Some(range) if range.last.checked_add(1) == Some(port.private_port) => range.last = port.private_port,
            Some(range) => {
                finished.push(range.show());
                (range.first, range.last) = (port.private_port, port.private_port);
            }
            None => open.push(Range {
                ip: &port.ip,
                protocol: &port.protocol,
                first: port.private_port,
                last: port.private_port,
            }),
        }
    }
    finished.extend(open.iter().map(Range::show));
    finished.extend(mapped);
    finished.join(", ")
}

struct Range<'a> {
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl Range<'_> {
    fn show(&self) -> String {
        let ports =
            if self.first == self.last { self.first.to_string() } else { format!("{}-{}", self.first, self.last) };
        match self.ip {
            "" => format!("{ports}/{}", self.protocol),
            ip => format!("{}->{ports}/{}", address(ip, &ports), self.protocol),
        }
    }
}

fn address(ip: &str, port: impl std::fmt::Display) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: u16, protocol: &str) -> PortSummary {
        PortSummary { ip: ip.to_owned(), private_port: private, public_port: public, protocol: protocol.to_owned() }
    }

    #[test]
    fn port_lists() {
        let all = [
            port("0.0.0.0", 80, 8080, "tcp"),
            port("::", 80, 8080, "tcp"),
            port("", 443, 0, "tcp"),
            port("", 444, 0, "tcp"),
            port("", 53, 0, "udp"),
        ];
        assert_eq!(ports(&all), "53/udp, 443-444/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        let same = [port("0.0.0.0", 80, 80, "tcp"), port("0.0.0.0", 81, 81, "tcp"), port("0.0.0.0", 90, 90, "tcp")];
        assert_eq!(ports(&same), "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:90->90/tcp");
    }

    #[test]
    fn cells() {
        assert_eq!(command("/docker-entrypoint.sh nginx", true), "\"/docker-entrypoint.…\"");
        assert_eq!(names(&["/web".to_owned(), "/other/web".to_owned()], true), "web");
        assert_eq!(names(&["/web".to_owned(), "/other/web".to_owned()], false), "web,other/web");
    }
}
