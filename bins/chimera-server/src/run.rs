//! `chimera serve` and `chimera check`: from options to a running gateway, and back to a clean end.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chimera_gateway::{Admin, AdminHooks, Gateway, GatewayError, KeyDigest, Settings};
use chimera_provider_pool::{Resolver, SharedConnect, TcpConnect};
use chimera_sim::Sim;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    args::Options,
    banner,
    config::{self, ConfigError, File},
    connection::{Farewell, Patience},
    console, disk,
    handover::{Heir, Offer, Taken},
    jobs::Jobs,
    keep::InForce,
    log, metrics,
    plane::{self, Plane},
    process::Process,
    random,
    redis::{self, Background},
    resolve,
    serve::{self, Shared, Workers},
    sim::{self, SimConnect},
    supervise::supervised,
    surroundings::{Addresses, Surroundings},
    traces::{self, Exporter},
    watch,
};

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    #[error("{0}: cannot listen on {1}: {2}")]
    Listen(&'static str, std::net::SocketAddr, io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Start(String),
    #[error("there is no page `{0}`; there is: metrics")]
    NoPage(String),
}

impl Error {
    pub(crate) fn exit_code(&self) -> u8 {
        if matches!(self, Self::Config(_) | Self::NoPage(_)) { 2 } else { 1 }
    }
}

/// The file, the environment and the options, in this order.
pub(crate) fn load(options: &Options) -> Result<File, ConfigError> {
    let mut file = config::load(options.config.as_deref(), std::env::vars())?;
    if let Some(listen) = &options.listen {
        file.server.listen.clone_from(listen);
    }
    if let Some(listen) = &options.admin_listen {
        file.server.admin_listen.clone_from(listen);
    }
    resolve::add_environment_providers(&mut file, &|name| std::env::var(name).ok());
    redis::add_environment(&mut file, &|name| std::env::var(name).ok());
    traces::add_environment(&mut file, &|name| std::env::var(name).ok());
    Ok(file)
}

pub(crate) fn surroundings(workers: usize) -> Result<Surroundings, Error> {
    let tcp = TcpConnect::new(Resolver::default()).map_err(|error| Error::Start(error.to_string()))?;
    let sim: SharedConnect = Arc::new(SimConnect::new(Sim::new(sim::settings())));
    Ok(Surroundings { tcp: Arc::new(tcp), sim, workers })
}

/// Resolves the configuration and shows it, secrets redacted.
pub(crate) fn check(options: &Options) -> Result<String, Error> {
    let file = load(options)?;
    let addresses = resolve::addresses(&file)?;
    let around = surroundings(1)?;
    resolve::settings(&file, &addresses, &around, None)?;
    traces::start(&file, &around)?;
    toml::to_string(&file).map_err(|error| Error::Start(error.to_string()))
}

/// Runs the gateway until it is told to stop.
pub(crate) fn serve(options: Options) -> Result<(), Error> {
    // Before it is loaded: what is written meanwhile is loaded again rather than missed.
    let loaded = options.config.as_deref().and_then(watch::digest);
    let file = load(&options)?;
    let addresses = resolve::addresses(&file)?;
    let _last = log::begin(&file.log)?;
    let handle = metrics::install().map_err(|error| Error::Start(error.to_string()))?;
    let workers = match file.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    // One more than there are: the loop that works on optimisation jobs has connections of its own.
    let around = Arc::new(surroundings(workers + 1)?);
    let mut settings = resolve::settings(&file, &addresses, &around, None)?;
    let (tracer, mut exporter) = traces::start(&file, &around)?.unzip();
    settings.tracer = tracer;
    let (gateway, background) = gateway(&file, settings)?;
    let handover = file.server.handover.as_deref();
    let no_handover = |error: io::Error| Error::Start(format!("server.handover: {error}"));
    let mut taken = handover.map(Taken::from).transpose().map_err(no_handover)?.flatten();
    let mut listen = |key, address| match taken.as_mut().and_then(|taken| taken.listener(address)) {
        Some(listener) => Ok(listener),
        None => serve::bind(address).map_err(|error| Error::Listen(key, address, error)),
    };
    let data = listen("server.listen", addresses.data)?;
    let admin = listen("server.admin_listen", addresses.admin)?;
    let listening = Addresses { data: data.local_addr()?, admin: admin.local_addr()? };
    let shared = Shared {
        patience: Patience {
            header: file.server.header_timeout.0,
            idle: file.server.idle_timeout.0,
            write_stall: file.server.write_stall_timeout.0,
        },
        farewell: Farewell::default(),
        connections: TaskTracker::new(),
    };
    let allowed =
        serve::open_files_limit().map_or(usize::MAX, |files| (files / 2).saturating_sub(32).max(16));
    let most = file.server.max_connections.min(allowed).max(1);
    let reloader = Reloader {
        options,
        loaded,
        around,
        gateway: gateway.clone(),
        listening,
        in_force: Mutex::new(file.clone()),
    };
    let mut server = Server {
        workers: Workers::start(workers, most, &gateway, &shared)?,
        jobs: Mutex::new(None),
        reloader: Arc::new(reloader),
        gateway,
        shared,
        drain: (file.server.drain_min.0, file.server.drain_max.0),
    };
    let ended = server.gateway.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let data = TcpListener::from_std(data)?;
        let admin = TcpListener::from_std(admin)?;
        let offer = handover.map(Offer::bind).transpose().map_err(no_handover)?;
        if let Some(taken) = taken {
            taken.ready();
        }
        if let Some(offer) = &offer {
            offer.publish().map_err(no_handover)?;
        }
        // The process before, if there was one, works on them no more.
        if file.optimizer.running > 0 {
            server.jobs = Mutex::new(Some(Jobs::start(ended.worker(workers))?));
        }
        show(&banner::text(&file, &listening));
        let ran = server.run((data, admin), handle, exporter.as_mut(), offer).await;
        server.finish_jobs();
        drop(server);
        ran?;
        if let Some(exporter) = exporter {
            exporter.finish().await;
        }
        Ok::<_, Error>(())
    })?;
    if let Some(background) = background {
        background.finish(&ended);
    }
    Ok(())
}

/// The stack of threads that parse nothing foreign.
const DEFAULT_STACK: usize = 2 << 20;

/// The gateway, and the thread of its second tier if there is one.
fn gateway(file: &File, settings: Settings) -> Result<(Gateway, Option<Background>), Error> {
    let failed = |error: GatewayError| Error::Start(error.to_string());
    if let Some(cache) = disk::cache(file)? {
        tracing::info!(path = %cache.disk.path.display(), "answers are kept in a file");
        let background = Background::start("chimera-disk", DEFAULT_STACK)?;
        let entered = background.enter();
        let gateway = Gateway::with_disk(settings, &cache).map_err(failed)?;
        drop(entered);
        return Ok((gateway, Some(background)));
    }
    let Some(second) = redis::second_tier(file)? else {
        return Ok((Gateway::new(settings, random::seed()?).map_err(failed)?, None));
    };
    tracing::info!(redis = %second.redis.address(), "answers are shared through a Redis");
    let background = Background::start("chimera-redis", chimera_cache::REDIS_STACK)?;
    let entered = background.enter();
    let gateway = Gateway::with_second_tier(settings, &second).map_err(failed)?;
    drop(entered);
    Ok((gateway, Some(background)))
}

/// Shows the banner. Nobody may be reading: that is no reason not to serve.
fn show(banner: &str) {
    use io::Write;
    let mut out = io::stdout();
    let _ = out.write_all(banner.as_bytes()).and_then(|()| out.flush());
}

/// Loads the configuration anew and puts it in force, or leaves the old one in force.
struct Reloader {
    options: Options,
    /// What the file was when the process began.
    loaded: Option<u64>,
    around: Arc<Surroundings>,
    gateway: Gateway,
    /// Where it listens, whatever a new file says.
    listening: Addresses,
    in_force: Mutex<File>,
}

impl Reloader {
    /// A new configuration, resolved over the one in force.
    fn load(&self) -> Result<(File, Settings), ConfigError> {
        let file = load(&Options {
            config: self.options.config.clone(),
            listen: self.options.listen.clone(),
            admin_listen: self.options.admin_listen.clone(),
        })?;
        resolve::unchanged_since_start(&self.in_force(), &file)?;
        resolve::addresses(&file)?;
        let settings = self.gateway.with_settings(|settings| {
            let before = InForce { file: &self.in_force(), settings };
            let mut new = resolve::settings(&file, &self.listening, &self.around, Some(&before))?;
            new.tracer.clone_from(&settings.tracer);
            Ok::<_, ConfigError>(new)
        })?;
        Ok((file, settings))
    }

    /// Whether a reload would be taken.
    fn check(&self) -> Result<(), String> {
        self.load().map(|_| ()).map_err(|error| error.to_string())
    }

    /// Takes what is written to the file, where that is wanted, until the future is dropped.
    async fn follow_file(&self) {
        let wanted = self.in_force().server.watch;
        match self.options.config.as_deref().filter(|_| wanted) {
            // A refusal is logged where it is found.
            Some(path) => watch::watch(path, self.loaded, || drop(self.reload())).await,
            None => std::future::pending().await,
        }
    }

    fn reload(&self) -> Result<(), String> {
        match self.load() {
            Ok((file, settings)) => {
                self.gateway.reload(settings);
                *self.in_force() = file;
                tracing::info!("the configuration was reloaded");
                Ok(())
            }
            Err(error) => {
                self.gateway.reload_failed();
                tracing::error!(%error, "the new configuration is refused; the old one stays in force");
                Err(error.to_string())
            }
        }
    }

    fn in_force(&self) -> MutexGuard<'_, File> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> serde_json::Value {
        serde_json::to_value(&*self.in_force()).unwrap_or_default()
    }

    fn admin_key(&self) -> Option<KeyDigest> {
        // It was read when the file was checked.
        resolve::admin_key(&self.in_force()).ok().flatten()
    }
}

struct Server {
    workers: Workers,
    jobs: Mutex<Option<Jobs>>,
    reloader: Arc<Reloader>,
    gateway: Gateway,
    shared: Shared,
    drain: (Duration, Duration),
}

impl Server {
    async fn run(
        &self,
        (data, admin): (TcpListener, TcpListener),
        handle: PrometheusHandle,
        mut exporter: Option<&mut Exporter>,
        offer: Option<Offer>,
    ) -> Result<(), Error> {
        let [for_config, for_reload, for_key, for_check] = [(); 4].map(|()| self.reloader.clone());
        let render = handle.clone();
        let key: plane::Key = Arc::new(move || for_key.admin_key());
        let (hook_key, proof_key) = (key.clone(), key.clone());
        let (console, reports) = console::start(&self.reloader.in_force(), &self.gateway, &handle)?;
        let prover = console.clone();
        let hooks = AdminHooks {
            key: Box::new(move || hook_key()),
            metrics: Box::new(move || metrics::render(&render)),
            config: Box::new(move || for_config.shown()),
            reload: Box::new(move || for_reload.reload()),
            check: Box::new(move || for_check.check()),
            proof: Box::new(move |headers| console::proof(prover.as_ref(), headers, proof_key())),
        };
        let plane = Plane { admin: Admin::new(self.gateway.clone(), hooks), console, reports, key };
        let process = Process::new();
        let looking = supervised("console", async || console::look(plane.console.clone()).await);
        let handed_over = CancellationToken::new();
        let serving = supervised("admin", async || {
            serve::serve_admin(&admin, &plane, self.shared.clone(), &handed_over).await
        });
        tokio::select! {
            never = serving => match never {},
            () = looking => Ok(()),
            () = supervised("upkeep", async || self.upkeep().await) => Ok(()),
            () = supervised("watching", async || self.reloader.follow_file().await) => Ok(()),
            () = supervised("measuring", async || measure(&process, &handle).await) => Ok(()),
            () = supervised("traces", async || export(exporter.as_deref_mut()).await) => Ok(()),
            result = self.live(data, &admin, offer.as_ref(), &handed_over) => result,
        }
    }

    /// Leaves what was given to another process to it.
    fn hand_over(&self, heir: Heir, handed_over: &CancellationToken) {
        handed_over.cancel();
        self.finish_jobs();
        heir.go_on();
    }

    /// Nobody works on optimisation jobs any more; what was paid for them is on the disk.
    fn finish_jobs(&self) {
        if let Some(jobs) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take() {
            jobs.finish();
        }
    }

    /// What must be done now and then.
    async fn upkeep(&self) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let (mut probing, mut probed) = (tokio::task::JoinSet::new(), Instant::now());
        loop {
            second.tick().await;
            self.gateway.maintain();
            let every = self.gateway.with_settings(|settings| settings.probe_every);
            while probing.try_join_next().is_some() {}
            if every.is_some_and(|every| probed.elapsed() >= every) && probing.is_empty() {
                let gateway = self.gateway.clone();
                probing.spawn(async move { gateway.probe().await });
                probed = Instant::now();
            }
        }
    }

    async fn live(
        &self,
        data: TcpListener,
        admin: &TcpListener,
        offer: Option<&Offer>,
        handed_over: &CancellationToken,
    ) -> Result<(), Error> {
        let mut stop = Stop::new()?;
        let mut hangup = signal(SignalKind::hangup())?;
        let deadline;
        {
            let accepting = supervised("accepting", async || self.workers.accept(&data).await);
            tokio::pin!(accepting);
            let reloading = supervised("reloading", async || {
                while hangup.recv().await.is_some() {
                    // The refusal is logged where it is found.
                    let _ = self.reloader.reload();
                }
                std::future::pending::<Infallible>().await
            });
            let listeners = [data.as_fd(), admin.as_fd()];
            let mut heir = tokio::select! {
                never = &mut accepting => match never {},
                never = reloading => match never {},
                () = stop.wait() => None,
                heir = taken(offer, &listeners) => Some(heir),
            };
            tracing::info!("stopping: readiness fails, streams may finish; a second signal ends them");
            self.gateway.set_ready(false);
            deadline = Instant::now() + self.drain.1;
            if heir.is_none() {
                tokio::select! {
                    never = &mut accepting => match never {},
                    () = tokio::time::sleep(self.drain.0) => {}
                    () = stop.wait() => return Ok(()),
                    later = taken(offer, &listeners) => heir = Some(later),
                }
            }
            if let Some(heir) = heir {
                self.hand_over(heir, handed_over);
                self.shared.farewell.leaving();
                self.shared.connections.close();
                // Nothing is to be won by closing one that idles, on which a request may be on its way.
                let silent = Instant::now() + self.drain.0.max(self.shared.patience.idle);
                tokio::select! {
                    () = self.shared.connections.wait() => return Ok(()),
                    () = tokio::time::sleep_until(silent.min(deadline)) => {}
                    () = stop.wait() => return Ok(()),
                }
            }
        }
        drop(data);
        self.shared.farewell.draining();
        self.shared.connections.close();
        let admin_only = async {
            if !handed_over.is_cancelled() {
                self.hand_over(taken(offer, &[admin.as_fd()]).await, handed_over);
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            () = self.shared.connections.wait() => return Ok(()),
            () = stop.wait() => return Ok(()),
            () = tokio::time::sleep_until(deadline) => {}
            never = admin_only => match never {},
        }
        tracing::warn!("streams were still open at the end of drain_max; they end with an error");
        self.gateway.end_streams();
        // A moment for the last events to be written.
        let _ = tokio::time::timeout(Duration::from_secs(3), self.shared.connections.wait()).await;
        Ok(())
    }
}

/// Waits until another process is about to accept in place of this one; for ever, if none can ask.
async fn taken(offer: Option<&Offer>, listeners: &[BorrowedFd<'_>]) -> Heir {
    match offer {
        Some(offer) => offer.taken(listeners).await,
        None => std::future::pending().await,
    }
}

/// Keeps what is measured fresh and small, until the future is dropped.
async fn measure(process: &Process, handle: &PrometheusHandle) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut count = 0_u32;
    loop {
        second.tick().await;
        process.publish();
        count = count.wrapping_add(1);
        // Samples of histograms wait in memory until they are drained.
        if count.is_multiple_of(5) {
            handle.run_upkeep();
        }
    }
}

/// Sends traces, if there are any, until the future is dropped.
async fn export(exporter: Option<&mut Exporter>) {
    match exporter {
        Some(exporter) => exporter.run().await,
        None => std::future::pending().await,
    }
}

/// SIGTERM or SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
