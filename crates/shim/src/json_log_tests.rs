use std::fs;

use super::*;

const NOW: u64 = 1_795_226_523_120_000_000;

fn log(directory: &tempfile::TempDir, max_size: Option<u64>, max_files: u32) -> JsonLog {
    let fd = fs::File::open(directory.path()).unwrap();
    let config = LogConfig::JsonFile { file: "x-json.log".into(), max_size, max_files, attrs: BTreeMap::new() };
    JsonLog::open(fd.into(), &config).unwrap().unwrap()
}

fn check(chunks: &[&[u8]], expect: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(&directory, None, 1);
    for chunk in chunks {
        log.write_at(0, chunk, NOW);
    }
    log.lines[0].partial_since.get_or_insert(NOW);
    log.finish();
    let text = fs::read_to_string(directory.path().join("x-json.log")).unwrap();
    let expected: String = expect
        .iter()
        .map(|log| format!("{{\"log\":\"{log}\",\"stream\":\"stdout\",\"time\":\"2026-11-21T02:02:03.12Z\"}}\n"))
        .collect();
    assert_eq!(text, expected);
}

#[test]
fn entries_look_as_dockers() {
    check(&[b"hello\n"], &["hello\\n"]);
    check(&[b"hel", b"lo\nwor", b"ld"], &["hello\\n", "world"]);
    check(&[b"<a&b>\t\"\\\r\x1b\n"], &["\\u003ca\\u0026b\\u003e\\u0009\\\"\\\\\\r\\u001b\\n"]);
    check(&["\u{2028}ü\n".as_bytes()], &["\\u2028ü\\n"]);
    check(&[b"\xff\xfe\n"], &["\\ufffd\\ufffd\\n"]);
    check(&[b"\n\n"], &["\\n", "\\n"]);
}

#[test]
fn long_lines_are_split_at_16_kib() {
    let long = vec![b'x'; MAX_ENTRY + 10];
    check(&[&long, b"\n"], &[&"x".repeat(MAX_ENTRY), "xxxxxxxxxx\\n"]);
    check(&[&long[..MAX_ENTRY], b"\n"], &[&"x".repeat(MAX_ENTRY), "\\n"]);
}

#[test]
fn full_files_are_rotated() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(&directory, Some(100), 3);
    for number in 0..10 {
        log.write(0, format!("line {number}\n").as_bytes());
    }
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["x-json.log", "x-json.log.1", "x-json.log.2"]);
    let newest = fs::read_to_string(directory.path().join("x-json.log")).unwrap();
    assert!(newest.contains("line 9"), "{newest}");
}

#[test]
fn one_file_starts_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(&directory, Some(10), 1);
    log.write(1, b"one\ntwo\n");
    let text = fs::read_to_string(directory.path().join("x-json.log")).unwrap();
    assert!(text.contains("two") && !text.contains("one") && text.contains("stderr"), "{text}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
