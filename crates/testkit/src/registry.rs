//! Debian's `docker-registry` inside an engine's network namespace, on 127.0.0.1:5000.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Answer, TestEngine};

/// A running registry; ended when dropped.
pub struct Registry {
    child: Child,
}

impl Registry {
    /// The registry's address as it stands in image names.
    pub const HOST: &str = "127.0.0.1:5000";

    /// Starts a registry with its storage below the engine's directory.
    pub fn start(engine: &TestEngine) -> Self {
        Self::start_with(engine, "")
    }

    /// The user of a registry that asks for one.
    pub const USER: &str = "me";
    /// That one's password.
    pub const PASSWORD: &str = "U*U";

    /// A registry that wants [`USER`](Self::USER) and [`PASSWORD`](Self::PASSWORD).
    pub fn start_with_password(engine: &TestEngine) -> Self {
        Self::start_with(engine, &passwords(engine))
    }

    /// A registry with TLS at an address of the test's choice; a folder has its [`certificates`](crate::server::certificates).
    pub fn start_with_tls(engine: &TestEngine, address: &str, certificates: &Path) -> Self {
        let at = certificates.display();
        let tls = format!(", tls: {{certificate: {at}/server.pem, key: {at}/server.key}}");
        Self::launch(engine, address, &engine.path().join("registry"), &tls, "")
    }

    /// The same that wants a password and certificates of the folder's authority of its clients too.
    pub fn start_secure(engine: &TestEngine, address: &str, certificates: &Path) -> Self {
        let at = certificates.display();
        let tls = format!(", tls: {{certificate: {at}/server.pem, key: {at}/server.key, clientcas: [{at}/ca.pem]}}");
        Self::launch(engine, address, &engine.path().join("registry"), &tls, &passwords(engine))
    }

    /// A registry with more lines of configuration.
    pub fn start_with(engine: &TestEngine, besides: &str) -> Self {
        Self::launch(engine, Self::HOST, &engine.path().join("registry"), "", besides)
    }

    /// A registry at another address, with what is stored in a folder already.
    pub fn start_at(engine: &TestEngine, storage: &Path, address: &str) -> Self {
        Self::launch(engine, address, storage, "", "")
    }

    fn launch(engine: &TestEngine, address: &str, storage: &Path, http: &str, besides: &str) -> Self {
        let config = engine.path().join(format!("registry-{}.yml", address.replace(':', "-")));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: {address}{http}}}\n{besides}",
            storage.display(),
        );
        std::fs::write(&config, text).expect("writing the registry's configuration");
        let mut command = engine.inside("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { child: command.spawn().expect("docker-registry starts") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while engine.connect(address).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// Puts a docker-archive's image into the registry as `name` (without the host) and gives the manifest's digest.
    pub fn push(&self, engine: &TestEngine, archive: &Path, name: &str) -> String {
        let digest = engine.path().join("pushed-digest");
        let mut skopeo = engine.inside("skopeo");
        skopeo.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
        skopeo.arg("--digestfile").arg(&digest).arg(format!("docker-archive:{}", archive.display()));
        Answer::of(skopeo.arg(format!("docker://{}/{name}", Self::HOST)), b"").ok();
        std::fs::read_to_string(digest).expect("skopeo wrote the digest").trim().to_owned()
    }
}

impl Registry {
    /// Puts everything that an OCI layout's one entry names into the registry, byte for byte, and gives the top's digest.
    pub fn push_layout(&self, engine: &TestEngine, archive: &Path, name: &str) -> String {
        let digest = engine.path().join("pushed-digest");
        let mut skopeo = engine.inside("skopeo");
        skopeo.args(["copy", "--quiet", "--all", "--preserve-digests", "--insecure-policy", "--dest-tls-verify=false"]);
        skopeo.arg("--digestfile").arg(&digest).arg(format!("oci-archive:{}", archive.display()));
        Answer::of(skopeo.arg(format!("docker://{}/{name}", Self::HOST)), b"").ok();
        std::fs::read_to_string(digest).expect("skopeo wrote the digest").trim().to_owned()
    }

    /// The bytes of a manifest or index in the registry.
    pub fn manifest(&self, engine: &TestEngine, name: &str) -> Vec<u8> {
        let mut skopeo = engine.inside("skopeo");
        skopeo.args(["inspect", "--tls-verify=false", "--raw"]).arg(format!("docker://{}/{name}", Self::HOST));
        let output = skopeo.output().expect("skopeo starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// The configuration of a registry that asks for a password.
fn passwords(engine: &TestEngine) -> String {
    let file = engine.path().join("htpasswd");
    // bcrypt of the password, from the test vectors of crypt_blowfish.
    let line = format!("{}:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n", Registry::USER);
    std::fs::write(&file, line).expect("writing the registry's passwords");
    format!("auth:\n  htpasswd: {{realm: basic-realm, path: {}}}\n", file.display())
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
