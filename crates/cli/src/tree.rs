//! All commands, and how a command line's first words lead to one of them.

use crate::command::Command;
use crate::commands;

/// Groups of commands, as the program's help lists them.
pub(crate) static GROUPS: &[(&str, &str)] = &[
    ("container", "Work with containers"),
    ("daemon", "Start and stop the daemon"),
    ("image", "Work with images"),
    ("manifest", "Work with image manifests and lists of them"),
    ("network", "Work with networks"),
    ("system", "Look at the engine as a whole"),
    ("volume", "Work with volumes"),
];

/// The commands that the program's help shows first.
pub(crate) static COMMON: &[&str] = &["run", "exec", "ps", "pull", "push", "images", "login", "version", "info"];

/// Every command there is.
pub(crate) static COMMANDS: &[&Command] = &[
    &commands::attach::COMMAND,
    &commands::check::COMMAND,
    &commands::create::COMMAND,
    &commands::daemon::STOP,
    &commands::df::COMMAND,
    &commands::exec::COMMAND,
    &commands::history::COMMAND,
    &commands::image_prune::COMMAND,
    &commands::images::COMMAND,
    &commands::import::COMMAND,
    &commands::info::COMMAND,
    &commands::inspect::ANY,
    &commands::inspect::CONTAINER,
    &commands::inspect::IMAGE,
    &commands::inspect::NETWORK,
    &commands::inspect::VOLUME,
    &commands::kill::COMMAND,
    &commands::load::COMMAND,
    &commands::login::LOGIN,
    &commands::login::LOGOUT,
    &commands::logs::COMMAND,
    &commands::manifest::annotate::COMMAND,
    &commands::manifest::create::COMMAND,
    &commands::manifest::inspect::COMMAND,
    &commands::manifest::push::COMMAND,
    &commands::manifest::rm::COMMAND,
    &commands::network::CREATE,
    &commands::network::LS,
    &commands::network::RM,
    &commands::pause::PAUSE,
    &commands::pause::UNPAUSE,
    &commands::port::COMMAND,
    &commands::ps::COMMAND,
    &commands::pull::COMMAND,
    &commands::push::COMMAND,
    &commands::rename::COMMAND,
    &commands::restart::COMMAND,
    &commands::rm::COMMAND,
    &commands::rmi::COMMAND,
    &commands::run::COMMAND,
    &commands::save::COMMAND,
    &commands::search::COMMAND,
    &commands::start::COMMAND,
    &commands::stats::COMMAND,
    &commands::stop::COMMAND,
    &commands::tag::COMMAND,
    &commands::top::COMMAND,
    &commands::update::COMMAND,
    &commands::version::COMMAND,
    &commands::volume::CREATE,
    &commands::volume::LS,
    &commands::volume::RM,
    &commands::wait::COMMAND,
];

/// Where the first words of a command line lead.
pub(crate) enum Found<'a> {
    /// A command, the spelling used, and the words that follow.
    Command(&'static Command, &'static str, &'a [String]),
    /// A group alone or with something it does not know.
    Group(&'static str, &'static str, &'a [String]),
    /// Nothing of that name.
    Unknown,
}

/// Finds the command that `words` begin with.
pub(crate) fn find(words: &[String]) -> Found<'_> {
    let Some(first) = words.first() else { return Found::Unknown };
    if let Some((group, about)) = GROUPS.iter().find(|(group, _)| group == first) {
        let path = words.get(1).map(|second| format!("{group} {second}"));
        return match path.and_then(|path| find_spelling(&path)) {
            Some((command, spelling)) => Found::Command(command, spelling, &words[2..]),
            None => Found::Group(group, about, &words[1..]),
        };
    }
    match find_spelling(first) {
        Some((command, spelling)) => Found::Command(command, spelling, &words[1..]),
        None => Found::Unknown,
    }
}

fn find_spelling(path: &str) -> Option<(&'static Command, &'static str)> {
    COMMANDS.iter().find_map(|command| {
        let spelling = command.spellings.iter().find(|spelling| **spelling == path)?;
        Some((*command, *spelling))
    })
}

/// The commands of a group by their main names there, sorted, with their descriptions.
pub(crate) fn commands_of(group: &str) -> Vec<(&'static str, &'static str)> {
    let in_group = |spelling: &&'static str| spelling.split_once(' ').filter(|(first, _)| *first == group);
    let mut entries: Vec<_> = COMMANDS
        .iter()
        .filter_map(|command| {
            let (_, name) = command.spellings.iter().find_map(in_group)?;
            Some((name, command.about))
        })
        .collect();
    entries.sort_unstable();
    entries
}

/// A command that can be called without its group.
pub(crate) fn top_level(name: &str) -> Option<(&'static str, &'static str)> {
    find_spelling(name).map(|(command, spelling)| (spelling, command.about))
}

/// All commands that can be called without their group, sorted.
pub(crate) fn all_top_level() -> Vec<(&'static str, &'static str)> {
    let mut entries: Vec<_> = COMMANDS
        .iter()
        .flat_map(|command| command.spellings.iter().map(move |spelling| (*spelling, command.about)))
        .filter(|(spelling, _)| !spelling.contains(' '))
        .collect();
    entries.sort_unstable();
    entries
}
