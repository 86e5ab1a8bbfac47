//! Every dependency's licence must be one that an Apache-2.0 program may be linked with and handed on under.

use anyhow::{Result, bail};

use crate::metadata::Package;

const ACCEPTED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Fails with each package that states no licence or one that is not accepted.
pub fn check(packages: &[Package]) -> Result<()> {
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package.licence.as_deref().is_some_and(acceptable))
        .map(|package| {
            format!("{} {}: {}", package.name, package.version, package.licence.as_deref().unwrap_or("none stated"))
        })
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    bail!("licences that are not accepted:\n  {}", refused.join("\n  "))
}

/// Reads the SPDX expressions that crates use: alternatives joined by OR (or the old `/`), each of parts joined by AND.
fn acceptable(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], " ");
    if expression.contains('(') {
        // `(A OR B) AND C`: every part joined by AND needs one accepted alternative.
        return flat.split(" AND ").all(|part| part.split(" OR ").any(|name| ACCEPTED.contains(&name.trim())));
    }
    flat.split(" OR ").any(|choice| choice.split(" AND ").all(|name| ACCEPTED.contains(&name.trim())))
}

#[cfg(test)]
mod tests {
    use super::acceptable;

    #[test]
    fn expressions() {
        for (expression, expect) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
        ] {
            assert_eq!(acceptable(expression), expect, "{expression}");
        }
    }
}
