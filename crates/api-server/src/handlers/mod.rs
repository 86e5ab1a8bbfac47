//! One module per tag of the API: decode, adapt, call, encode.

mod container;
mod disk;
mod exec;
mod image;
mod lifecycle;
mod network;
mod plugin;
mod resources;
mod streams;
mod swarm;
mod system;
mod volume;

use crate::router::Route;

/// All operations, by tag. Literal paths stand before those with names that span slashes.
pub(crate) const ROUTES: &[&[Route]] = &[
    container::ROUTES,
    lifecycle::ROUTES,
    resources::ROUTES,
    streams::ROUTES,
    exec::ROUTES,
    image::ROUTES,
    network::ROUTES,
    volume::ROUTES,
    system::ROUTES,
    plugin::ROUTES,
    swarm::ROUTES,
];
