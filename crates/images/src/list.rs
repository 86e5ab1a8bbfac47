//! Lists of images.

use std::collections::{HashMap, HashSet};

use corten_base::{Digest, ImageId, Reference, time};

use crate::record::{self, ImageRow, NameRow};
use crate::resolve::familiar;
use crate::types::{Filters, Summary};
use crate::{Images, Result};

/// How many images there are, without those that are shown with another one of their index.
const SHOWN: &str = "SELECT count(*) FROM images_image WHERE namespace = ?1 AND NOT (
    target ->> '$.digest' <> manifest ->> '$.digest'
    AND id NOT IN (SELECT image FROM images_name WHERE namespace = ?1)
    AND target ->> '$.digest' IN (SELECT target ->> '$.digest' FROM images_name WHERE namespace = ?1))";

impl Images {
    /// The images that all filters let through, newest first.
    ///
    /// # Errors
    /// As [`resolve`](Images::resolve) for the images that `before` and `since` name.
    pub fn list(&self, filters: &Filters) -> Result<Vec<Summary>> {
        let namespace = self.namespace().as_str();
        let (images, names) = self.database().read(|connection| -> Result<_> {
            Ok((record::images(connection, namespace)?, record::names(connection, namespace)?))
        })?;
        let bounds = self.bounds(filters)?;
        let parents: HashSet<ImageId> = images.iter().filter_map(|image| image.parent.clone()).collect();
        // Other platforms' images of an index that has a name are shown with the one that leads.
        let targets: HashSet<Digest> = names.iter().map(|name| name.target.digest.clone()).collect();
        let mut named: HashMap<ImageId, Vec<NameRow>> = HashMap::new();
        for name in names {
            named.entry(name.image.clone()).or_default().push(name);
        }
        let mut summaries: Vec<Summary> = images
            .into_iter()
            .filter(|image| bounds.hold(image.created) && has_labels(filters, image))
            .filter_map(|image| {
                let names = named.remove(&image.id).unwrap_or_default();
                let follows = names.is_empty() && image.is_of_index() && targets.contains(&image.target.digest);
                if follows { None } else { summary(filters, image, &names, &parents) }
            })
            .collect();
        summaries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.repo_tags.cmp(&b.repo_tags)));
        Ok(summaries)
    }

    /// The number of images.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata).
    pub fn count(&self) -> Result<usize> {
        let namespace = self.namespace().as_str();
        self.database().read(|connection| {
            let mut query = connection.prepare_cached(SHOWN)?;
            let count: i64 = query.query_row([namespace], |row| row.get(0))?;
            Ok(usize::try_from(count).unwrap_or(0))
        })
    }

    fn bounds(&self, filters: &Filters) -> Result<Bounds> {
        let created = |name: &String| self.find(name).map(|image| image.created);
        let mut before = filters.before.iter().map(created).collect::<Result<Vec<_>>>()?;
        before.extend(filters.until.map(time::unix_seconds));
        let since = filters.since.iter().map(created).collect::<Result<Vec<_>>>()?;
        Ok(Bounds { before: before.into_iter().min(), since: since.into_iter().max() })
    }
}

struct Bounds {
    before: Option<i64>,
    since: Option<i64>,
}

impl Bounds {
    fn hold(&self, created: i64) -> bool {
        self.before.is_none_or(|before| created < before) && self.since.is_none_or(|since| created > since)
    }
}

/// The line of an image, unless the filters on names hide it. With patterns, only the names that fit are shown.
fn summary(filters: &Filters, image: ImageRow, names: &[NameRow], parents: &HashSet<ImageId>) -> Option<Summary> {
    let fits = |row: &&NameRow| {
        filters.reference.is_empty() || filters.reference.iter().any(|pattern| matches(pattern, &row.reference))
    };
    let shown: Vec<NameRow> = names.iter().filter(fits).cloned().collect();
    if !filters.reference.is_empty() && shown.is_empty() {
        return None;
    }
    let nameless = names.is_empty();
    // A name with a digest alone doesn't keep an image from dangling.
    let tagged = names.iter().any(|row| row.reference.digest().is_none());
    if filters.dangling.is_some_and(|wanted| if wanted { tagged } else { nameless }) {
        return None;
    }
    // What a build left between its steps is nobody's image.
    if nameless && !filters.all && parents.contains(&image.id) {
        return None;
    }
    let (repo_tags, repo_digests) = familiar(&shown);
    Some(Summary {
        id: image.id,
        parent: image.parent,
        repo_tags,
        repo_digests,
        created: image.created,
        size: image.size,
        labels: image.labels,
        target: image.target,
        last_tagged: image.last_tagged.map(time::from_unix_nanos),
    })
}

fn has_labels(filters: &Filters, image: &ImageRow) -> bool {
    let has = |label: &String| match label.split_once('=') {
        Some((name, value)) => image.labels.get(name).is_some_and(|found| found == value),
        None => image.labels.contains_key(label),
    };
    filters.label.iter().all(has) && !filters.label_not.iter().any(has)
}

/// Whether a pattern fits a name, with or without its tag.
fn matches(pattern: &str, reference: &Reference) -> bool {
    glob(pattern.as_bytes(), reference.familiar().as_bytes())
        || glob(pattern.as_bytes(), reference.familiar_name().as_bytes())
}

/// Go's path.Match: `*` and `?` stop at slashes, `[a-z]` and `[^a]` are classes, a backslash quotes. Takes time in
/// proportion to both lengths, whatever the pattern.
fn glob(mut pattern: &[u8], text: &[u8]) -> bool {
    // Which beginnings of the text the pattern so far fits.
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    while let Some((token, rest)) = token(pattern) {
        let mut next = vec![false; text.len() + 1];
        for end in 0..=text.len() {
            let before = end.checked_sub(1);
            next[end] = match &token {
                Token::Star => fits[end] || before.is_some_and(|before| next[before] && text[before] != b'/'),
                single => before.is_some_and(|before| fits[before] && single.takes(text[before])),
            };
        }
        (fits, pattern) = (next, rest);
    }
    // A malformed pattern ends early and fits nothing.
    pattern.is_empty() && fits[text.len()]
}

enum Token {
    Star,
    Any,
    Byte(u8),
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Token::Star | Token::Any => byte != b'/',
            Token::Byte(wanted) => *wanted == byte,
            Token::Class { negated, ranges } => {
                byte != b'/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
        }
    }
}

/// The first token and what follows it; none at the end and for a class without one.
fn token(pattern: &[u8]) -> Option<(Token, &[u8])> {
    Some(match pattern {
        [] => return None,
        [b'*', rest @ ..] => (Token::Star, rest),
        [b'?', rest @ ..] => (Token::Any, rest),
        [b'[', b'^', rest @ ..] => class(rest, true)?,
        [b'[', rest @ ..] => class(rest, false)?,
        [b'\\', quoted, rest @ ..] => (Token::Byte(*quoted), rest),
        [byte, rest @ ..] => (Token::Byte(*byte), rest),
    })
}

fn class(mut pattern: &[u8], negated: bool) -> Option<(Token, &[u8])> {
    let mut ranges = Vec::new();
    loop {
        let (range, rest) = match pattern {
            [b']', rest @ ..] if !ranges.is_empty() => return Some((Token::Class { negated, ranges }, rest)),
            [low, b'-', high, rest @ ..] if *high != b']' => ((*low, *high), rest),
            [single, rest @ ..] => ((*single, *single), rest),
            [] => return None,
        };
        ranges.push(range);
        pattern = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, expect: bool| {
            let reference = Reference::parse_normalized(name).unwrap();
            assert_eq!(matches(pattern, &reference), expect, "{pattern} {name}");
        };
        check("busybox", "busybox:latest", true);
        check("busybox:latest", "busybox:latest", true);
        check("busybox:1", "busybox:latest", false);
        check("busy*", "busybox:latest", true);
        check("*", "user/app:1", false);
        check("*/*", "user/app:1", true);
        check("*/app:?", "user/app:1", true);
        check("b[a-u]sybox", "busybox:latest", true);
        check("b[^a-u]sybox", "busybox:latest", false);
        check("b[usybox", "busybox:latest", false);
        check("localhost:5000/*", "localhost:5000/app:1", true);
    }

    #[test]
    fn many_stars_end_in_reasonable_time() {
        assert!(!glob("*a".repeat(500).as_bytes(), "a".repeat(499).as_bytes()));
    }
}
