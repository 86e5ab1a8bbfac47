//! Where the API listens: unix sockets for the group `docker`, and TCP.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket; its path is removed when the server ends.
    Unix(UnixListener, PathBuf),
    /// A TCP socket.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on a unix socket with mode 0660 that belongs to `group` if that exists in `/etc/group`.
    ///
    /// A socket left behind by a dead process is replaced; one that still answers is an error. The socket is never
    /// reachable with wider permissions: it is made inside a private directory and then moved into place.
    /// Call it within a tokio runtime.
    pub fn unix(path: &Path, group: Option<&str>) -> io::Result<Listener> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let message = format!("{} is in use by another process", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let private = parent.join(format!(".s{}", std::process::id()));
        let _ = fs::remove_dir_all(&private);
        fs::create_dir(&private)?;
        let bound = bind_private(&private, path, group);
        let _ = fs::remove_dir_all(&private);
        Ok(Listener::Unix(bound?, path.to_owned()))
    }

    /// Listens on a TCP address. Call it within a tokio runtime.
    pub fn tcp(address: SocketAddr) -> io::Result<Listener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(TcpListener::from_std(listener)?))
    }

    /// Stops listening before any server did; a unix socket's path is removed.
    pub fn discard(self) {
        if let Listener::Unix(_, path) = &self {
            let _ = fs::remove_file(path);
        }
    }

    /// The address as Docker's `--host` writes it.
    pub fn describe(&self) -> String {
        match self {
            Listener::Unix(_, path) => format!("unix://{}", path.display()),
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => format!("tcp://{address}"),
                Err(_) => "tcp://".to_owned(),
            },
        }
    }
}

fn bind_private(private: &Path, path: &Path, group: Option<&str>) -> io::Result<UnixListener> {
    fs::set_permissions(private, Permissions::from_mode(0o700))?;
    let hidden = private.join("s");
    let listener = std::os::unix::net::UnixListener::bind(&hidden)?;
    listener.set_nonblocking(true)?;
    if let Some(gid) = group.and_then(|name| group_id(&fs::read_to_string("/etc/group").ok()?, name)) {
        // Without the privilege to give the socket away it stays the owner's.
        let _ = chown(&hidden, None, Some(gid));
    }
    fs::set_permissions(&hidden, Permissions::from_mode(0o660))?;
    fs::rename(&hidden, path)?;
    UnixListener::from_std(listener)
}

/// A group's number from the text of `/etc/group`; a number means itself.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    };
    groups.lines().find_map(of_line).or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        let file = "root:x:0:\ndocker:x:998:a,b\nbroken\n";
        assert_eq!(group_id(file, "docker"), Some(998));
        assert_eq!(group_id(file, "nobody"), None);
        assert_eq!(group_id(file, "broken"), None);
        assert_eq!(group_id(file, "12"), Some(12));
    }

    #[tokio::test]
    async fn unix_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/x.sock");
        let first = Listener::unix(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(Listener::unix(&path, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        Listener::unix(&path, None).expect("a dead socket is replaced");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
