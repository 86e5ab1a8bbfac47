//! Image names: what is read can be written and read again, and says the same.

use corten_base::Reference;

use crate::{Form, Target};

pub(crate) const TARGET: Target = Target {
    name: "reference",
    form: Form::Lines,
    samples: &[
        "nginx",
        "user/app:v1",
        "localhost:5000/a/b:tag@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "[2001:db8::1]:5000/a",
    ],
    words: &["docker.io", "library", ":", "/", "@", "sha256:", "sha512:", "..", "__", "-", "localhost", ":latest", "A"],
    run,
};

fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    for line in text.split('\n') {
        let Ok(reference) = Reference::parse_normalized(line) else { continue };
        for written in [reference.to_string(), reference.familiar()] {
            let again = Reference::parse_normalized(&written);
            assert_eq!(again.as_ref(), Ok(&reference), "{line:?} as {written:?}");
        }
        // These become paths of URLs and names of folders.
        let path = reference.path();
        assert!(!path.split('/').any(|part| part.is_empty() || part == "." || part == ".."), "{path:?}");
        let domain = reference.domain();
        assert!(!domain.is_empty() && !domain.contains('/') && !domain.starts_with('.'), "{domain:?}");
    }
}
