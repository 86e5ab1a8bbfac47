//! `corten images`

use std::collections::BTreeMap;

use corten_api_types::ImageSummary;
use corten_base::Reference;
use corten_base::units::{human_size, human_size_with_precision};

use crate::command::{Arguments, Command, switch, value};
use crate::commands::{LIST_FORMAT, image_tree};
use crate::failure::Outcome;
use crate::filters;
use crate::format::{self, List, Row, mentions, short_id};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image ls", "image list", "images"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    flags: &[&[
        switch("all", "Show intermediate images too").short('a'),
        switch("digests", "Show digests"),
        value("filter", "filter", "Show only images that match (e.g. \"dangling=true\")")
            .short('f')
            .check(filters::filter),
        value("format", "string", LIST_FORMAT),
        switch("no-trunc", "Show everything in full length"),
        switch("quiet", "Show only image IDs").short('q'),
        switch("tree", "Show the manifests of each image (EXPERIMENTAL)"),
    ]],
    arguments: Arguments::AtMost(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let reference: Vec<(&str, &str)> =
        matches.arguments.first().map(|name| ("reference", name.as_str())).into_iter().collect();
    let tree = matches.is_on("tree");
    if tree {
        image_tree::check(matches)?;
    }
    let with_shared = [".SharedSize", ".UniqueSize"].iter().any(|field| mentions(matches, field));
    let images: Vec<ImageSummary> = session
        .client()?
        .get("/images/json")
        .flag("all", matches.is_on("all"))
        .flag("manifests", tree)
        .flag("shared-size", with_shared)
        .query_if("filters", filters::to_query(matches, &reference).as_deref())
        .send()?
        .json()?;
    if tree {
        return image_tree::print(&images);
    }
    let with_digests = matches.is_on("digests") || mentions(matches, ".Digest");
    let truncate = !matches.is_on("no-trunc");
    let rows: Vec<Row> = images.iter().flat_map(|image| rows(image, truncate, with_digests)).collect();
    let columns = match matches.is_on("digests") {
        true => vec!["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
        false => vec!["Repository", "Tag", "ID", "CreatedSince", "Size"],
    };
    let list = List { columns, ..list() };
    let configured = if matches.is_on("quiet") { None } else { session.config().images_format.as_deref() };
    format::print(&list, &rows, matches, configured)
}

/// Lists of images, without columns.
pub(super) fn list() -> List {
    List { headers: HEADERS, columns: Vec::new(), quiet_field: "ID", type_name: "imageContext" }
}

static HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const NONE: &str = "<none>";

/// One row per tag, or per digest of a repository without tags, or one without a name.
pub(super) fn rows(image: &ImageSummary, truncate: bool, with_digests: bool) -> Vec<Row> {
    let digests = digests_by_repository(image);
    let mut rows = Vec::new();
    for name in &image.repo_tags {
        let Ok(reference) = Reference::parse_normalized(name) else { continue };
        let (repository, tag) = (reference.familiar_name(), reference.tag().unwrap_or(NONE).to_owned());
        let of_repository = digests.iter().filter(|(name, _)| *name == repository);
        let mut digests: Vec<&str> = of_repository.map(|(_, digest)| digest.as_str()).collect();
        if digests.is_empty() || !with_digests {
            digests = vec![NONE];
        }
        rows.extend(digests.iter().map(|digest| row(image, truncate, &repository, &tag, digest)));
    }
    let is_tagged = |repository: &str| {
        image
            .repo_tags
            .iter()
            .any(|name| Reference::parse_normalized(name).is_ok_and(|it| it.familiar_name() == repository))
    };
    let untagged = digests.iter().filter(|(repository, _)| !is_tagged(repository));
    rows.extend(
        untagged
            .map(|(repository, digest)| row(image, truncate, repository, NONE, if with_digests { digest } else { "" })),
    );
    if rows.is_empty() {
        rows.push(row(image, truncate, NONE, NONE, NONE));
    }
    rows
}

fn digests_by_repository(image: &ImageSummary) -> Vec<(String, String)> {
    let split = |name: &String| {
        let reference = Reference::parse_normalized(name).ok()?;
        Some((reference.familiar_name(), reference.digest()?.to_string()))
    };
    image.repo_digests.iter().filter_map(split).collect()
}

fn row(image: &ImageSummary, truncate: bool, repository: &str, tag: &str, digest: &str) -> Row {
    let known = |bytes: i64| match u64::try_from(bytes) {
        Ok(bytes) => human_size(bytes),
        Err(_) => "N/A".to_owned(),
    };
    let unique = if image.shared_size < 0 { -1 } else { image.size - image.shared_size };
    Row {
        fields: vec![
            ("ID", short_id(&image.id, truncate)),
            ("Repository", repository.to_owned()),
            ("Tag", tag.to_owned()),
            ("Digest", digest.to_owned()),
            ("CreatedSince", format::ago(image.created)),
            ("CreatedAt", format::timestamp(image.created)),
            ("Size", human_size_with_precision(image.size.max(0) as f64, 3)),
            ("Containers", if image.containers < 0 { "N/A".to_owned() } else { image.containers.to_string() }),
            ("VirtualSize", known(image.size)),
            ("SharedSize", known(image.shared_size)),
            ("UniqueSize", known(unique)),
        ],
        labels: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tags: &[&str], digests: &[&str], with_digests: bool, expect: &[&str]) {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let image = ImageSummary { repo_tags: owned(tags), repo_digests: owned(digests), ..ImageSummary::default() };
        let shown: Vec<String> = rows(&image, true, with_digests)
            .iter()
            .map(|row| format!("{} {} {}", row.fields[1].1, row.fields[2].1, row.fields[3].1))
            .collect();
        assert_eq!(shown, expect);
    }

    #[test]
    fn names_and_digests() {
        let digest = format!("sha256:{}", "1".repeat(64));
        let named = format!("nginx@{digest}");
        check(&["nginx:latest", "x:1"], &[&named], false, &["nginx latest <none>", "x 1 <none>"]);
        check(&["nginx:latest", "x:1"], &[&named], true, &[&format!("nginx latest {digest}"), "x 1 <none>"]);
        check(&[], &[&named], false, &["nginx <none> "]);
        check(&[], &[&named], true, &[&format!("nginx <none> {digest}")]);
        check(&[], &[], true, &["<none> <none> <none>"]);
    }
}
