//! What images take on the disk: each layer once, and what images have together.

use std::collections::HashMap;

use corten_base::{ChainId, ImageId};
use corten_snapshot::Layer;

use crate::{Images, Result, record};

/// What the layers of a namespace's images take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Bytes of all layers that an image has, each counted once.
    pub layers: u64,
    /// For each image the bytes of those layers that another image has as well.
    pub shared: HashMap<ImageId, u64>,
}

impl Images {
    /// Measures the layers, from records alone.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata).
    pub fn sharing(&self) -> Result<Sharing> {
        let namespace = self.namespace().as_str();
        let images = self.database().read(|connection| record::images(connection, namespace))?;
        let layers: HashMap<ChainId, Layer> =
            self.snapshots().layers()?.into_iter().map(|layer| (layer.chain.clone(), layer)).collect();
        let stacks: Vec<(ImageId, Vec<&Layer>)> = images
            .into_iter()
            .map(|image| (image.id, image.chain.as_ref().map(|top| stack(&layers, top)).unwrap_or_default()))
            .collect();
        let mut users: HashMap<&ChainId, (usize, u64)> = HashMap::new();
        for layer in stacks.iter().flat_map(|(_, stack)| stack) {
            users.entry(&layer.chain).or_insert((0, layer.size)).0 += 1;
        }
        let shared = |stack: &[&Layer]| {
            stack.iter().filter(|layer| users[&layer.chain].0 > 1).map(|layer| layer.size).sum::<u64>()
        };
        Ok(Sharing {
            layers: users.values().map(|(_, size)| size).sum(),
            shared: stacks.iter().map(|(id, stack)| (id.clone(), shared(stack))).collect(),
        })
    }
}

/// A layer and those below it, as far as they are there.
fn stack<'a>(layers: &'a HashMap<ChainId, Layer>, top: &ChainId) -> Vec<&'a Layer> {
    std::iter::successors(layers.get(top), |layer| layers.get(layer.parent.as_ref()?)).collect()
}
