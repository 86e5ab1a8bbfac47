//! Inputs from samples: documents are changed as trees, so that most of them still parse; bytes as bytes.

use serde_json::Value;

use crate::Target;
use crate::random::Random;

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON document.
    Json,
    /// Lines of words.
    Lines,
    /// Anything: up to a few kilobytes that the target draws its choices from.
    Bytes,
}

/// Strings and numbers that programs trip over.
const STRINGS: &[&str] =
    &["", "/", "..", "a/../../b", "/proc/self/fd/7", "\0", "=", "=x", "r", "\u{1F980}", "-1", "%s", " "];
const NUMBERS: &[i64] =
    &[0, 1, -1, 255, 256, 4095, 4096, 65_535, 65_536, 1 << 31, u32::MAX as i64, 1 << 32, i64::MAX, i64::MIN];

/// One input.
pub(crate) fn input(target: &Target, random: &mut Random) -> Vec<u8> {
    let sample = *random.pick(target.samples);
    let changes = 1 + random.below(6);
    match target.form {
        Form::Json => {
            let Ok(mut document) = serde_json::from_str::<Value>(sample) else { return sample.into() };
            let whole = document.clone();
            (0..changes).for_each(|_| change(&mut document, &whole, target, random));
            let mut bytes = document.to_string().into_bytes();
            if random.once_in(20) {
                garble(&mut bytes, random);
            }
            bytes
        }
        Form::Lines => {
            let mut lines: Vec<String> = sample.lines().map(str::to_owned).collect();
            (0..changes).for_each(|_| change_lines(&mut lines, target, random));
            lines.join("\n").into_bytes()
        }
        Form::Bytes => {
            let length = random.below(2048);
            (0..length).map(|_| random.next() as u8).collect()
        }
    }
}

/// Changes one place of a tree: on the way down each branch is as likely as the others.
fn change(value: &mut Value, whole: &Value, target: &Target, random: &mut Random) {
    let descend = !random.once_in(4);
    match value {
        Value::Object(map) if descend && !map.is_empty() => {
            let place = random.below(map.len());
            if random.once_in(8) {
                let key = map.keys().nth(place).cloned().unwrap_or_default();
                map.remove(&key);
            } else if let Some(inner) = map.values_mut().nth(place) {
                change(inner, whole, target, random);
            }
        }
        Value::Array(list) if descend && !list.is_empty() => {
            let place = random.below(list.len());
            match random.below(6) {
                0 => drop(list.remove(place)),
                1 => list.insert(place, list[place].clone()),
                2 => list.swap(place, 0),
                _ => change(&mut list[place], whole, target, random),
            }
        }
        other => *other = replacement(other, whole, target, random),
    }
}

fn replacement(value: &Value, whole: &Value, target: &Target, random: &mut Random) -> Value {
    match (random.below(6), value) {
        // Mostly of the same type: another type ends at the parser.
        (0, _) => Value::Null,
        (1, _) => part_of(whole, random).clone(),
        (_, Value::String(text)) => Value::String(string(text, target, random)),
        (_, Value::Number(_)) => Value::from(*random.pick(NUMBERS)),
        (_, Value::Bool(was)) => Value::Bool(!was),
        (_, Value::Array(_)) => Value::Array(Vec::new()),
        (_, Value::Object(_)) => Value::Object(Default::default()),
        (_, Value::Null) => Value::String(string("", target, random)),
    }
}

/// Some subtree.
fn part_of<'a>(whole: &'a Value, random: &mut Random) -> &'a Value {
    let mut part = whole;
    while !random.once_in(5) {
        part = match part {
            Value::Object(map) if !map.is_empty() => map.values().nth(random.below(map.len())).unwrap_or(part),
            Value::Array(list) if !list.is_empty() => random.pick(list),
            _ => return part,
        };
    }
    part
}

fn string(text: &str, target: &Target, random: &mut Random) -> String {
    match random.below(4) {
        0 => (*random.pick(STRINGS)).to_owned(),
        1 if !target.words.is_empty() => (*random.pick(target.words)).to_owned(),
        2 => format!("{text}{}", random.pick(STRINGS)),
        _ => text.chars().filter(|_| !random.once_in(4)).collect(),
    }
}

fn change_lines(lines: &mut Vec<String>, target: &Target, random: &mut Random) {
    let place = random.below(lines.len() + 1);
    match lines.get(place).cloned() {
        Some(_) if random.once_in(4) => drop(lines.remove(place)),
        Some(line) if random.once_in(2) => lines[place] = string(&line, target, random),
        line => lines.insert(place, string(&line.unwrap_or_default(), target, random)),
    }
}

fn garble(bytes: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(bytes.len());
    if random.once_in(2) {
        bytes[place] = random.next() as u8;
    } else {
        bytes.truncate(place);
    }
}
