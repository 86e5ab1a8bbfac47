//! `corten manifest annotate`

use corten_base::Platform;

use super::normalized;
use super::store::Store;
use crate::command::{Arguments, Command, value};
use crate::container::csv;
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["manifest annotate"],
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    about: "Say more of an image in a manifest list of this machine",
    flags: &[&[
        value("arch", "string", "Set the architecture"),
        value("os", "string", "Set the operating system"),
        value("os-features", "strings", "Add features of the operating system").check(features_fit),
        value("os-version", "string", "Set the version of the operating system"),
        value("variant", "string", "Set the variant of the architecture"),
    ]],
    arguments: Arguments::Exactly(2),
    interspersed: true,
    run,
};

/// What Docker's client lets a list say, by operating system.
const KNOWN: [(&str, &[&str]); 9] = [
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

fn features_fit(text: &str) -> Result<(), String> {
    csv::fields(text).map(drop)
}

fn run(session: &Session, matches: &Matches) -> Outcome {
    let (list_name, image_name) = (&matches.arguments[0], &matches.arguments[1]);
    let named = |what: &str, name: &str| {
        let failed = |error| Failure::message(format!("annotate: error parsing name for {what} {name}: {error}"));
        normalized(name).map_err(failed)
    };
    let (list, image) = (named("manifest list", list_name)?, named("manifest", image_name)?);
    let store = Store::of(session);
    let missing = || Failure::message(format!("manifest for image {image_name} does not exist in {list_name}"));
    let mut entry = store.find(&list, &image)?.ok_or_else(missing)?;
    let platform = entry.descriptor.platform.get_or_insert_default();
    annotate(platform, matches)?;
    let is_known = KNOWN.iter().any(|(os, all)| *os == platform.os && all.contains(&platform.architecture.as_str()));
    if !is_known {
        let (os, architecture) = (matches.text("os"), matches.text("arch"));
        return Err(Failure::message(format!(
            "manifest entry for image has unsupported os/arch combination: {os}/{architecture}"
        )));
    }
    store.save(&list, &image, &entry)
}

/// Sets what the command line names.
fn annotate(platform: &mut Platform, matches: &Matches) -> Outcome {
    let given = |flag| Some(matches.text(flag)).filter(|text| !text.is_empty()).map(str::to_owned);
    let Platform { architecture, os, variant, os_version, os_features } = platform;
    *os = given("os").unwrap_or(std::mem::take(os));
    *architecture = given("arch").unwrap_or(std::mem::take(architecture));
    *variant = given("variant").or(variant.take());
    *os_version = given("os-version").or(os_version.take());
    for text in matches.all("os-features") {
        for feature in csv::fields(text).map_err(Failure::message)? {
            if !os_features.contains(&feature) {
                os_features.push(feature);
            }
        }
    }
    Ok(())
}
