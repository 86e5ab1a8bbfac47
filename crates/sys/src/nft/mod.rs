//! nftables without any program: tables, sets, chains and rules as nfnetlink messages, one transaction per change.
//!
//! A [`Batch`] is written first and [`commit`]ted as a whole: the kernel takes all of it or nothing, and packets see either
//! the old rules or the new. Rules are lists of [`Expr`]essions on the kernel's register machine (`nft --debug=netlink list
//! ruleset` prints the same form). The constants are those of `linux/netfilter/nf_tables.h`; see also `nft(8)`.
//!
//! ```text
//! registers  1 = 32-bit registers 8..11, 2 = 12..15, ...; register 0 holds the verdict
//! element    concatenated keys and data lie one behind the other, each padded to 4 bytes
//! ```

mod batch;
mod expr;
mod read;

pub use batch::{Batch, Chain, ChainKind, Element, FieldType, Hook, Set};
pub use expr::{Comparison, CtKey, Expr, MetaKey, PayloadBase, Verdict, register32};
pub use read::{SetElement, chains, elements, rule_count, tables};

use crate::netlink::Error;
use crate::netlink::connection::{Connection, refused};
use netlink_sys::protocols::NETLINK_NETFILTER;

/// An nfnetlink socket in the network namespace of the thread that opened it.
///
/// Keep it: closing one waits until the kernel has freed what its transactions deleted, 10 ms and more.
#[derive(Debug)]
pub struct Nft {
    connection: Connection,
}

impl Nft {
    /// Opens a socket.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Nft, Error> {
        Ok(Nft { connection: Connection::open(NETLINK_NETFILTER)? })
    }

    /// Sends one transaction; on failure nothing of it is there.
    ///
    /// # Errors
    /// The first refused request, by its description.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.finished();
        self.connection.reserve(bytes.bytes().len())?;
        self.connection.send(&bytes)?;
        // Only the last request asks for an acknowledgement; failing ones answer in any case, and before it.
        let answers = self.connection.queued_answers()?;
        match answers.iter().position(|answer| answer.errno != 0) {
            Some(index) => {
                let failed = &answers[index];
                Err(refused(batch.describe(failed.seq), failed.errno, failed.detail.clone()))
            }
            None if answers.is_empty() => Err(Error::Timeout { request: batch.describe(batch.last_seq()) }),
            None => Ok(()),
        }
    }
}

/// Sends one transaction by a socket of its own; see [`Nft::commit`].
///
/// # Errors
/// As [`Nft::open`] and [`Nft::commit`].
pub fn commit(batch: &Batch) -> Result<(), Error> {
    Nft::open()?.commit(batch)
}

/// The message type of nf_tables' request `number`.
pub(crate) fn message_type(number: u16) -> u16 {
    const SUBSYSTEM: u16 = 10;
    SUBSYSTEM << 8 | number
}

/// `struct nfgenmsg` for the family ip.
pub(crate) const IPV4_HEADER: [u8; 4] = [2, 0, 0, 0];
