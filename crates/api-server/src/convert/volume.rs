//! Volumes.

use super::null_if_empty;
use crate::error::Failure;
use crate::query::{self, Filters};
use corten_api_types::{Volume, VolumeCreateRequest};
use corten_base::time::rfc3339;
use corten_volumes::CreateVolume;

/// One volume.
pub(crate) fn volume(volume: &corten_volumes::Volume) -> Volume {
    Volume {
        created_at: rfc3339(volume.created),
        driver: volume.driver.clone(),
        labels: null_if_empty(&volume.labels),
        mountpoint: volume.mountpoint.display().to_string(),
        name: volume.name.to_string(),
        options: null_if_empty(&volume.options),
        scope: "local".to_owned(),
        usage_data: None,
    }
}

/// What `POST /volumes/create` asks for.
pub(crate) fn create(request: VolumeCreateRequest) -> Result<CreateVolume, Failure> {
    if request.cluster_volume_spec.is_some() {
        return Err(Failure::unsupported("a cluster volume"));
    }
    Ok(CreateVolume {
        name: request.name,
        driver: request.driver,
        options: request.driver_opts.unwrap_or_default(),
        labels: request.labels.unwrap_or_default(),
    })
}

/// The list's filters.
pub(crate) fn filters(mut filters: Filters) -> Result<corten_volumes::Filters, Failure> {
    query::only(&filters, &["dangling", "name", "driver", "label", "label!"])?;
    let dangling = query::boolean(&filters, "dangling")?;
    let mut take = |name: &str| filters.remove(name).unwrap_or_default();
    Ok(corten_volumes::Filters {
        name: take("name"),
        label: take("label"),
        label_not: take("label!"),
        driver: take("driver"),
        dangling,
    })
}
