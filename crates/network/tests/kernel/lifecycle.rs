//! What is there after attach, detach, failures and a daemon's death, read back from the kernel.

use crate::support::{Room, call, on_host, serve, tcp};
use corten_base::SandboxId;
use corten_network::{Config, CreateNetwork, EndpointRequest, Error, IpamRequest, Networks};
use corten_sys::netlink::{LinkChange, Route, netns};
use corten_sys::nft;
use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

/// Everything of ours that the kernel has: links, table elements, held ports.
fn left() -> (Vec<String>, usize) {
    let links = Route::open().unwrap().links().unwrap().into_iter().map(|link| link.name);
    let links = links.filter(|name| name.starts_with("veth") || name.starts_with("br-")).collect();
    let elements = ["published", "published_on"].map(|map| nft::elements("corten", map).unwrap().len());
    (links, elements.iter().sum())
}

#[test]
fn detach_leaves_nothing() {
    on_host(|host| {
        let networks = host.networks();
        let room = Room::new();
        room.attach(&networks, &[tcp(None, Some(8080), 80), tcp(Some("127.0.0.1"), None, 81)]);
        assert_eq!((left().0.len(), left().1), (1, 2));
        assert_eq!(networks.endpoints_of(&room.id).len(), 1);
        networks.detach(&room.id).unwrap();
        networks.detach(&room.id).unwrap();
        networks.settle();
        assert_eq!(left(), (vec![], 0));
        assert_eq!(room.run(|| Route::open().unwrap().link("eth0").unwrap()), None);
        assert!(networks.endpoints_of(&room.id).is_empty());
        let again = Room::new();
        assert_eq!(
            again.attach(&networks, &[]).endpoints[0].ip,
            Ipv4Addr::new(172, 17, 0, 2),
            "the lowest is free again"
        );
    });
}

#[test]
fn a_port_has_one_user() {
    on_host(|host| {
        let networks = host.networks();
        let (a, b) = (Room::new(), Room::new());
        a.attach(&networks, &[tcp(None, Some(8080), 80)]);
        let on_bridge = [EndpointRequest::on("bridge")];
        let check = |ports: &[corten_network::PortMapping], expect: &str| {
            let error = networks.attach(b.sandbox(), &on_bridge, ports).unwrap_err();
            let text = error.to_string();
            let (start, end) = text.split_once(" (").unwrap();
            assert_eq!(start, "driver failed programming external connectivity on endpoint web");
            assert_eq!(end.split_once("): ").unwrap().1, expect);
            networks.settle();
            assert_eq!((left().0.len(), left().1), (1, 1), "nothing of the second one remains");
        };
        let taken = |ip: &str| format!("Bind for {ip}:8080 failed: port is already allocated");
        check(&[tcp(None, Some(9000), 90), tcp(None, Some(8080), 80)], &taken("0.0.0.0"));
        check(&[tcp(Some("127.0.0.1"), Some(8080), 80)], &taken("127.0.0.1"));
        let program = TcpListener::bind("0.0.0.0:8090").unwrap();
        let target = "172.17.0.3:80/tcp: address already in use";
        check(&[tcp(None, Some(8090), 80)], &format!("failed to bind host port for 0.0.0.0:8090:{target}"));
        drop(program);
        assert!(TcpListener::bind("0.0.0.0:9000").is_ok(), "the ports of a failed attach are free");
        networks.attach(b.sandbox(), &on_bridge, &[tcp(None, Some(8090), 80)]).unwrap();
        assert!(TcpListener::bind("0.0.0.0:8090").is_err(), "other programs can't have it");
    });
}

#[test]
fn failures_leave_nothing() {
    on_host(|host| {
        let networks = host.networks();
        let room = Room::new();
        let attach =
            |requests: &[EndpointRequest]| networks.attach(room.sandbox(), requests, &[tcp(None, Some(8080), 80)]);
        let ipam = vec![IpamRequest { subnet: "10.7.0.0/16".to_owned(), ..IpamRequest::default() }];
        networks.create(CreateNetwork { name: "fixed".to_owned(), ipam, ..CreateNetwork::default() }).unwrap();
        networks.create(CreateNetwork { name: "chosen".to_owned(), ..CreateNetwork::default() }).unwrap();
        let fixed_on = |ip: [u8; 4], on: &str| EndpointRequest { ipv4: Some(ip.into()), ..EndpointRequest::on(on) };
        let fixed = |ip: [u8; 4]| fixed_on(ip, "fixed");
        assert!(matches!(attach(&[EndpointRequest::on("nowhere")]), Err(Error::NotFound(_))));
        assert!(matches!(
            attach(&[EndpointRequest::on("bridge"), EndpointRequest::on("bridge")]),
            Err(Error::AlreadyAttached { .. })
        ));
        assert!(matches!(attach(&[EndpointRequest::on("host")]), Err(Error::Invalid(_))));
        assert!(matches!(attach(&[fixed([10, 0, 0, 1])]), Err(Error::FixedAddress { .. })));
        assert!(matches!(attach(&[fixed_on([172, 17, 0, 9], "bridge")]), Err(Error::FixedAddress { .. })));
        assert!(matches!(attach(&[fixed_on([172, 18, 0, 9], "chosen")]), Err(Error::FixedAddress { .. })));
        assert!(matches!(attach(&[fixed([10, 7, 0, 1])]), Err(Error::AddressInUse(_))));
        // The sandbox has an eth0 of its own: the kernel refuses in the middle.
        let blocked = Room::new();
        blocked.run(|| {
            let mut batch = corten_sys::netlink::Batch::new();
            batch.create_bridge("eth0", 1500, [2; 6]);
            Route::open().unwrap().apply(&batch).unwrap();
        });
        let error = networks.attach(blocked.sandbox(), &[EndpointRequest::on("bridge")], &[]).unwrap_err();
        assert!(matches!(error, Error::Kernel { .. }), "{error}");
        networks.settle();
        assert_eq!(networks.prune(|network| network.name == "chosen").unwrap().len(), 1);
        assert_eq!((left().0.len(), left().1), (1, 0), "only the bridge of the other network");
        assert_eq!(attach(&[fixed([10, 7, 9, 9])]).unwrap().endpoints[0].ip, Ipv4Addr::new(10, 7, 9, 9));
        assert_eq!(Room::new().attach(&networks, &[]).endpoints[0].ip, Ipv4Addr::new(172, 17, 0, 2));
    });
}

#[test]
fn a_killed_daemon_is_followed_by_one_that_knows() {
    on_host(|host| {
        let outside = host.outside();
        let (alive, dead, unrecorded) = (Room::new(), Room::new(), Room::new());
        let first = host.networks();
        let bridge = first.inspect("bridge").unwrap();
        alive.attach(&first, &[tcp(None, Some(8080), 80)]);
        dead.attach(&first, &[tcp(None, Some(8081), 80)]);
        alive.listen(80);
        drop(first);
        stray_link(&unrecorded);
        nft::commit(&{
            let mut batch = nft::Batch::new();
            batch.delete_table("corten");
            batch
        })
        .unwrap();

        let second = host.networks();
        assert_eq!(second.inspect("bridge").unwrap(), bridge);
        second.recover(&HashSet::from([alive.id.clone()])).unwrap();
        assert_eq!((left().0.len(), left().1), (1, 1));
        assert!(netns::run_in(outside.as_fd(), || call(Ipv4Addr::new(192, 0, 2, 1), 8080)).unwrap().is_ok());
        assert!(TcpListener::bind("0.0.0.0:8080").is_err());
        assert!(TcpListener::bind("0.0.0.0:8081").is_ok());
        assert_eq!(Room::new().attach(&second, &[]).endpoints[0].ip, Ipv4Addr::new(172, 17, 0, 3));
        second.recover(&HashSet::from([alive.id.clone()])).unwrap();
        second.detach(&alive.id).unwrap();
        second.settle();
        assert_eq!(left(), (vec![], 0));
    });
}

/// A link on our bridge as if the engine had died between making it and something else.
fn stray_link(room: &Room) {
    let mut route = Route::open().unwrap();
    let mut batch = corten_sys::netlink::Batch::new();
    batch.create_veth(&corten_sys::netlink::VethPair {
        name: "veth0123456",
        master: route.index("corten0").unwrap(),
        peer_name: "eth0",
        peer_mac: [2, 0, 0, 0, 0, 7],
        peer_netns: room.netns.as_fd(),
        mtu: 1500,
    });
    route.apply(&batch).unwrap();
}

#[test]
fn a_flushed_ruleset_is_written_again() {
    on_host(|host| {
        let networks = host.networks();
        let (a, b) = (Room::new(), Room::new());
        a.attach(&networks, &[tcp(None, Some(8080), 80)]);
        let flush = || {
            let mut batch = nft::Batch::new();
            batch.delete_table("corten");
            nft::commit(&batch).unwrap();
        };
        flush();
        b.attach(&networks, &[tcp(None, Some(8081), 80)]);
        assert_eq!(left().1, 2);
        flush();
        networks.detach(&b.id).unwrap();
        assert_eq!(left().1, 1);
        networks.remove_firewall().unwrap();
        assert!(nft::tables().unwrap().is_empty());
    });
}

#[test]
fn user_networks_come_and_go() {
    on_host(|host| {
        let networks = host.networks();
        let create = |name: &str| networks.create(CreateNetwork { name: name.to_owned(), ..CreateNetwork::default() });
        let one = create("one").unwrap();
        assert_eq!(one.ipam[0].subnet, "172.18.0.0/16".parse().unwrap());
        assert_eq!(one.device, format!("br-{}", one.id.short()));
        assert!(matches!(create("one"), Err(Error::Exists(_))));
        assert_eq!(networks.inspect(&one.id.as_str()[..8]).unwrap(), one);
        let room = Room::new();
        let both = [EndpointRequest::on("bridge"), EndpointRequest::on("one")];
        let endpoints = networks.attach(room.sandbox(), &both, &[]).unwrap().endpoints;
        assert_eq!(endpoints.iter().map(|e| e.interface.as_str()).collect::<Vec<_>>(), ["eth0", "eth1"]);
        let routes = room.run(|| Route::open().unwrap().routes().unwrap());
        let default: Vec<_> = routes.iter().filter(|route| route.prefix_len == 0).map(|route| route.gateway).collect();
        assert_eq!(default, [Some(Ipv4Addr::new(172, 17, 0, 1))]);
        let text = networks.remove("one").unwrap_err().to_string();
        let id = endpoints[1].id.short();
        assert_eq!(
            text,
            format!("error while removing network: network one has active endpoints (name:\"web\" id:\"{id}\")")
        );
        networks.detach(&room.id).unwrap();
        networks.remove("one").unwrap();
        networks.settle();
        assert_eq!(left(), (vec![], 0));
        assert!(matches!(networks.remove("bridge"), Err(Error::RemovePredefined(_))));
        create("two").unwrap();
        assert_eq!(networks.prune(|_| true).unwrap().len(), 1);
        let names: Vec<_> = networks.list().into_iter().map(|network| network.name).collect();
        assert_eq!(names, ["host", "none", "bridge"]);
    });
}

#[test]
fn devices_of_the_administrator_stay() {
    on_host(|host| {
        let _outside = host.outside();
        let networks = host.networks();
        let create = |device: &str| {
            let options = [("com.docker.network.bridge.name".to_owned(), device.to_owned())].into();
            networks.create(CreateNetwork { name: "mine".to_owned(), options, ..CreateNetwork::default() })
        };
        let error = create("uplink").unwrap_err();
        assert_eq!(error.to_string(), "device uplink is there and is not a bridge");
        assert!(create("corten0").is_err());
        create("wan").unwrap();
        networks.remove("mine").unwrap();
        create("made").unwrap();
        networks.remove("mine").unwrap();
        let exists = |name: &str| Route::open().unwrap().link(name).unwrap().is_some();
        assert_eq!(["uplink", "wan", "made", "corten0"].map(exists), [true, true, false, true]);
    });
}

#[test]
fn settings_of_the_default_bridge() {
    on_host(|host| {
        let config = Config {
            bip: Some("10.9.0.1/24".parse().unwrap()),
            fixed_cidr: Some("10.9.0.128/25".parse().unwrap()),
            mtu: 1400,
            ..Config::default()
        };
        let networks = host.networks_with(config);
        let room = Room::new();
        assert_eq!(room.attach(&networks, &[]).endpoints[0].ip, Ipv4Addr::new(10, 9, 0, 128));
        assert_eq!(room.run(|| Route::open().unwrap().link("eth0").unwrap().unwrap().mtu), 1400);
        networks.detach(&room.id).unwrap();
        networks.settle();
        drop(networks);
        let none = host.networks_with(Config { bridge: None, ..Config::default() });
        assert!(none.inspect("bridge").is_err());
    });
}

#[test]
fn forwarding_switched_on_by_us_makes_no_router_of_the_host() {
    on_host(|host| {
        // A new namespace inherits the machine's setting.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let (one, other) = (neighbour("lan1", 1), neighbour("lan2", 2));
        serve(netns::run_in(other.as_fd(), || TcpListener::bind("0.0.0.0:80").unwrap()).unwrap());
        let through = || netns::run_in(one.as_fd(), || call(Ipv4Addr::new(198, 51, 2, 2), 80)).unwrap();
        let networks = host.networks();
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
        assert!(through().is_err());
        drop(networks);
        drop(host.networks());
        assert!(through().is_err(), "the next daemon still knows who switched it on");
        host.networks_with(Config { ip_forward_no_drop: true, ..Config::default() });
        assert!(through().is_ok());
    });
}

/// A namespace on a link of its own that takes the host for its router: 198.51.n.1 is the host, 198.51.n.2 the other.
fn neighbour(link: &str, n: u8) -> OwnedFd {
    let netns = netns::create().unwrap();
    let mut route = Route::open().unwrap();
    let mut batch = corten_sys::netlink::Batch::new();
    batch.create_veth(&corten_sys::netlink::VethPair {
        name: link,
        master: 0,
        peer_name: "eth0",
        peer_mac: [2, 0, 0, 0, 1, n],
        peer_netns: netns.as_fd(),
        mtu: 1500,
    });
    route.apply(&batch).unwrap();
    let set_up = |link: &str, address: [u8; 4], gateway: Option<Ipv4Addr>| {
        let mut route = Route::open().unwrap();
        let index = route.index(link).unwrap();
        let mut batch = corten_sys::netlink::Batch::new();
        batch.add_address(index, address.into(), 24);
        batch.change_link(link, &LinkChange { up: Some(true), ..LinkChange::default() });
        if let Some(gateway) = gateway {
            batch.add_default_route(index, gateway);
        }
        route.apply(&batch).unwrap();
    };
    set_up(link, [198, 51, n, 1], None);
    let inside = || set_up("eth0", [198, 51, n, 2], Some(Ipv4Addr::new(198, 51, n, 1)));
    netns::run_in(netns.as_fd(), inside).unwrap();
    netns
}

#[test]
fn many_at_once() {
    on_host(|host| {
        let networks = host.networks();
        let rooms: Vec<Room> = (0..24).map(|_| Room::new()).collect();
        let home = netns::current().unwrap();
        let run = |room: &Room, networks: &Networks| {
            netns::run_in(home.as_fd(), || room.attach(networks, &[tcp(None, None, 80)]).endpoints[0].ip).unwrap()
        };
        let ips: HashSet<Ipv4Addr> = thread::scope(|scope| {
            let threads: Vec<_> = rooms.iter().map(|room| scope.spawn(|| run(room, &networks))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ips.len(), rooms.len());
        assert_eq!((left().0.len(), left().1), (24, 24));
        let live: HashSet<SandboxId> = rooms.iter().take(4).map(|room| room.id.clone()).collect();
        networks.recover(&live).unwrap();
        assert_eq!((left().0.len(), left().1), (4, 4));
    });
}

#[test]
fn links_that_went_with_their_namespace_are_no_error() {
    on_host(|host| {
        let networks = host.networks();
        let room = Room::new();
        room.attach(&networks, &[]);
        let id = room.id.clone();
        drop(room);
        networks.detach(&id).unwrap();
        networks.settle();
        assert_eq!(left(), (vec![], 0));
        assert_eq!(Room::new().attach(&networks, &[]).endpoints[0].ip, Ipv4Addr::new(172, 17, 0, 2));
    });
}
