//! `GET /system/df`: what everything takes on the disk; `POST /system/check`: whether it is sound.

use crate::call::{Answer, Call};
use crate::convert;
use crate::error::Failure;
use crate::response;
use corten_api_types::{
    Checkup, CheckupProblem, ContainerSummary, DiskUsage, DiskUsageBefore52, ImageSummary, KindUsage, Volume,
    VolumeUsage,
};
use corten_base::ErrorKind;
use corten_engine::ListOptions;
use corten_images::Filters;
use std::time::SystemTime;

/// The kinds that `type` may name.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// All of `type`, or what it names.
struct Wanted(Vec<String>);

impl Wanted {
    fn of(call: &Call) -> Result<Wanted, Failure> {
        let kinds = call.query.all("type");
        match kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            Some(unknown) => Err(Failure::invalid(format!("unknown object type: {unknown}"))),
            None => Ok(Wanted(kinds)),
        }
    }

    fn has(&self, kind: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted == kind)
    }
}

pub(super) async fn usage(call: Call) -> Answer {
    let wanted = Wanted::of(&call)?;
    let mut usage = DiskUsage::default();
    if wanted.has("image") {
        usage.image_usage = Some(images(&call).await?);
    }
    if wanted.has("container") {
        usage.container_usage = Some(containers(&call).await?);
    }
    if wanted.has("volume") {
        usage.volume_usage = Some(volumes(&call).await?);
    }
    if wanted.has("build-cache") {
        usage.build_cache_usage = Some(KindUsage { items: Some(Vec::new()), ..KindUsage::default() });
    }
    if !call.since(52) {
        return Ok(response::json(&before_52(usage)));
    }
    if !call.query.flag("verbose") {
        usage.image_usage.iter_mut().for_each(|kind| kind.items = None);
        usage.container_usage.iter_mut().for_each(|kind| kind.items = None);
        usage.volume_usage.iter_mut().for_each(|kind| kind.items = None);
        usage.build_cache_usage.iter_mut().for_each(|kind| kind.items = None);
    }
    Ok(response::json(&usage))
}

fn before_52(usage: DiskUsage) -> DiskUsageBefore52 {
    DiskUsageBefore52 {
        layers_size: usage.image_usage.as_ref().map_or(0, |images| images.total_size),
        images: usage.image_usage.and_then(|images| images.items),
        containers: usage.container_usage.and_then(|containers| containers.items),
        volumes: usage.volume_usage.and_then(|volumes| volumes.items),
        build_cache: usage.build_cache_usage.and_then(|cache| cache.items),
    }
}

/// Corten's own: reads all that is stored of images again, and mends it with `repair`.
pub(super) async fn check(call: Call) -> Answer {
    let found = call.engine.images().check(call.query.flag("repair")).await?;
    let problems = found.problems.into_iter().map(|problem| CheckupProblem {
        subject: problem.subject,
        problem: problem.what,
        repaired: problem.repaired,
    });
    Ok(response::json(&Checkup {
        blobs: found.blobs,
        blob_bytes: found.blob_bytes,
        layers: found.layers,
        images: found.images,
        names: found.names,
        parts: found.parts,
        part_bytes: found.part_bytes,
        problems: problems.collect(),
        space_reclaimed: found.freed,
    }))
}

async fn images(call: &Call) -> Result<KindUsage<ImageSummary>, Failure> {
    let images = call.engine.images();
    let sharing = images.sharing().await?;
    let list = images.list(Filters::default()).await?;
    let items: Vec<ImageSummary> = list
        .iter()
        .map(|image| {
            let users = images.users(&image.id);
            ImageSummary {
                containers: i64::try_from(users).unwrap_or(i64::MAX),
                shared_size: signed(sharing.shared.get(&image.id).copied().unwrap_or(0)),
                descriptor: None,
                ..convert::image::summary(image)
            }
        })
        .collect();
    // What the images in use have for themselves stays in any case; of shared layers nobody can say.
    let active = items.iter().filter(|image| image.containers > 0);
    let used: i64 = active.clone().map(|image| image.size - image.shared_size).sum();
    // What interrupted pulls left is nobody's until they go on, and `image prune` takes it.
    let total_size = signed(sharing.layers + images.interrupted().await?);
    Ok(KindUsage {
        active_count: count(active.count()),
        total_count: count(items.len()),
        reclaimable: (total_size - used).max(0),
        total_size,
        items: Some(items),
    })
}

async fn containers(call: &Call) -> Result<KindUsage<ContainerSummary>, Failure> {
    let containers = call.engine.containers();
    let now = SystemTime::now();
    let mut items = Vec::new();
    let (mut active_count, mut total_size, mut reclaimable) = (0, 0, 0);
    for view in containers.list(&ListOptions { all: true, ..ListOptions::default() })? {
        let sizes = match containers.size(view.id.as_str()).await {
            Ok(sizes) => sizes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let own = signed(sizes.0);
        total_size += own;
        if view.state.is_running() {
            active_count += 1;
        } else {
            reclaimable += own;
        }
        items.push(convert::list::summary(&view, Some(sizes), now));
    }
    let total_count = count(items.len());
    Ok(KindUsage { active_count, total_count, reclaimable, total_size, items: Some(items) })
}

async fn volumes(call: &Call) -> Result<KindUsage<Volume>, Failure> {
    let volumes = call.engine.volumes();
    let usage = volumes.usage().await?;
    let mut kind = KindUsage::default();
    let mut items = Vec::new();
    for volume in volumes.list(corten_volumes::Filters::default()).await? {
        let Some(&(bytes, users)) = usage.get(volume.name.as_str()) else { continue };
        let (size, ref_count) = (signed(bytes), count(users));
        kind.total_size += size;
        if users > 0 {
            kind.active_count += 1;
        } else {
            kind.reclaimable += size;
        }
        items.push(Volume { usage_data: Some(VolumeUsage { ref_count, size }), ..convert::volume::volume(&volume) });
    }
    kind.total_count = count(items.len());
    kind.items = Some(items);
    Ok(kind)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}
