use std::io::Write;
use std::time::Duration;

use super::*;

struct Log {
    directory: tempfile::TempDir,
    next: u64,
}

impl Log {
    fn new() -> Log {
        Log { directory: tempfile::tempdir().unwrap(), next: 1 }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("x-json.log")
    }

    /// Writes lines numbered from 1; line n has the time of n seconds.
    fn write(&mut self, count: u64) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        for _ in 0..count {
            let n = self.next;
            self.next += 1;
            let stream = if n.is_multiple_of(2) { "stderr" } else { "stdout" };
            let time = format!("1970-01-01T00:{:02}:{:02}Z", n / 60, n % 60);
            writeln!(file, r#"{{"log":"{n}\n","stream":"{stream}","time":"{time}"}}"#).unwrap();
        }
    }

    fn rotate(&self, most: u32) {
        for index in (0..most - 1).rev() {
            let _ = std::fs::rename(numbered(&self.path(), index), numbered(&self.path(), index + 1));
        }
    }
}

fn both() -> Query {
    Query { stdout: true, stderr: true, ..Query::default() }
}

fn drain(cursor: &mut Cursor) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let lines = cursor.read().unwrap();
        if lines.is_empty() {
            return numbers;
        }
        numbers.extend(lines.iter().map(|line| String::from_utf8_lossy(&line.text).trim().parse::<u64>().unwrap()));
    }
}

fn all(log: &Log, query: Query) -> Vec<u64> {
    drain(&mut Cursor::open(&log.path(), query).unwrap())
}

#[test]
fn a_missing_log_is_empty() {
    assert_eq!(all(&Log::new(), both()), Vec::<u64>::new());
}

#[test]
fn rotated_files_come_oldest_first() {
    let mut log = Log::new();
    log.write(3);
    log.rotate(5);
    log.write(3);
    log.rotate(5);
    log.write(2);
    assert_eq!(all(&log, both()), (1..=8).collect::<Vec<_>>());
    assert_eq!(all(&log, Query { tail: Some(4), ..both() }), [5, 6, 7, 8]);
    assert_eq!(all(&log, Query { tail: Some(2), ..both() }), [7, 8]);
    assert_eq!(all(&log, Query { tail: Some(100), ..both() }), (1..=8).collect::<Vec<_>>());
    assert_eq!(all(&log, Query { tail: Some(0), ..both() }), Vec::<u64>::new());
}

#[test]
fn streams_and_times_are_chosen() {
    let mut log = Log::new();
    log.write(6);
    assert_eq!(all(&log, Query { stdout: true, ..Query::default() }), [1, 3, 5]);
    assert_eq!(all(&log, Query { since_ns: Some(3_000_000_000), ..both() }), [3, 4, 5, 6]);
    let until = Query { until_ns: Some(4_000_000_000), ..both() };
    assert_eq!(all(&log, until.clone()), [1, 2, 3, 4]);
    let mut cursor = Cursor::open(&log.path(), until).unwrap();
    drain(&mut cursor);
    assert!(cursor.is_past_until());
}

#[test]
fn damage_is_skipped() {
    let mut log = Log::new();
    log.write(1);
    std::fs::OpenOptions::new().append(true).open(log.path()).unwrap().write_all(b"{\"log\":\"half\0\0\n").unwrap();
    log.write(1);
    assert_eq!(all(&log, both()), [1, 2]);
}

#[test]
fn many_lines_come_in_pieces() {
    let mut log = Log::new();
    log.write(3000);
    let mut cursor = Cursor::open(&log.path(), both()).unwrap();
    assert!(cursor.read().unwrap().len() < 3000);
    assert_eq!(drain(&mut cursor).last(), Some(&3000));
}

#[tokio::test]
async fn a_follower_crosses_rotations() {
    let mut log = Log::new();
    let mut cursor = Cursor::open(&log.path(), Query { follow: true, ..both() }).unwrap();
    assert_eq!(drain(&mut cursor), Vec::<u64>::new());
    log.write(2);
    tokio::time::timeout(Duration::from_secs(5), cursor.changed()).await.unwrap().unwrap();
    assert_eq!(drain(&mut cursor), [1, 2]);
    log.write(1);
    log.rotate(3);
    log.write(1);
    tokio::time::timeout(Duration::from_secs(5), cursor.changed()).await.unwrap().unwrap();
    assert_eq!(drain(&mut cursor), [3, 4]);
    // Twice, and out of existence the second time: what is left is read.
    log.rotate(2);
    log.write(1);
    log.rotate(2);
    log.write(1);
    assert_eq!(drain(&mut cursor), [5, 6]);
}

#[tokio::test]
async fn half_a_line_waits_for_its_rest() {
    let log = Log::new();
    let text = br#"{"log":"7\n","stream":"stdout","time":"1970-01-01T00:00:07Z"}"#;
    std::fs::write(log.path(), &text[..20]).unwrap();
    let mut cursor = Cursor::open(&log.path(), Query { follow: true, ..both() }).unwrap();
    assert_eq!(drain(&mut cursor), Vec::<u64>::new());
    let mut file = std::fs::OpenOptions::new().append(true).open(log.path()).unwrap();
    file.write_all(&text[20..]).unwrap();
    file.write_all(b"\n").unwrap();
    assert_eq!(drain(&mut cursor), [7]);
}
