use super::*;

fn settings(arguments: &str, file_text: &str) -> Result<Settings, String> {
    let words: Vec<String> = arguments.split_whitespace().map(Into::into).collect();
    combine(&flags(&words)?, &file(file_text)?)
}

#[test]
fn flags_are_dockerds() {
    let found = settings(
        "-D -H unix:///x -H tcp://127.0.0.1:1 --data-root=/d --live-restore --mtu 1400 -ldebug --icc=false",
        "",
    )
    .unwrap();
    assert!(found.engine.debug && found.engine.live_restore && !found.engine.network.inter_container);
    assert_eq!(found.hosts, ["unix:///x", "tcp://127.0.0.1:1"]);
    assert_eq!((found.engine.data_root.as_path(), found.engine.network.mtu), (std::path::Path::new("/d"), 1400));
    assert_eq!(found.log_level, "debug");
    assert_eq!(found.pidfile(), std::path::Path::new("/run/corten/corten.pid"));
}

#[test]
fn the_file_has_dockerds_keys() {
    let found = settings(
        "",
        r#"{"hosts":["unix:///y"],"log-opts":{"max-size":"10m","max-file":3},"default-shm-size":"128M","bip":"10.9.0.1/24",
            "default-address-pools":[{"base":"10.10.0.0/16","size":24}],"insecure-registries":["r:5000"],"shutdown-timeout":7,
            "default-ulimits":{"nofile":{"Name":"nofile","Soft":10,"Hard":20}},"iptables":false,"features":{"x":true}}"#,
    )
    .unwrap();
    assert_eq!(found.hosts, ["unix:///y"]);
    assert_eq!(
        (found.engine.log_options["max-size"].as_str(), found.engine.log_options["max-file"].as_str()),
        ("10m", "3")
    );
    assert_eq!(found.engine.default_shm_size, 128 << 20);
    assert_eq!(found.engine.network.bip.unwrap().to_string(), "10.9.0.1/24");
    assert_eq!(found.engine.network.default_address_pools[0].size, 24);
    assert_eq!((found.engine.default_ulimits[0].soft, found.engine.default_ulimits[0].hard), (10, 20));
    assert!(!found.engine.network.firewall);
    assert_eq!(found.engine.shutdown_timeout, Duration::from_secs(7));
}

#[test]
fn refusals() {
    let check = |arguments: &str, file: &str, expect: &str| {
        let error = settings(arguments, file).unwrap_err();
        assert!(error.contains(expect), "{error}");
    };
    check("--nope", "", "unknown flag: --nope");
    check("-x", "", "unknown shorthand flag: 'x' in -x");
    check("stray", "", "accepts no arguments");
    check("--data-root", "", "flag needs an argument");
    check("", r#"{"colour":1}"#, "the following directives don't match any configuration option: colour");
    check("", r#"{"debug":"yes"}"#, "debug: the value has the wrong type");
    check("", "{", "EOF");
    check(
        "-D",
        r#"{"debug":true}"#,
        "specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)",
    );
    check("--log-level loud", "", "not a valid logging level: loud");
    check("--tls", "", "--tls: is not implemented");
    check("--userns-remap default", "", "is not implemented");
    check("--bip nonsense", "", "--bip: \"nonsense\"");
    check("--live-restore=perhaps", "", "neither true nor false");
}

#[test]
fn runtimes_come_from_the_flag_or_the_file() {
    let flags = settings("--add-runtime crun=/usr/bin/crun --add-runtime=y=y --default-runtime y", "").unwrap();
    assert_eq!(flags.engine.runtimes.external.keys().collect::<Vec<_>>(), ["crun", "y"]);
    assert_eq!(flags.engine.runtimes.default, "y");
    let file = r#"{"default-runtime":"crun","runtimes":{"crun":{"path":"/usr/bin/crun","runtimeArgs":["--debug"]}}}"#;
    let found = settings("", file).unwrap();
    assert_eq!(found.engine.runtimes.external["crun"].arguments, ["--debug"]);
    assert_eq!(found.engine.runtimes.default, "crun");
    assert_eq!(settings("", "").unwrap().engine.runtimes.default, "corten");
    let check = |arguments: &str, file: &str, expect: &str| assert_eq!(settings(arguments, file).unwrap_err(), expect);
    check("--add-runtime runc=/x", "", "runtime name 'runc' is reserved");
    check("--default-runtime nosuch", "", "specified default runtime 'nosuch' does not exist");
    check("--add-runtime x", "", "--add-runtime: invalid runtime argument: x");
    check(
        "--add-runtime x=/y",
        r#"{"runtimes":{"x":{"path":"/y"}}}"#,
        "the following directives are specified both as a flag and in the configuration file: runtimes: (from flag: x=/y, \
         from file: x={\"path\":\"/y\"})",
    );
}

#[test]
fn plain_tcp_has_to_be_said() {
    assert!(!settings("", "").unwrap().plain_tcp);
    assert!(settings("--tls=false", "").unwrap().plain_tcp);
}

#[test]
fn every_option_is_on_its_page() {
    let page = include_str!("../../../../docs/daemon.md");
    for option in OPTIONS {
        let name = if option.key.is_empty() { format!("`--{}`", option.flag) } else { format!("`{}`", option.key) };
        assert!(page.contains(&name), "docs/daemon.md has no {name}");
    }
}

#[test]
fn no_flag_and_no_key_is_there_twice() {
    for (place, option) in OPTIONS.iter().enumerate() {
        let twice = |other: &Opt| {
            (!option.flag.is_empty() && other.flag == option.flag)
                || (!option.key.is_empty() && other.key == option.key)
                || (option.short.is_some() && other.short == option.short)
        };
        assert!(!OPTIONS[place + 1..].iter().any(twice), "{}", option.flag);
    }
}
