//! `corten stats`
//!
//! One thread per container reads what the daemon sends; this one keeps the last of each and paints. Without names, the
//! daemon's events say which containers come and go.

mod follow;
mod row;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use corten_api_types::{ContainerStats, ContainerSummary};

use crate::command::{Arguments, Command, switch, value};
use crate::commands::LIST_FORMAT;
use crate::failure::{Failure, Outcome};
use crate::format::{self, List};
use crate::matches::Matches;
use crate::session::Session;
use crate::streams::{Sink, write_plain};

use follow::{Change, Followers, News};

pub(crate) static COMMAND: Command = Command {
    spellings: &["container stats", "stats"],
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Show what containers use, as it changes",
    flags: &[&[
        switch("all", "Show all containers, not only running ones").short('a'),
        value("format", "string", LIST_FORMAT),
        switch("no-stream", "Show it once"),
        switch("no-trunc", "Show everything in full length"),
    ]],
    arguments: Arguments::AtLeast(0),
    interspersed: true,
    run,
};

/// Between two paintings.
const REPAINT: Duration = Duration::from_millis(500);
/// Without news for so long a container's figures say nothing any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// News that wait to be read.
const QUEUE: usize = 256;

/// A line of the table.
struct Entry {
    /// What the container is asked for by.
    name: String,
    last: Option<ContainerStats>,
    /// The last news of it, or the time since which there should have been some.
    heard: Instant,
    /// Its stream has ended, with this.
    error: Option<String>,
}

impl Entry {
    fn is_settled(&self) -> bool {
        self.last.is_some() || self.error.is_some()
    }

    /// The figures, unless they are too old.
    fn figures(&self) -> Option<&ContainerStats> {
        self.last.as_ref().filter(|_| self.error.is_none())
    }
}

/// What is shown, and where news of it come from.
struct Board<'a> {
    entries: Vec<Entry>,
    followers: Followers<'a>,
    news: Receiver<News>,
    shows_all: bool,
    streams: bool,
}

fn run(session: &Session, matches: &Matches) -> Outcome {
    if matches.arguments.iter().any(String::is_empty) {
        return Err(Failure::message("invalid container name or ID: value is empty"));
    }
    let (sender, news): (SyncSender<News>, _) = sync_channel(QUEUE);
    // Connecting is where an absent daemon is noticed.
    let client = session.client()?;
    let mut board = Board {
        entries: Vec::new(),
        followers: Followers::new(session, sender)?,
        news,
        shows_all: matches.is_on("all"),
        streams: !matches.is_on("no-stream"),
    };
    let is_open = matches.arguments.is_empty();
    if is_open {
        // Events first, so that no container is missed between the list and them.
        if board.streams {
            board.followers.follow_events()?;
        }
        let list = client.get("/containers/json").flag("all", board.shows_all).send()?;
        for container in list.json::<Vec<ContainerSummary>>()? {
            board.add(container.id.chars().take(12).collect())?;
        }
    } else {
        matches.arguments.iter().try_for_each(|name| board.add(name.clone()))?;
    }
    board.settle()?;
    let failed: Vec<&str> = board.entries.iter().filter_map(|entry| entry.error.as_deref()).collect();
    if !is_open && !failed.is_empty() {
        return Err(Failure::message(failed.join("\n")));
    }
    board.show(session, matches)
}

impl Board<'_> {
    fn add(&mut self, name: String) -> Outcome {
        if self.entries.iter().all(|entry| entry.name != name) {
            self.followers.follow(&name, self.streams)?;
            self.entries.push(Entry { name, last: None, heard: Instant::now(), error: None });
        }
        Ok(())
    }

    /// Waits until each container has been heard of, or should have been.
    fn settle(&mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while !self.entries.iter().all(Entry::is_settled) && self.take_until(deadline)? {}
        Ok(())
    }

    /// Takes one piece of news; false when there was none in time.
    fn take_until(&mut self, deadline: Instant) -> Outcome<bool> {
        match self.news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(News::Sample(name, stats)) => {
                if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
                    (entry.heard, entry.error, entry.last) = (Instant::now(), None, Some(*stats));
                }
            }
            Ok(News::Ended(name, why)) => {
                // A single answer is all that was asked for.
                if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name)
                    && (self.streams || entry.last.is_none())
                {
                    entry.error = Some(why);
                }
            }
            Ok(News::Changed(id, change)) => self.change(id, change)?,
            Ok(News::Lost(error)) => return Err(error.into()),
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            // The followers' own sender lives as long as the board.
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
        Ok(true)
    }

    fn change(&mut self, id: String, change: Change) -> Outcome {
        match change {
            Change::Started => self.add(id),
            Change::Created if self.shows_all => self.add(id),
            Change::Died if !self.shows_all => {
                self.entries.retain(|entry| entry.name != id);
                Ok(())
            }
            Change::Removed => {
                self.entries.retain(|entry| entry.name != id);
                Ok(())
            }
            Change::Created | Change::Died => Ok(()),
        }
    }

    /// Paints once, or over and over until the user has seen enough.
    fn show(&mut self, session: &Session, matches: &Matches) -> Outcome {
        let list = List {
            headers: row::HEADERS,
            columns: vec!["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
            quiet_field: "ID",
            type_name: "statsContext",
        };
        let configured = session.config().stats_format.as_deref();
        loop {
            let rows: Vec<_> =
                self.entries.iter().map(|it| row::row(&it.name, it.last.as_ref(), it.figures(), matches)).collect();
            let text = format::render(&list, &rows, matches, configured)?;
            if !self.streams {
                return write_plain(Sink::Stdout, text.as_bytes());
            }
            write_plain(Sink::Stdout, over_the_last(&text).as_bytes())?;
            let next = Instant::now() + REPAINT;
            while self.take_until(next)? {}
            for entry in self.entries.iter_mut().filter(|entry| entry.heard.elapsed() > PATIENCE) {
                entry.error.get_or_insert_with(|| "timeout waiting for stats".to_owned());
            }
        }
    }
}

/// From the screen's upper left corner, each line cleared to its end and the rest of the screen too.
fn over_the_last(text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paintings_cover_each_other() {
        assert_eq!(over_the_last("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
