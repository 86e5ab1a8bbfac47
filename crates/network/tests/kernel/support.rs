//! A host, sandboxes and an outside world, each a network namespace held by a descriptor only: nothing of the machine's own
//! network is touched, and everything is gone with the test.

use corten_base::SandboxId;
use corten_metadata::Database;
use corten_network::{Attachment, Config, EndpointRequest, Networks, PortMapping, Protocol, SCHEMA, Sandbox};
use corten_sys::netlink::{Batch, LinkChange, Route, VethPair, netns};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Runs a test on a "host" of its own; prints why if that can't be.
pub fn on_host(test: impl FnOnce(&Host) + Send) {
    let netns = match netns::create() {
        Ok(netns) => netns,
        Err(error) => return eprintln!("skipped: cannot make a network namespace: {error}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let host = Host { path: folder.path().join("metadata.db"), _folder: folder };
    netns::run_in(netns.as_fd(), || {
        up("lo");
        test(&host);
    })
    .unwrap();
}

/// The data root of the host that the calling thread is on.
pub struct Host {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Host {
    pub fn networks(&self) -> Networks {
        self.networks_with(Config::default())
    }

    /// A daemon's start; an earlier one's `Networks` may still be there, as if it had been killed.
    pub fn networks_with(&self, config: Config) -> Networks {
        Networks::open(Database::open(&self.path, &[SCHEMA]).unwrap(), config).unwrap()
    }

    /// Connects another namespace by a link: 192.0.2.1 is the host's address, 192.0.2.2 the other's.
    pub fn outside(&self) -> OwnedFd {
        let outside = netns::create().unwrap();
        let mut route = Route::open().unwrap();
        let mut batch = Batch::new();
        batch.create_bridge("wan", 1500, [2, 0, 0, 0, 0, 9]);
        route.apply(&batch).unwrap();
        let master = route.index("wan").unwrap();
        let mut batch = Batch::new();
        batch.create_veth(&VethPair {
            name: "uplink",
            master,
            peer_name: "eth0",
            peer_mac: [2, 0, 0, 0, 0, 2],
            peer_netns: outside.as_fd(),
            mtu: 1500,
        });
        batch.add_address(master, Ipv4Addr::new(192, 0, 2, 1), 24);
        route.apply(&batch).unwrap();
        up("wan");
        up("uplink");
        netns::run_in(outside.as_fd(), || {
            up("lo");
            let mut route = Route::open().unwrap();
            let index = route.index("eth0").unwrap();
            let mut batch = Batch::new();
            batch.add_address(index, Ipv4Addr::new(192, 0, 2, 2), 24);
            route.apply(&batch).unwrap();
            up("eth0");
        })
        .unwrap();
        outside
    }
}

pub fn up(link: &str) {
    let mut batch = Batch::new();
    batch.change_link(link, &LinkChange { up: Some(true), ..LinkChange::default() });
    Route::open().unwrap().apply(&batch).unwrap();
}

/// A sandbox as a shim would make it.
pub struct Room {
    pub id: SandboxId,
    pub netns: OwnedFd,
}

impl Room {
    pub fn new() -> Room {
        let netns = netns::create().unwrap();
        netns::run_in(netns.as_fd(), || up("lo")).unwrap();
        Room { id: SandboxId::generate(), netns }
    }

    pub fn sandbox(&self) -> Sandbox<'_> {
        Sandbox { id: &self.id, netns: self.netns.as_fd(), name: "web" }
    }

    pub fn attach(&self, networks: &Networks, ports: &[PortMapping]) -> Attachment {
        networks.attach(self.sandbox(), &[EndpointRequest::on("bridge")], ports).unwrap()
    }

    pub fn listen(&self, port: u16) {
        let listener = self.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        serve(listener);
    }

    pub fn listen_udp(&self, port: u16) {
        let socket = self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(from.to_string().as_bytes(), from);
            }
        });
    }

    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        netns::run_in(self.netns.as_fd(), job).unwrap()
    }
}

/// Answers every connection with the caller's address, and ends with the process.
pub fn serve(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            if let Ok(peer) = stream.peer_addr() {
                let _ = stream.write_all(peer.ip().to_string().as_bytes());
            }
        }
    });
}

/// Calls a TCP address; the answer is the address by which the server knows us.
pub fn call(ip: impl Into<IpAddr>, port: u16) -> io::Result<String> {
    let address = SocketAddr::new(ip.into(), port);
    // Tests also wait for this when nothing must answer.
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(1500))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub fn call_udp(ip: impl Into<IpAddr>, port: u16) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.connect(SocketAddr::new(ip.into(), port))?;
    socket.send(b"hello")?;
    let mut buffer = [0; 100];
    let len = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

pub fn tcp(host_ip: Option<&str>, host_port: Option<u16>, container_port: u16) -> PortMapping {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    PortMapping { container_port, protocol: Protocol::Tcp, host_ip, host_ports: host_port.map(|port| port..=port) }
}
