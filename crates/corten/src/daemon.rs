//! The role `corten daemon`: settings, listeners, signals, and the engine between them.
//!
//! The settings come from flags with dockerd's names and from a file with dockerd's keys (`daemon/options.rs`). What the daemon does
//! on a signal is Docker's too: SIGTERM and SIGINT end it with its containers (unless `live-restore`), a second one without waiting.

mod descriptors;
mod listen;
mod options;
mod runtimes;
mod settings;
mod values;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use corten_engine::Engine;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracing_subscriber::filter::LevelFilter;

use settings::Settings;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Threads for work that blocks: enough for the starts that run at once. What moves images has its own.
const BLOCKING_THREADS: usize = 48;
/// Address space for each of their stacks; only what is touched costs memory.
const STACK: usize = 2 * 1024 * 1024;
/// A thread that has had nothing to do for so long ends, and its stack with it.
const IDLE_THREAD: Duration = Duration::from_secs(2);

/// Runs the daemon until it is told to end.
pub fn main(arguments: Vec<String>) -> ExitCode {
    let settings = match options::read(&arguments) {
        Ok(options::Action::Run(settings)) => *settings,
        Ok(options::Action::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("failed to start daemon: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut settings: Settings) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the daemon needs root privileges (rootless mode is not there yet)".into());
    }
    if settings.background {
        // A shell that ends takes its session with it, not the daemon.
        let _ = rustix::process::setsid();
    }
    spare_memory();
    log_to_stderr(&settings);
    if let Err(error) = descriptors::take_all(&mut settings.engine.default_ulimits) {
        tracing::warn!(%error, "the limit of open descriptors stays as it is");
    }
    // Before any thread is made: all of them leave these signals to the descriptor.
    let signals = corten_sys::signal::watch(&[SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| format!("cannot watch signals: {error}"))?;
    corten_sys::precedence::take();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK)
        .thread_keep_alive(IDLE_THREAD)
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let ended = runtime.block_on(serve(settings, signals));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// A daemon that waits shall cost little: few arenas, and large blocks straight from and back to the kernel. What images are moved
/// with is smaller than that: pages that the kernel must clear for each piece cost more than the copying.
fn spare_memory() {
    corten_sys::memory::limit_arenas(1);
    corten_sys::memory::set_mmap_threshold(512 * 1024);
    corten_sys::memory::set_trim_threshold(1024 * 1024);
}

fn log_to_stderr(settings: &Settings) {
    let level = match settings.log_level.as_str() {
        _ if settings.engine.debug => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" | "fatal" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let colours = rustix::termios::isatty(std::io::stderr()) && !settings.raw_logs;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_ansi(colours)
        .with_target(false)
        .init();
}

async fn serve(settings: Settings, signals: OwnedFd) -> Result<(), String> {
    let mut stop = watch(signals)?;
    listen::check(&settings)?;
    let pidfile = Pidfile::write(&settings.pidfile())?;
    // Clients that come while containers of an earlier daemon are taken over wait; none is answered before that is done.
    let listeners = listen::open(&settings)?;
    let started = tokio::select! {
        started = Engine::start(settings.engine.clone()) => started.map_err(|error| Some(error.message())),
        _ = stop.recv() => Err(None),
    };
    let engine = match started {
        Ok(engine) => engine,
        Err(reason) => {
            listeners.into_iter().for_each(corten_api_server::Listener::discard);
            return reason.map_or(Ok(()), Err);
        }
    };
    let addresses: Vec<String> = listeners.iter().map(corten_api_server::Listener::describe).collect();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), addresses = addresses.join(" "), "the daemon is ready");
    corten_sys::memory::trim();
    let tidying = tokio::spawn(give_memory_back());

    let (signalled, told) = tokio::sync::oneshot::channel();
    let patience = tokio::spawn(async move {
        let signal = stop.recv().await;
        tracing::info!(signal, "the daemon ends");
        let _ = signalled.send(());
        // Whoever asks twice means it.
        if stop.recv().await.is_some() {
            tracing::warn!("the daemon ends without waiting for its containers");
            std::process::exit(1);
        }
    });
    corten_api_server::serve(listeners, engine.clone(), async {
        let _ = told.await;
    })
    .await;
    engine.shutdown().await;
    patience.abort();
    tidying.abort();
    drop(pidfile);
    Ok(())
}

/// What a burst of work left in the heap goes back to the kernel a little later.
async fn give_memory_back() {
    let mut every = tokio::time::interval(Duration::from_secs(10));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        corten_sys::memory::trim();
    }
}

/// Numbers of the signals that end the daemon, as they arrive.
fn watch(signals: OwnedFd) -> Result<mpsc::Receiver<i32>, String> {
    #[expect(deprecated, reason = "the replacement is unsafe; an OwnedFd that is never exchanged keeps its contract")]
    let descriptor = AsyncFd::with_interest(signals, Interest::READABLE)
        .map_err(|error| format!("cannot watch signals: {error}"))?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok(mut ready) = descriptor.readable().await {
            while let Some(signal) = corten_sys::signal::next(descriptor.get_ref().as_fd()) {
                if signal == SIGHUP {
                    tracing::info!("settings are read at the start only; SIGHUP changes nothing");
                } else if sender.send(signal).await.is_err() {
                    return;
                }
            }
            ready.clear_ready();
        }
    });
    Ok(receiver)
}

/// The file with the daemon's pid, while it runs.
struct Pidfile {
    path: PathBuf,
}

impl Pidfile {
    fn write(path: &Path) -> Result<Pidfile, String> {
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        if let Some(pid) = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok())
            && pid != std::process::id()
            && is_daemon(pid)
        {
            let path = path.display();
            return Err(format!(
                "ensure corten is not running or delete {path}: process with PID {pid} is still running"
            ));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(path, format!("{}\n", std::process::id())).map_err(failed)?;
        Ok(Pidfile { path: path.into() })
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a process runs this program: after a crash its pid may be somebody else's.
fn is_daemon(pid: u32) -> bool {
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    program(&pid.to_string()).is_some_and(|other| Some(other) == program("self"))
}
