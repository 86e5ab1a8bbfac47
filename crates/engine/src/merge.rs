//! A container's settings with its image's defaults: pure, after Docker's rules.

use corten_images::RunConfig;

use crate::settings::ContainerSpec;

/// Fills what the client left open from the image's configuration.
pub(crate) fn merge(spec: &mut ContainerSpec, image: &RunConfig) {
    if spec.user.is_empty() {
        spec.user.clone_from(&image.user);
    }
    if spec.working_dir.is_empty() {
        spec.working_dir.clone_from(&image.working_dir);
    }
    if spec.stop_signal.is_empty() {
        spec.stop_signal = image.stop_signal.clone().unwrap_or_default();
    }
    spec.exposed_ports
        .extend(image.exposed_ports.iter().flat_map(|ports| ports.keys().map(|port| with_protocol(port))));
    spec.volumes.extend(image.volumes.iter().flat_map(|volumes| volumes.keys().cloned()));
    for (key, value) in image.labels.iter().flatten() {
        spec.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    merge_environment(&mut spec.env, &image.env);
    merge_command(spec, image);
}

/// `80` is `80/tcp`.
fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.into() } else { format!("{port}/tcp") }
}

/// The image's variables come last, without those that the client sets or removes.
fn merge_environment(env: &mut Vec<String>, image: &[String]) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_string();
    let set: Vec<String> = env.iter().map(|entry| name(entry)).collect();
    env.extend(image.iter().filter(|entry| !set.contains(&name(entry))).cloned());
}

/// A client's entry point resets the image's command; an empty one resets the image's entry point.
fn merge_command(spec: &mut ContainerSpec, image: &RunConfig) {
    if spec.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if spec.cmd.as_ref().is_none_or(Vec::is_empty) {
            spec.cmd.clone_from(&image.cmd);
        }
        if spec.entrypoint.is_none() {
            spec.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if spec.entrypoint.as_deref().is_some_and(|entrypoint| matches!(entrypoint, [only] if only.is_empty())) {
        spec.entrypoint = None;
    }
}

/// Program and arguments, as they are executed.
pub(crate) fn arguments(spec: &ContainerSpec) -> Vec<String> {
    spec.entrypoint.iter().chain(&spec.cmd).flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &str) -> Option<Vec<String>> {
        (words != "-").then(|| words.split_whitespace().map(|word| word.replace('_', "")).collect())
    }

    /// Client's entry point and command, the image's, and what is run; `-` is unset, `_` an empty string.
    fn check(client: (&str, &str), image: (&str, &str), expect: &str) {
        let mut spec = ContainerSpec { entrypoint: strings(client.0), cmd: strings(client.1), ..Default::default() };
        let image = RunConfig { entrypoint: strings(image.0), cmd: strings(image.1), ..Default::default() };
        merge(&mut spec, &image);
        assert_eq!(arguments(&spec).join(" "), expect, "{client:?} {image:?}");
    }

    #[test]
    fn commands() {
        check(("-", "-"), ("-", "sh"), "sh");
        check(("-", "ls -l"), ("-", "sh"), "ls -l");
        check(("-", "-"), ("init", "sh"), "init sh");
        check(("-", "ls"), ("init", "sh"), "init ls");
        check(("top", "-"), ("init", "sh"), "top");
        check(("top", "a"), ("init", "sh"), "top a");
        check(("_", "-"), ("init", "sh"), "");
        check(("_", "ls"), ("init", "sh"), "ls");
        check(("", "-"), ("init", "sh"), "sh");
    }

    #[test]
    fn environment() {
        let mut env = vec!["A=1".to_string(), "B".into()];
        merge_environment(&mut env, &["A=0".into(), "B=0".into(), "C=3".into()]);
        assert_eq!(env, ["A=1", "B", "C=3"]);
    }

    #[test]
    fn the_rest_is_filled_or_united() {
        let mut spec = ContainerSpec { user: "me".into(), ..Default::default() };
        spec.labels.insert("a".into(), "mine".into());
        spec.exposed_ports.insert("1/udp".into());
        let image: RunConfig = serde_json::from_str(
            r#"{"User":"you","WorkingDir":"/w","StopSignal":"SIGINT","ExposedPorts":{"80":{}},"Volumes":{"/v":{}},
                "Labels":{"a":"theirs","b":"theirs"}}"#,
        )
        .unwrap();
        merge(&mut spec, &image);
        assert_eq!((spec.user.as_str(), spec.working_dir.as_str(), spec.stop_signal.as_str()), ("me", "/w", "SIGINT"));
        assert_eq!(spec.exposed_ports.iter().collect::<Vec<_>>(), ["1/udp", "80/tcp"]);
        assert_eq!((spec.labels["a"].as_str(), spec.labels["b"].as_str()), ("mine", "theirs"));
        assert!(spec.volumes.contains("/v"));
    }
}
