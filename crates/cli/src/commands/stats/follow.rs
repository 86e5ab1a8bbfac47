//! Threads that read the daemon's streams, each on a connection of its own. They end with their streams or the program.

use std::io::BufRead as _;
use std::sync::mpsc::SyncSender;

use corten_api_types::{ContainerStats, EventMessage};
use corten_client::{Client, Error, Resolved};

use crate::commands::segment;
use crate::failure::{Outcome, local};
use crate::session::Session;

/// They hold a line of JSON and little else.
const STACK: usize = 256 * 1024;

/// What a thread tells.
pub(super) enum News {
    /// A container's figures.
    Sample(String, Box<ContainerStats>),
    /// No more of a container, and why.
    Ended(String, String),
    /// A container has come or gone.
    Changed(String, Change),
    /// There are no events any more.
    Lost(Error),
}

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Started,
    Died,
    Removed,
}

/// The threads' beginnings.
pub(super) struct Followers<'a> {
    session: &'a Session,
    daemon: Resolved,
    sender: SyncSender<News>,
}

impl<'a> Followers<'a> {
    pub fn new(session: &'a Session, sender: SyncSender<News>) -> Outcome<Followers<'a>> {
        Ok(Followers { session, daemon: session.endpoint()?, sender })
    }

    /// Tells of a container's figures, once or until they end.
    pub fn follow(&self, name: &str, streams: bool) -> Outcome {
        let (client, sender, name) = (self.client(), self.sender.clone(), name.to_owned());
        spawn(move || {
            let why = match samples(&client, &name, streams, &sender) {
                Ok(()) => "EOF".to_owned(),
                Err(error) => error.to_string(),
            };
            // Nobody listens any more: the program ends.
            let _ = sender.send(News::Ended(name, why));
        })
    }

    /// Tells of containers that come and go. The daemon listens when this returns.
    pub fn follow_events(&self) -> Outcome {
        let (client, sender) = (self.client(), self.sender.clone());
        let (subscribed, is_subscribed) = std::sync::mpsc::channel();
        spawn(move || {
            if let Err(error) = changes(&client, &sender, &subscribed) {
                let _ = sender.send(News::Lost(error));
            }
        })?;
        // A failure is told as news.
        let _ = is_subscribed.recv();
        Ok(())
    }

    fn client(&self) -> Client {
        self.session.unconnected(&self.daemon)
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Outcome {
    let spawned = std::thread::Builder::new().stack_size(STACK).spawn(work);
    spawned.map(drop).map_err(local("cannot start a thread"))
}

fn samples(client: &Client, name: &str, streams: bool, sender: &SyncSender<News>) -> Result<(), Error> {
    let path = format!("/containers/{}/stats", segment(name));
    let answer = client.get(&path).query("stream", if streams { "1" } else { "0" }).send()?;
    for line in answer.lines() {
        let line = line.map_err(|source| Error::Broken { during: "reading the answer", source })?;
        let stats = corten_api_types::decode(line.as_bytes()).map_err(Error::Decode)?;
        if sender.send(News::Sample(name.to_owned(), Box::new(stats))).is_err() {
            break;
        }
    }
    Ok(())
}

fn changes(client: &Client, sender: &SyncSender<News>, subscribed: &std::sync::mpsc::Sender<()>) -> Result<(), Error> {
    let answer = client.get("/events").query("filters", r#"{"type":{"container":true}}"#).send()?;
    let _ = subscribed.send(());
    for line in answer.lines() {
        let line = line.map_err(|source| Error::Broken { during: "reading the answer", source })?;
        let event: EventMessage = corten_api_types::decode(line.as_bytes()).map_err(Error::Decode)?;
        let change = match event.action.as_str() {
            "create" => Change::Created,
            "start" => Change::Started,
            "die" => Change::Died,
            "destroy" => Change::Removed,
            _ => continue,
        };
        let id = event.actor.id.chars().take(12).collect();
        if sender.send(News::Changed(id, change)).is_err() {
            break;
        }
    }
    Ok(())
}
