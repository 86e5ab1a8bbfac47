//! The engine itself: opening everything in order, and closing it.

use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use corten_base::Namespace;
use corten_cgroup::{CgroupPath, Tree};
use corten_content::Store;
use corten_distribution::{Credentials, RegistryConfig};
use corten_images::Images;
use corten_metadata::Database;
use corten_network::Networks;
use corten_snapshot::Snapshots;
use corten_spec::limits::Support;
use corten_volumes::Volumes;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::blocking;
use crate::config::Config;
use crate::containers::Containers;
use crate::error::Error;
use crate::exec::ExecService;
use crate::parents::Parents;
use crate::pool::Pool;
use crate::record::{self, Records};
use crate::resources::{NetworkService, VolumeService};
use crate::services::ImageService;
use crate::shared::Shared;
use crate::spare::Spares;
use crate::task::Request;

/// Starts under way at once for each processor (measured: more only makes each of them slower).
const STARTS_PER_PROCESSOR: usize = 4;

/// Starts by other runtimes at once: each takes a thread of those for blocking work as long as the runtime takes.
const MOST_EXTERNAL_STARTS: usize = 16;

/// A container engine over one data root. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    fillers: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// Keep room on the disk.
    keepers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Engine {
    /// Opens the data root, takes over containers that run, cleans up what a dead engine left, and begins to work. Must be called on
    /// a tokio runtime, on which all of the engine's tasks will run.
    pub async fn start(config: Config) -> Result<Engine, Error> {
        let opened = blocking::run(move || open(config)).await??;
        let shared = Arc::new(opened);
        shared.pool.expect(crate::launch::usual(&shared)?);
        let inner = shared.clone();
        let found = blocking::run(move || crate::reconcile::survey(&inner)).await??;
        crate::reconcile::revive(&shared, found)?;
        let fillers =
            [tokio::spawn(shared.pool.clone().keep_filled()), tokio::spawn(shared.spares.clone().keep_filled())];
        let mut keepers = vec![tokio::spawn(crate::expiry::keep(shared.clone()))];
        keepers
            .extend(shared.config.watermarks.map(|marks| tokio::spawn(crate::watermark::keep(shared.clone(), marks))));
        Ok(Engine { shared, fillers: Arc::new(Mutex::new(fillers.into())), keepers: Arc::new(Mutex::new(keepers)) })
    }

    /// Ends the engine: stops all containers with their grace unless they are to live on, and waits for what goes on behind answered
    /// requests.
    pub async fn shutdown(&self) {
        self.shared.pool.close();
        self.shared.collector.close();
        self.shared.spares.close();
        let fillers = std::mem::take(&mut *self.fillers.lock().unwrap_or_else(PoisonError::into_inner));
        for filler in fillers {
            crate::undo::log("what is made beforehand did not end cleanly", filler.await);
        }
        for keeper in self.keepers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            keeper.abort();
        }
        if !self.shared.config.live_restore {
            let patience = self.shared.config.shutdown_timeout;
            if tokio::time::timeout(patience, self.stop_all()).await.is_err() {
                tracing::warn!(?patience, "containers did not stop in time; they run on");
            }
        }
        self.settle().await;
        let shared = self.shared.clone();
        let drained = blocking::run(move || {
            shared.spares.clear();
            shared.snapshots.wait_removed();
            shared.pool.drain();
        });
        crate::undo::log("the engine did not end cleanly", drained.await);
    }

    async fn stop_all(&self) {
        let handles = self.shared.registry.everything();
        let mut stopping = tokio::task::JoinSet::new();
        for handle in handles.into_iter().filter(|handle| handle.now().state.is_running()) {
            stopping.spawn(async move { handle.ask(|reply| Request::Shutdown { reply }).await });
        }
        while let Some(stopped) = stopping.join_next().await {
            if let Ok(Err(error)) = stopped {
                tracing::warn!(error = error.message(), "a container could not be stopped");
            }
        }
    }

    /// Waits until everything that goes on behind answered requests is done: after it, the host holds what the API shows and no more.
    pub async fn settle(&self) {
        self.shared.background.idle().await;
        let shared = self.shared.clone();
        let settled = blocking::run(move || {
            shared.networks.settle();
            shared.snapshots.wait_removed();
        });
        crate::undo::log("the engine did not settle", settled.await);
    }

    /// Containers of the default namespace.
    pub fn containers(&self) -> Containers {
        self.containers_in(Namespace::default())
    }

    /// Containers of another namespace.
    pub fn containers_in(&self, namespace: Namespace) -> Containers {
        Containers { shared: self.shared.clone(), namespace }
    }

    /// Executions of the default namespace.
    pub fn execs(&self) -> ExecService {
        ExecService { shared: self.shared.clone(), namespace: Namespace::default() }
    }

    /// Images of the default namespace.
    pub fn images(&self) -> ImageService {
        ImageService { shared: self.shared.clone(), namespace: Namespace::default() }
    }

    /// Networks of the default namespace.
    pub fn networks(&self) -> NetworkService {
        NetworkService { shared: self.shared.clone(), namespace: Namespace::default() }
    }

    /// Volumes of the default namespace.
    pub fn volumes(&self) -> VolumeService {
        VolumeService { shared: self.shared.clone(), namespace: Namespace::default() }
    }

    /// Follows the default namespace's events, from a time on (nanoseconds since 1970) or from now.
    pub fn subscribe(&self, filter: corten_events::Filter, since_ns: Option<i64>) -> corten_events::Subscription {
        self.shared.events.subscribe(&Namespace::default(), filter, since_ns)
    }

    /// Whether a registry takes an account; a token that can take the password's place, if it gives one.
    pub async fn login(&self, address: &str, credentials: &Credentials) -> Result<Option<String>, Error> {
        Ok(self.shared.registries.login(address, credentials).await.map_err(corten_images::Error::from)?)
    }

    /// The engine's settings.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }
}

/// Opens all stores and rooms, from below. Blocks.
fn open(config: Config) -> Result<Shared, Error> {
    config.watermarks.map_or(Ok(()), |marks| marks.check())?;
    let data = &config.data_root;
    for directory in [data.clone(), data.join("containers"), config.exec_root.clone(), config.exec_root.join("shims")] {
        make_directory(&directory)?;
    }
    let lock = lock(data)?;
    let failed = |what: &'static str| format!("cannot open {what} below {}", data.display());
    let schemas = [
        corten_content::SCHEMA,
        corten_snapshot::SCHEMA,
        corten_images::SCHEMA,
        corten_network::SCHEMA,
        corten_volumes::SCHEMA,
        record::SCHEMA,
    ];
    let database =
        Database::open(&data.join("metadata.db"), &schemas).map_err(Error::failed(failed("the metadata")))?;
    let content = Store::open(&data.join("content"), database.clone()).map_err(Error::failed(failed("the blobs")))?;
    let snapshots = Snapshots::open(&data.join("snapshots"), database.clone())
        .map_err(Error::failed(failed("the layers")))?
        .with_init(crate::init_layer::make);
    config.largest_layer.into_iter().for_each(|bytes| snapshots.limit_layers(bytes));
    let events = corten_events::Log::new(config.event_capacity);
    let images = Images::open(database.clone(), content, snapshots.clone(), events.clone())?;
    images.ensure_hello()?;
    let networks = Networks::open(database.clone(), config.network.clone())?;
    let volumes = Volumes::open(&data.join("volumes"), database.clone())?;

    let control = || Error::failed("cannot use the host's control groups");
    let cgroups = Tree::detect().map_err(control())?;
    if cgroups.is_v2() {
        cgroups.enable_root_controllers().map_err(control())?;
    }
    let cgroup_parent = CgroupPath::parse(&config.cgroup_parent).map_err(control())?;
    let cgroup_parents = Parents::open(&config.exec_root, &cgroups, &cgroup_parent)
        .map_err(Error::failed("cannot write the control groups' parents down"))?;
    let support = support(&cgroups);
    let pool_tree = Tree::detect().map_err(control())?;
    let pool = Pool::new(&config.executable, pool_tree, cgroup_parent.clone(), config.pool_size)?;
    let registries = registries(&config)?;
    let spares = Spares::open(snapshots.clone(), data.join("spares"))?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Shared {
        id: identity(data)?,
        records: Records::new(database),
        registry_client: registries.blocking(tokio::runtime::Handle::current()),
        registries,
        snapshots,
        images,
        transfers: Default::default(),
        image_arrived: Default::default(),
        pull_interrupted: Default::default(),
        networks,
        volumes,
        events,
        registry: Default::default(),
        execs: Default::default(),
        collector: Default::default(),
        pool: Arc::new(pool),
        spares: Arc::new(spares),
        cgroups,
        cgroup_parent,
        cgroup_parents,
        host: corten_spec::host::facts(),
        support,
        filters: Default::default(),
        init: Default::default(),
        starts: Semaphore::new(processors * STARTS_PER_PROCESSOR),
        external_starts: Semaphore::new((processors * STARTS_PER_PROCESSOR).min(MOST_EXTERNAL_STARTS)),
        background: Default::default(),
        config,
        _lock: lock,
    })
}

/// A client for registries, with the daemon's settings and its environment's proxies.
fn registries(config: &Config) -> Result<corten_distribution::Client, Error> {
    let invalid = |error: corten_distribution::Error| Error::Invalid(crate::error::chain(&error));
    let proxies = &config.proxies;
    let proxies = corten_distribution::Proxies::from_environment_but(
        proxies.https.as_deref(),
        proxies.http.as_deref(),
        proxies.exceptions.as_deref(),
    );
    let mut settings = RegistryConfig { proxies: proxies.map_err(invalid)?, ..RegistryConfig::default() };
    settings.directories.clone_from(&config.registry_directories);
    settings.limits = config.registry_limits;
    let insecure = config.insecure_registries.iter().map(|text| text.parse());
    settings.insecure = insecure.collect::<Result<_, _>>().map_err(invalid)?;
    let mirrors = config.registry_mirrors.iter().map(|text| text.parse());
    settings.mirrors = mirrors.collect::<Result<_, _>>().map_err(invalid)?;
    Ok(corten_distribution::Client::new(settings))
}

fn make_directory(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
    made.map_err(Error::failed(format!("cannot make the directory {}", path.display())))
}

/// One engine at a time: two on the same records would undo each other's work.
fn lock(data_root: &Path) -> Result<fs::File, Error> {
    let path = data_root.join("corten.lock");
    let failed = || Error::failed(format!("cannot lock {}", path.display()));
    let mut file =
        fs::File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed())?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(failed())?;
        let data_root = data_root.display();
        return Err(Error::Conflict(format!(
            "the data root {data_root} is in use by another daemon (pid {})",
            holder.trim()
        )));
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed())?;
    writeln!(file, "{}", std::process::id()).map_err(failed())?;
    Ok(file)
}

/// An id that stays with the data root.
fn identity(data_root: &Path) -> Result<String, Error> {
    let path = data_root.join("engine-id");
    if let Ok(id) = fs::read_to_string(&path) {
        return Ok(id.trim().into());
    }
    let hex = corten_base::ContainerId::generate().to_string();
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-");
    fs::write(&path, format!("{id}\n")).map_err(Error::failed("cannot write the engine's id"))?;
    Ok(id)
}

/// Which limits work here, in `spec`'s words.
fn support(tree: &Tree) -> Support {
    let found = tree.support();
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default();
    Support {
        memory: found.memory,
        swap: found.swap,
        memory_reservation: found.memory_reservation,
        memory_swappiness: found.memory_swappiness,
        oom_kill_disable: found.oom_kill_disable,
        pids: found.pids,
        cpu_shares: found.cpu_shares,
        cpu_cfs: found.cpu_cfs,
        cpu_realtime: found.cpu_realtime,
        cpuset: found.cpuset,
        blkio_weight: found.blkio_weight,
        blkio_weight_device: found.blkio_weight_device,
        blkio_throttle: found.blkio_throttle,
        cpus: read("/sys/devices/system/cpu/online"),
        mems: read("/sys/devices/system/node/online"),
        cpu_count: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
    }
}
