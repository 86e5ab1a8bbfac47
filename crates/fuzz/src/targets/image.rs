//! An image's configuration document: what is read can be written and read again, and says the same.

use corten_images::ImageConfig;

use crate::{Form, Target};

pub(crate) const TARGET: Target = Target {
    name: "image-config",
    form: Form::Json,
    samples: &[include_str!("image.json")],
    words: &[
        "linux",
        "amd64",
        "arm",
        "v7",
        "sha256:",
        "80/tcp",
        "NONE",
        "CMD-SHELL",
        "SIGTERM",
        "layers",
        "0001-01-01T00:00:00Z",
    ],
    run,
};

fn run(input: &[u8]) {
    let Ok(config) = serde_json::from_slice::<ImageConfig>(input) else { return };
    let platform = config.platform();
    assert!(platform.matches(&platform) || platform.variant.is_some(), "{platform} doesn't fit itself");
    let written = serde_json::to_vec(&config).expect("what was read can be written");
    let again: ImageConfig = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, config);
}
