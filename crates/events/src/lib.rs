//! A bounded, ordered event log with filters.
//!
//! Docker's clients ask for events by time (`since`, `until`) and by filter, and keep the connection open for what comes next.
//! One ring holds the latest events for everybody: a reader is only a position in it, so a thousand readers cost a thousand
//! integers and none of them can hold a publisher back. A reader that sleeps until the ring has lapped it is told so
//! ([`Lagged`]) and ends; nothing is ever skipped in silence.
//!
//! Events live in memory only, as Docker's do: a restarted daemon begins with an empty log.

mod event;
mod filter;
mod log;

pub use event::{Actor, Event, Kind};
pub use filter::{Filter, InvalidFilter};
pub use log::{Lagged, Log, Subscription};
