//! How long a start takes from the request to the reported exit; printed, not judged: machines differ.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use corten_runtime::sources;
use corten_shim::client::StartRequest;
use corten_shim::protocol::Event;

use crate::Case;
use crate::support::*;

pub const CASES: &[Case] = &[("latency::start_to_exit", start_to_exit), ("latency::memory", memory)];

fn start_to_exit(world: &World) {
    measure(world, "mounts made at start", Shim::new);
    measure(world, "mounts staged", Shim::prepared);
}

fn measure(world: &World, what: &str, make: impl Fn(&World) -> Shim) {
    let runs: usize = std::env::var("CORTEN_LATENCY_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let plan = plan(spec(&["true"]));
    let mut started = Vec::new();
    let mut exited = Vec::new();
    for _ in 0..runs {
        let mut shim = make(world);
        let root = sources::open_root(&world.rootfs).unwrap();
        let request = StartRequest {
            plan: &plan,
            rootfs: root.as_fd(),
            sources: &[],
            namespaces: &[],
            cgroups: &[],
            memory: None,
            join_cgroups: false,
            streams: pipes(),
            attach: &[],
            agent: None,
            hold: None,
            usual_filter: false,
        };
        // The stub stages after the answer; the pool gives it that time.
        std::thread::sleep(Duration::from_millis(3));
        let begin = Instant::now();
        let seq = shim.connection.start(&request).unwrap();
        assert!(matches!(shim.answer(seq).unwrap(), Event::Started(_)));
        started.push(begin.elapsed());
        assert_eq!(shim.exited().code, 0);
        exited.push(begin.elapsed());
        drop(root);
        shim.release();
    }
    println!("  {what}: to exec {}", spread(&mut started));
    println!("  {what}: to exit {}", spread(&mut exited));
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    format!("median {} us, p10 {}, p90 {}", at(50), at(10), at(90))
}

fn memory(world: &World) {
    let mut shim = Shim::new(world);
    shim.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.ready.pid)).unwrap();
    for field in ["Rss:", "Pss:", "Private_Dirty:"] {
        println!("  supervisor {}", maps.lines().find(|line| line.starts_with(field)).unwrap());
    }
    shim.connection.signal(None, 9).unwrap();
    shim.connection.recv(PATIENCE).unwrap();
    shim.exited();
    shim.release();
}
