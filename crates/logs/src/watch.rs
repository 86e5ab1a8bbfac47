//! Waiting for a log to grow or to be rotated: inotify on its directory.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// A watch on the directory that holds a log.
#[derive(Debug)]
pub(crate) struct Watch {
    descriptor: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Begins to watch; changes from here on are seen. Must be called on a thread of the tokio runtime (a blocking one will do).
    pub(crate) fn begin(directory: &Path) -> io::Result<Watch> {
        let descriptor = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let what = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&descriptor, directory, what)?;
        #[expect(
            deprecated,
            reason = "the replacement is unsafe; an OwnedFd that is never exchanged keeps its contract"
        )]
        let descriptor = AsyncFd::new(descriptor)?;
        Ok(Watch { descriptor })
    }

    /// Returns when something has changed since the last call.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.descriptor.readable().await?;
            if self.drain()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Takes all waiting notices; true if there were any.
    fn drain(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.descriptor.get_ref(), &mut buffer);
        let mut any = false;
        loop {
            match reader.next() {
                Ok(_) => any = true,
                Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Ok(any),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
