//! The files that tell a container about its networks: `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use corten_network::hosts::{self, HostsInput};
use corten_network::resolv::{self, DnsSettings};

use crate::error::Error;
use crate::record::Record;
use crate::settings::{ContainerSpec, NetworkMode};
use crate::shared::Shared;
use crate::view::{Files, NetworkView};

/// The three, open: they can be mounted before they are [written](NetworkFiles::write).
#[derive(Debug)]
pub(crate) struct NetworkFiles<'a> {
    hostname: OpenFile<'a>,
    hosts: OpenFile<'a>,
    resolv_conf: OpenFile<'a>,
}

impl NetworkFiles<'_> {
    /// Opens them, or makes them empty.
    pub(crate) fn open(files: &Files) -> Result<NetworkFiles<'_>, Error> {
        Ok(NetworkFiles {
            hostname: OpenFile::create(&files.hostname)?,
            hosts: OpenFile::create(&files.hosts)?,
            resolv_conf: OpenFile::create(&files.resolv_conf)?,
        })
    }

    /// Writes them.
    pub(crate) fn write(self, shared: &Shared, record: &Record, network: &NetworkView) -> Result<(), Error> {
        let spec = &record.spec;
        let host = matches!(spec.network_mode, NetworkMode::Host);
        let hostname = if spec.uts_host { crate::launch::host_name() } else { spec.hostname.clone() };
        self.hostname.write(&hosts::hostname(&hostname))?;
        let extra = extra_hosts(shared, spec)?;
        let text = if host {
            read("/etc/hosts")? + &extra_lines(&extra)
        } else {
            let addresses: Vec<IpAddr> =
                network.endpoints.values().filter_map(|endpoint| endpoint.ip_address.parse().ok()).collect();
            hosts::hosts(&HostsInput {
                hostname: &hostname,
                domainname: &spec.domainname,
                addresses: &addresses,
                extra: &extra,
                ipv6_loopback: Path::new("/proc/sys/net/ipv6").exists(),
            })
        };
        self.hosts.write(&text)?;
        self.resolv_conf.write(&resolv_conf(spec, host)?)
    }
}

/// One of them.
#[derive(Debug)]
struct OpenFile<'a> {
    path: &'a Path,
    file: fs::File,
}

impl OpenFile<'_> {
    fn create(path: &Path) -> Result<OpenFile<'_>, Error> {
        let file = fs::File::options().write(true).create(true).truncate(false).open(path);
        file.map(|file| OpenFile { path, file }).map_err(cannot_write(path))
    }

    /// Replaces what is there. It is never truncated to nothing: ext4 brings a file that was to the disk when it is closed, and most
    /// containers are gone before theirs would have to go there.
    fn write(mut self, text: &str) -> Result<(), Error> {
        let length = text.len() as u64;
        let mut write = || {
            self.file.write_all(text.as_bytes())?;
            if self.file.metadata()?.len() > length {
                self.file.set_len(length)?;
            }
            Ok(())
        };
        write().map_err(cannot_write(self.path))
    }
}

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::failed(format!("cannot write {}", path.display()))
}

fn resolv_conf(spec: &ContainerSpec, host: bool) -> Result<String, Error> {
    let server =
        |text: &String| text.parse().map_err(|_| Error::Invalid(format!("invalid nameserver address {text:?}")));
    let settings = DnsSettings {
        servers: spec.dns.iter().map(server).collect::<Result<_, _>>()?,
        search: spec.dns_search.clone(),
        options: spec.dns_options.clone(),
    };
    let text = read(resolv::HOST_FILE)?;
    if host {
        return Ok(resolv::for_host_network(&text, resolv::HOST_FILE, &settings));
    }
    let source = resolv::source_file(&text);
    let text = if source == resolv::HOST_FILE { text } else { read(source)? };
    Ok(resolv::for_sandbox(&text, source, &settings))
}

/// `--add-host`, with `host-gateway` looked up.
fn extra_hosts(shared: &Shared, spec: &ContainerSpec) -> Result<Vec<(String, IpAddr)>, Error> {
    let entry = |line: &String| {
        let bad = || Error::Invalid(format!("bad format for add-host: {line:?}"));
        let (name, address) = line.split_once(['=', ':']).ok_or_else(bad)?;
        if address != "host-gateway" {
            let address = address.trim_matches(['[', ']']).parse();
            return Ok((
                name.to_string(),
                address.map_err(|_| Error::Invalid(format!("invalid IP address in add-host: {line:?}")))?,
            ));
        }
        let bridge = shared.networks.inspect("bridge")?;
        let gateway = bridge.ipam.first().and_then(|ipam| ipam.gateway);
        let missing = || Error::Invalid("unable to derive the IP value for host-gateway".into());
        Ok((name.to_string(), IpAddr::V4(gateway.ok_or_else(missing)?)))
    };
    spec.extra_hosts.iter().map(entry).collect()
}

fn extra_lines(extra: &[(String, IpAddr)]) -> String {
    extra.iter().map(|(name, address)| format!("{address}\t{name}\n")).collect()
}

fn read(path: &str) -> Result<String, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::failed(format!("cannot read {path}"))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_in_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        OpenFile::create(&path).unwrap().write("127.0.0.1\tlocalhost\n").unwrap();
        let before = inode(&path);
        for text in ["::1\n", "", "10.0.0.1\tdb\n"] {
            OpenFile::create(&path).unwrap().write(text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(inode(&path), before, "what is mounted shows the new text");
    }
}
