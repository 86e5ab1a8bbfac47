//! The host's `/etc/hosts` and `/etc/resolv.conf`: hosts(5), resolv.conf(5).

use std::net::IpAddr;
use std::time::Duration;

/// Addresses that the text of a hosts file gives to `name`.
pub(crate) fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut addresses = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// What resolv.conf says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    /// Names with so many dots are tried as they are first.
    pub dots: usize,
    pub timeout: Duration,
    pub attempts: u32,
}

impl Settings {
    pub fn parse(text: &str) -> Settings {
        let mut settings =
            Settings { servers: Vec::new(), search: Vec::new(), dots: 1, timeout: Duration::from_secs(5), attempts: 2 };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    settings.servers.extend(address);
                }
                Some("search" | "domain") => settings.search = words.take(6).map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| settings.set(option)),
                _ => {}
            }
        }
        settings.servers.truncate(3);
        if settings.servers.is_empty() {
            settings.servers.push([127, 0, 0, 1].into());
        }
        settings
    }

    fn set(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.dots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names to ask for, in this order.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let searched = self.search.iter().filter(|domain| *domain != ".").map(|domain| format!("{name}.{domain}"));
        let mut names: Vec<String> = searched.collect();
        let is_first = name.matches('.').count() >= self.dots;
        names.insert(if is_first { 0 } else { names.len() }, name.to_owned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_files() {
        let text =
            "127.0.0.1\tlocalhost\n# 1.1.1.1 x\n192.0.2.1 registry.test Reg # y\n2001:db8::1 registry.test\nbad x\n";
        let check = |name: &str, expect: &[&str]| {
            let expect: Vec<IpAddr> = expect.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(hosts(text, name), expect, "{name}");
        };
        check("registry.test", &["192.0.2.1", "2001:db8::1"]);
        check("REG.", &["192.0.2.1"]);
        check("x", &[]);
        check("y", &[]);
    }

    #[test]
    fn settings() {
        let text = "; c\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch a.org b.org\noptions ndots:2 timeout:1 rotate attempts:99\n";
        let settings = Settings::parse(text);
        assert_eq!(settings.servers, ["192.0.2.53".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        assert_eq!((settings.dots, settings.timeout.as_secs(), settings.attempts), (2, 1, 5));
        assert_eq!(settings.candidates("x.y"), ["x.y.a.org", "x.y.b.org", "x.y"]);
        assert_eq!(settings.candidates("x.y.z"), ["x.y.z", "x.y.z.a.org", "x.y.z.b.org"]);
        assert_eq!(settings.candidates("x."), ["x."]);
        assert_eq!(Settings::parse("").servers, [IpAddr::from([127, 0, 0, 1])]);
    }
}
