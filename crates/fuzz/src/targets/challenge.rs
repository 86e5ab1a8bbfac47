//! `WWW-Authenticate`: whatever stands there, names are lower case and of tokens, and the reading comes to an end.

use corten_distribution::Challenge;

use crate::{Form, Target};

pub(crate) const TARGET: Target = Target {
    name: "www-authenticate",
    form: Form::Lines,
    samples: &[
        "Bearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"repository:a/b:pull\"",
        "Negotiate, Basic realm=\"x\", charset=UTF-8",
    ],
    words: &["Bearer", "Basic", "realm", "=", "\"", "\\", ",", " ", "\\\"", "error=\"insufficient_scope\"", "\u{e9}"],
    run,
};

fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    for challenge in Challenge::parse(text) {
        let names = challenge.parameters.keys().chain([&challenge.scheme]);
        for name in names {
            assert!(!name.is_empty() && !name.contains([' ', '"', ',', '=']), "{name:?}");
            assert_eq!(*name, name.to_ascii_lowercase());
        }
        assert!(challenge.parameter("realm").is_none_or(|realm| !realm.is_empty()));
    }
}
