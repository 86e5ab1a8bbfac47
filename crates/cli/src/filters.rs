//! `--filter key=value`, as the API takes it: an object of sets.

use std::collections::BTreeMap;

use crate::matches::Matches;

/// Checks a `--filter` value.
pub(crate) fn filter(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('=') {
        Ok(())
    } else {
        Err("bad format of filter (expected name=value)".to_owned())
    }
}

/// The filters of a command, and more that the command adds itself.
pub(crate) fn to_query(matches: &Matches, more: &[(&str, &str)]) -> Option<String> {
    let mut filters: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    let given = matches.all("filter").filter_map(|text| text.split_once('='));
    for (key, value) in given.chain(more.iter().copied()) {
        filters.entry(key.trim().to_ascii_lowercase()).or_default().insert(value.trim().to_owned(), true);
    }
    (!filters.is_empty()).then(|| serde_json::to_string(&filters).expect("maps of strings always serialise"))
}
