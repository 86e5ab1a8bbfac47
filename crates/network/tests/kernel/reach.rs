//! Who can reach whom: containers, host, outside, published ports.

use crate::support::{Host, Room, call, call_udp, on_host, serve, tcp};
use corten_network::{BoundPort, PortMapping, Protocol};
use corten_sys::netlink::netns;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

#[test]
fn containers_reach_each_other_and_the_host() {
    on_host(|host| {
        let networks = host.networks();
        let (a, b) = (Room::new(), Room::new());
        let first = a.attach(&networks, &[]);
        let second = b.attach(&networks, &[]);
        assert_eq!(first.endpoints[0].ip, Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(first.endpoints[0].mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(first.endpoints[0].gateway, Some(GATEWAY));
        let ip = second.endpoints[0].ip;
        b.listen(80);
        assert_eq!(a.run(|| call(ip, 80)).unwrap(), "172.17.0.2");
        assert_eq!(call(ip, 80).unwrap(), "172.17.0.1");
        serve(TcpListener::bind("0.0.0.0:81").unwrap());
        assert_eq!(a.run(|| call(GATEWAY, 81)).unwrap(), "172.17.0.2");
    });
}

#[test]
fn containers_reach_the_outside_behind_the_host() {
    on_host(|host| {
        let outside = host.outside();
        let networks = host.networks();
        serve(netns::run_in(outside.as_fd(), || TcpListener::bind("0.0.0.0:80").unwrap()).unwrap());
        let a = Room::new();
        a.attach(&networks, &[]);
        assert_eq!(a.run(|| call(OUTSIDE, 80)).unwrap(), "192.0.2.1");
    });
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    on_host(published_ports);
}

/// Where br_netfilter is loaded, frames between ports of a bridge pass the packet filter too, and take other ways.
#[test]
fn published_ports_without_bridge_netfilter() {
    const SWITCH: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    on_host(|host| match std::fs::read_to_string(SWITCH) {
        Ok(value) => {
            std::fs::write(SWITCH, if value.trim() == "1" { "0" } else { "1" }).unwrap();
            published_ports(host);
        }
        Err(error) => eprintln!("skipped: no br_netfilter here: {error}"),
    });
}

fn published_ports(host: &Host) {
    let outside = host.outside();
    let networks = host.networks();
    let (a, b) = (Room::new(), Room::new());
    let attached = a.attach(&networks, &[tcp(None, Some(8080), 80)]);
    let bound =
        BoundPort { container_port: 80, protocol: Protocol::Tcp, host_ip: Ipv4Addr::UNSPECIFIED, host_port: 8080 };
    assert_eq!(attached.ports, [bound]);
    b.attach(&networks, &[]);
    a.listen(80);
    let from_outside = netns::run_in(outside.as_fd(), || call(HOST, 8080)).unwrap();
    assert_eq!(from_outside.unwrap(), "192.0.2.2", "the caller's address is kept");
    assert_eq!(call(HOST, 8080).unwrap(), "192.0.2.1");
    assert_eq!(call(Ipv4Addr::LOCALHOST, 8080).unwrap(), "172.17.0.1");
    assert_eq!(call(Ipv4Addr::new(127, 1, 2, 3), 8080).unwrap(), "172.17.0.1");
    assert_eq!(b.run(|| call(HOST, 8080)).unwrap(), "172.17.0.1", "from another container");
    assert_eq!(b.run(|| call(GATEWAY, 8080)).unwrap(), "172.17.0.1");
    assert_eq!(a.run(|| call(HOST, 8080)).unwrap(), "172.17.0.1", "from the container itself");
    networks.detach(&a.id).unwrap();
    assert!(call(HOST, 8080).is_err());
    assert!(TcpListener::bind("0.0.0.0:8080").is_ok(), "the host's port is free again");
}

#[test]
fn udp_ports_and_ports_on_one_address() {
    on_host(|host| {
        let outside = host.outside();
        let networks = host.networks();
        let a = Room::new();
        let udp = PortMapping { protocol: Protocol::Udp, ..tcp(None, Some(5353), 53) };
        a.attach(&networks, &[udp, tcp(Some("127.0.0.1"), Some(8081), 80), tcp(Some("192.0.2.1"), Some(8082), 80)]);
        a.listen(80);
        a.listen_udp(53);
        assert!(netns::run_in(outside.as_fd(), || call_udp(HOST, 5353)).unwrap().unwrap().starts_with("192.0.2.2:"));
        assert!(call_udp(Ipv4Addr::LOCALHOST, 5353).unwrap().starts_with("172.17.0.1:"));
        assert!(call(Ipv4Addr::LOCALHOST, 8081).is_ok());
        assert!(call(HOST, 8081).is_err());
        assert!(netns::run_in(outside.as_fd(), || call(HOST, 8081)).unwrap().is_err());
        assert!(netns::run_in(outside.as_fd(), || call(HOST, 8082)).unwrap().is_ok());
        assert!(call(Ipv4Addr::LOCALHOST, 8082).is_err());
    });
}

#[test]
fn udp_senders_that_were_there_before_reach_the_container() {
    on_host(|host| {
        let outside = host.outside();
        let networks = host.networks();
        let sender = netns::run_in(outside.as_fd(), || UdpSocket::bind("0.0.0.0:7000").unwrap()).unwrap();
        sender.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        sender.connect((HOST, 5353)).unwrap();
        let ask = || sender.send(b"hello").and_then(|_| sender.recv(&mut [0; 100])).is_ok();
        assert!(!ask());
        let udp = PortMapping { protocol: Protocol::Udp, ..tcp(None, Some(5353), 53) };
        let (a, b, between) = (Room::new(), Room::new(), Room::new());
        a.attach(&networks, std::slice::from_ref(&udp));
        a.listen_udp(53);
        // The first answer may be the refusal of before.
        assert!(ask() || ask());
        networks.detach(&a.id).unwrap();
        networks.settle();
        between.attach(&networks, &[]);
        b.attach(&networks, &[udp]);
        b.listen_udp(53);
        assert!(ask() || ask(), "another container at another address");
    });
}

#[test]
fn what_is_not_published_is_closed() {
    on_host(|host| {
        let outside = host.outside();
        let networks = host.networks();
        let a = Room::new();
        let ip = a.attach(&networks, &[tcp(None, Some(8080), 80)]).endpoints[0].ip;
        a.listen(80);
        a.listen(81);
        // A neighbour that routes to the containers' subnet through this host.
        netns::run_in(outside.as_fd(), || {
            let mut route = corten_sys::netlink::Route::open().unwrap();
            let mut batch = corten_sys::netlink::Batch::new();
            batch.add_default_route(route.index("eth0").unwrap(), HOST);
            route.apply(&batch).unwrap();
            assert!(call(ip, 81).is_err());
            assert!(call(ip, 80).is_err(), "not even a published port by the container's own address");
            assert!(call(HOST, 8080).is_ok());
        })
        .unwrap();
        // The host's loopback services stay the host's: a container that routes 127.0.0.0/8 outwards gets nowhere.
        serve(TcpListener::bind("127.0.0.1:82").unwrap());
        assert!(a.run(|| call(GATEWAY, 82)).is_err());
    });
}

#[test]
fn networks_are_apart() {
    on_host(|host| {
        let networks = host.networks();
        let other =
            networks.create(corten_network::CreateNetwork { name: "other".to_owned(), ..Default::default() }).unwrap();
        let inner = networks
            .create(corten_network::CreateNetwork { name: "inner".to_owned(), internal: true, ..Default::default() })
            .unwrap();
        let outside = host.outside();
        serve(netns::run_in(outside.as_fd(), || TcpListener::bind("0.0.0.0:80").unwrap()).unwrap());
        let (a, b, c) = (Room::new(), Room::new(), Room::new());
        a.attach(&networks, &[]);
        let on = |network: &corten_network::Network| [corten_network::EndpointRequest::on(network.id.as_str())];
        let b_ip = networks.attach(b.sandbox(), &on(&other), &[tcp(None, Some(8080), 80)]).unwrap().endpoints[0].ip;
        let attached = networks.attach(c.sandbox(), &on(&inner), &[tcp(None, Some(8081), 80)]).unwrap();
        assert_eq!(b_ip, Ipv4Addr::new(172, 18, 0, 2));
        assert!(attached.ports.is_empty() && attached.endpoints[0].gateway.is_none(), "nothing goes in or out");
        b.listen(80);
        c.listen(80);
        assert!(a.run(|| call(b_ip, 80)).is_err());
        assert!(a.run(|| call(HOST, 8080)).is_ok(), "a published port is open to other networks too");
        assert!(b.run(|| call(OUTSIDE, 80)).is_ok());
        assert!(c.run(|| call(OUTSIDE, 80)).is_err());
        let c_ip = attached.endpoints[0].ip;
        assert!(call(c_ip, 80).is_ok(), "the host itself may");
        assert!(a.run(|| call(c_ip, 80)).is_err());
    });
}
