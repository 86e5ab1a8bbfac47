//! `corten rmi`

use corten_api_types::ImageDeleteItem;

use crate::args::report;
use crate::command::{Arguments, Command, switch, value};
use crate::commands::pull::platform_json;
use crate::commands::{print_line, segment};
use crate::container::csv;
use crate::failure::{Failure, Outcome};
use crate::matches::Matches;
use crate::session::Session;

pub(crate) static COMMAND: Command = Command {
    spellings: &["image rm", "image remove", "rmi"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove images",
    flags: &[&[
        switch("force", "Remove the image even if it has other names or stopped containers use it").short('f'),
        switch("no-prune", "Keep untagged parents"),
        value("platform", "strings", "Remove only the image of this platform")
            .check(|text| csv::fields(text).map(drop)),
    ]],
    arguments: Arguments::AtLeast(1),
    interspersed: true,
    run,
};

fn run(session: &Session, matches: &Matches) -> Outcome {
    let client = session.client()?;
    let platforms = platforms(matches)?;
    let (mut failures, mut fatal) = (Vec::new(), false);
    for name in &matches.arguments {
        let mut request = client
            .delete(&format!("/images/{}", segment(name)))
            .flag("force", matches.is_on("force"))
            .flag("noprune", matches.is_on("no-prune"));
        for platform in &platforms {
            request = request.query("platforms", platform);
        }
        let answer = request.send().and_then(|response| response.json::<Vec<ImageDeleteItem>>());
        match answer {
            Ok(items) => items.iter().try_for_each(show)?,
            Err(error) => {
                fatal |= !(matches.is_on("force") && error.is_not_found());
                failures.push(error.to_string());
            }
        }
    }
    failures.iter().for_each(|failure| report(failure));
    if fatal { Err(Failure::Status(1)) } else { Ok(()) }
}

/// The platforms given, each as the API's JSON.
fn platforms(matches: &Matches) -> Outcome<Vec<String>> {
    let mut platforms = Vec::new();
    for text in matches.all("platform") {
        let fields = csv::fields(text).map_err(Failure::message)?;
        platforms.extend(fields.iter().map(|field| platform_json(field)).collect::<Outcome<Vec<_>>>()?);
    }
    Ok(platforms)
}

fn show(item: &ImageDeleteItem) -> Outcome {
    match item.deleted.as_str() {
        "" => print_line(format_args!("Untagged: {}", item.untagged)),
        digest => print_line(format_args!("Deleted: {digest}")),
    }
}
