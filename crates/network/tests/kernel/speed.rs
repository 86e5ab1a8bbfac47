//! How long an attach takes: printed, and held against a bound that only a mistake breaks.

use crate::support::{Room, on_host, tcp};
use std::time::{Duration, Instant};

const ROUNDS: usize = 60;

#[test]
fn attach_is_quick() {
    on_host(|host| {
        let networks = host.networks();
        for (what, publish) in [("attach", false), ("attach with a published port", true)] {
            let mut times = Vec::new();
            let mut detaches = Vec::new();
            for _ in 0..ROUNDS {
                let room = Room::new();
                let ports = if publish { vec![tcp(None, None, 80)] } else { Vec::new() };
                let start = Instant::now();
                room.attach(&networks, &ports);
                times.push(start.elapsed());
                let start = Instant::now();
                networks.detach(&room.id).unwrap();
                detaches.push(start.elapsed());
                networks.settle();
            }
            let (median, slow) = spread(times);
            println!("{what}: median {median:?}, 90 % below {slow:?}; detach: median {:?}", spread(detaches).0);
            assert!(median < Duration::from_millis(20), "{what} took {median:?}");
        }
    });
}

#[test]
fn attach_stays_quick_on_a_full_bridge() {
    on_host(|host| {
        let networks = host.networks();
        let rooms: Vec<Room> = (0..200).map(|_| Room::new()).collect();
        let time = |room: &Room| {
            let start = Instant::now();
            room.attach(&networks, &[]);
            start.elapsed()
        };
        let times: Vec<Duration> = rooms.iter().map(time).collect();
        let (first, last) = (spread(times[..20].to_vec()).0, spread(times[180..].to_vec()).0);
        println!("attach as one of the first 20: median {first:?}; of the last 20 of 200: {last:?}");
        let start = Instant::now();
        for room in &rooms {
            networks.detach(&room.id).unwrap();
        }
        networks.settle();
        println!("200 links gone after {:?}", start.elapsed());
        assert!(last < Duration::from_millis(50), "{first:?}, then {last:?}");
    });
}

fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 9 / 10])
}
