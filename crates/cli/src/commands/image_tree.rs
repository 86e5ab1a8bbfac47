//! `corten images --tree`: each image with the manifests behind its names.

use corten_api_types::{ImageSummary, ManifestSummary};
use corten_base::units::human_size_with_precision;

use crate::commands::print_line;
use crate::failure::{Failure, Outcome};
use crate::format::short_id;
use crate::matches::Matches;
use crate::table;

/// Refuses what can't be shown as a tree, in Docker's words.
pub(super) fn check(matches: &Matches) -> Outcome {
    for (flag, conflicts) in [
        ("quiet", matches.is_on("quiet")),
        ("no-trunc", matches.is_on("no-trunc")),
        ("digests", matches.is_on("digests")),
        ("format", matches.get("format").is_some_and(|format| !format.is_empty())),
    ] {
        if conflicts {
            return Err(Failure::message(format!("--{flag} is not yet supported with --tree")));
        }
    }
    Ok(())
}

pub(super) fn print(images: &[ImageSummary]) -> Outcome {
    let mut text = "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA\n".to_owned();
    for image in images {
        let manifests = image.manifests.as_deref().unwrap_or_default();
        let names = if image.repo_tags.is_empty() { vec!["<untagged>".to_owned()] } else { image.repo_tags.clone() };
        let total = |size: fn(&ManifestSummary) -> i64| manifests.iter().map(size).sum::<i64>();
        let used = manifests.iter().any(is_used);
        for name in names {
            let (usage, content) = (total(|found| found.size.total), total(|found| found.size.content));
            text.push_str(&line(&name, &image.id, usage, content, used));
        }
        let children: Vec<&ManifestSummary> = manifests.iter().filter(|found| found.image_data.is_some()).collect();
        for (at, child) in children.iter().enumerate() {
            let branch = if at + 1 == children.len() { "└─" } else { "├─" };
            let platform = child.image_data.as_ref().map(|data| data.platform.to_string()).unwrap_or_default();
            let name = format!("{branch} {platform}");
            text.push_str(&line(&name, &child.id, child.size.total, child.size.content, is_used(child)));
        }
    }
    print_line(table::align(&text).trim_end())
}

fn is_used(manifest: &ManifestSummary) -> bool {
    manifest.image_data.as_ref().is_some_and(|data| !data.containers.is_empty())
}

fn line(name: &str, id: &str, usage: i64, content: i64, used: bool) -> String {
    let size = |bytes: i64| human_size_with_precision(bytes.max(0) as f64, 3);
    let mark = if used { "U" } else { "" };
    format!("{name}\t{}\t{}\t{}\t{mark}\n", short_id(id, true), size(usage), size(content))
}
