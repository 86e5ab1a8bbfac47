//! Giving images names.

use std::time::SystemTime;

use corten_base::{ImageId, Reference, time};

use crate::record::{self, NameRow};
use crate::{Error, Images, Result};

impl Images {
    /// Gives an image another name (`latest` where it has no tag), taking it from the image that had it. Survives power loss.
    ///
    /// # Errors
    /// As [`resolve`](Images::resolve); [`Error::InvalidName`] for a name with a digest or one that looks like a digest.
    pub fn tag(&self, name: &str, target: &Reference) -> Result<ImageId> {
        if target.digest().is_some() {
            return Err(Error::InvalidName("cannot import digest reference".into()));
        }
        if target.familiar_name() == "sha256" {
            return Err(Error::InvalidName(
                "refusing to create an ambiguous tag using digest algorithm as name".into(),
            ));
        }
        let image = self.find_named(name)?;
        let id = image.id.clone();
        let reference = target.clone().with_default_tag();
        let familiar = reference.familiar();
        let row = NameRow { reference, image: image.id.clone(), target: image.target };
        let namespace = self.namespace().to_string();
        let now = time::unix_nanos(SystemTime::now());
        self.database().write(move |transaction| -> Result<()> {
            // It may have been removed since it was found.
            if record::image(transaction, &namespace, &row.image)?.is_none() {
                return Err(Error::NotFound(row.image.to_string()));
            }
            record::put_name(transaction, &namespace, &row)?;
            record::touch(transaction, &namespace, &row.image, now)
        })?;
        self.publish("tag", &id, &familiar, &image.labels);
        Ok(id)
    }
}
