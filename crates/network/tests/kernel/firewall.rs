//! The packet filter table as the kernel and the `nft` program (where it is there) see it.

use crate::support::{Room, on_host, tcp};
use corten_network::PortMapping;
use corten_sys::nft;
use std::process::Command;

#[test]
fn nft_reads_what_we_wrote() {
    on_host(|host| {
        let networks = host.networks();
        let room = Room::new();
        room.attach(&networks, &[tcp(None, Some(8080), 80), tcp(Some("127.0.0.1"), Some(8081), 81)]);
        let output = match Command::new("nft").args(["list", "table", "ip", "corten"]).output() {
            Ok(output) => output,
            Err(error) => return eprintln!("skipped: no nft: {error}"),
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "{errors}");
        for part in [
            "elements = { tcp . 8080 : 172.17.0.2 . 80 }",
            "elements = { 127.0.0.1 . tcp . 8081 : 172.17.0.2 . 81 }",
            "elements = { \"corten0\" . \"corten0\" }",
            "type nat hook prerouting priority dstnat; policy accept;",
            "fib daddr type != local return comment \"only what is sent to this host\"",
            "dnat ip to meta l4proto . th dport map @published comment",
            "ct state established,related accept comment \"known connections\"",
            "oifname @bridges ct status dnat accept comment \"published ports\"",
            "iifname . oifname @talk accept comment \"within a bridge\"",
            "iifname @bridges ip daddr 127.0.0.0/8 drop comment",
            "ip saddr @masquerade oifname != @bridges masquerade comment",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(nft::rule_count("corten").unwrap(), text.matches("comment").count());
        assert_eq!(nft::chains("corten").unwrap().len(), text.matches("chain ").count());
    });
}

#[test]
fn a_refused_transaction_names_its_request_and_changes_nothing() {
    on_host(|_| {
        let mut batch = nft::Batch::new();
        batch.add_table("some");
        batch.add_elements("some", "nothing", &[nft::Element::key([1; 4])]);
        batch.add_chain("some", &nft::Chain { name: "chain", base: None });
        let error = nft::commit(&batch).unwrap_err();
        assert_eq!(error.to_string(), "add elements to some nothing");
        assert!(error.is_missing());
        assert!(nft::tables().unwrap().is_empty());
    });
}

#[test]
fn thousands_of_ports_fit_one_transaction() {
    on_host(|host| {
        let networks = host.networks();
        let room = Room::new();
        let ports: Vec<PortMapping> = (10_000..13_000).map(|port| tcp(None, Some(port), 80)).collect();
        room.attach(&networks, &ports);
        assert_eq!(nft::elements("corten", "published").unwrap().len(), 3000);
        let again = host.networks();
        assert_eq!(nft::elements("corten", "published").unwrap().len(), 3000);
        again.detach(&room.id).unwrap();
        assert!(nft::elements("corten", "published").unwrap().is_empty());
    });
}
