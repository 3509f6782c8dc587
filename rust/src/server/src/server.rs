// SPDX-License-Identifier: Apache-2.0

//! The server as a whole: sharing connections out over shards, stopping.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use vllm_engine_client::{EngineClient, Registration};
use vllm_metrics::{Info, Metrics};

use crate::accept::{Arrival, Door};
use crate::admission::Admission;
use crate::app::{App, Gauge, Shared, unix_now};
use crate::config::ServerConfig;
use crate::connection::{self, Orders};
use crate::drain::Phase;
use crate::listener::{Listener, Parcel};
use crate::load::{Busy, PERIOD};
use crate::model::Model;
use crate::routes;

/// Connections on their way to another shard.
const HANDOVER: usize = 1024;
/// A shard this busy (thousandths of a core) wants company.
const FULL: u32 = 850;
/// For the errors that end the streams still running at the deadline.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Aborts leave through the transport's own task: time for it to write them.
const ABORT_GRACE: Duration = Duration::from_millis(50);

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every request was answered.
    Drained,
    /// Requests were cut off.
    Aborted,
}

/// A running server. Shard 0 is the thread it was started on.
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// Starts to listen. Call inside the `LocalSet` of the runtime that connected to the engines.
    pub fn start(
        config: ServerConfig,
        mut model: Model,
        engine: EngineClient,
        listener: Listener,
    ) -> io::Result<Self> {
        let registration = engine.registration().clone();
        model.attach(&registration);
        let counters = config.counters.clone();
        let metrics = Metrics::new(info(&model, &registration), routes::handlers(), counters);
        let first_engine = registration.engines.first().map_or(0, |(index, _)| *index);
        let shared = Arc::new(Shared {
            model: Arc::new(model),
            engine,
            metrics,
            phase: Phase::default(),
            closed: Notify::new(),
            requests: Gauge::default(),
            admission: Admission::new(config.queue, registration.max_num_seqs),
            connections: AtomicUsize::new(0),
            first_engine,
            started: unix_now() as u64,
            workers: Handle::current(),
            config,
        });
        if let Some(tls) = shared.config.tls.clone() {
            tokio::task::spawn_local(async move { tls.watch().await });
        }
        let door = Door::new(
            listener.listen()?,
            shared.config.max_connections,
            shared.config.counters.connections_refused.clone(),
        );
        let shards = Shards::open(shared.clone())?;
        tokio::task::spawn_local(accept(shared.clone(), door, shards));
        Ok(Self { shared })
    }

    /// Says that it is not ready, and serves on for the grace: whoever shares requests out has time to notice.
    pub async fn leave(&self) {
        self.shared.phase.leave();
        tokio::time::sleep(self.shared.config.drain_grace).await;
    }

    /// Refuses new work, lets running requests finish until `deadline` is over, then cuts them off.
    pub async fn stop(&self, deadline: impl Future<Output = ()>) -> Stopped {
        self.shared.phase.drain();
        let stopped = tokio::select! {
            () = self.idle() => Stopped::Drained,
            () = deadline => Stopped::Aborted,
        };
        if stopped == Stopped::Aborted {
            self.shared.phase.cut();
            let _ = tokio::time::timeout(LAST_WORDS, self.idle()).await;
        }
        self.shared.phase.end();
        tokio::time::sleep(ABORT_GRACE).await;
        stopped
    }

    /// Requests that are being answered by engines.
    pub fn running(&self) -> u64 {
        self.shared.requests.get()
    }

    async fn idle(&self) {
        while self.shared.connections.load(Relaxed) > 0 {
            self.shared.closed.notified().await;
        }
    }
}

fn info(model: &Model, registration: &Registration) -> Info {
    let first = registration.engines.first();
    Info {
        model_name: model.name().to_owned(),
        first_engine: first.map_or(0, |(index, _)| *index),
        engines: registration.engines.len(),
        context: u64::from(model.context),
        cache_config: vec![
            ("block_size", registration.block_size.to_string()),
            ("num_gpu_blocks", registration.num_gpu_blocks.to_string()),
        ],
    }
}

/// A shard as the accepting one sees it.
struct Remote {
    sender: mpsc::Sender<Parcel>,
    open: Arc<AtomicUsize>,
    busy: Arc<Busy>,
}

/// All shards; the first one is this thread.
struct Shards {
    app: Rc<App>,
    busy: Arc<Busy>,
    others: Vec<Remote>,
}

impl Shards {
    fn open(shared: Arc<Shared>) -> io::Result<Self> {
        let app = App::new(shared.clone());
        let busy = Arc::new(Busy::default());
        tokio::task::spawn_local(follow(app.clone(), busy.clone()));
        let mut shards = Self {
            app,
            busy,
            others: Vec::new(),
        };
        for _ in 1..shared.config.shards {
            shards.add()?;
        }
        Ok(shards)
    }

    fn add(&mut self) -> io::Result<()> {
        let number = self.others.len() + 1;
        let (sender, receiver) = mpsc::channel(HANDOVER);
        let (open, busy) = (Arc::new(AtomicUsize::new(0)), Arc::new(Busy::default()));
        let shared = self.app.shared.clone();
        let remote = Remote {
            sender,
            open: open.clone(),
            busy: busy.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name(format!("shard-{number}"))
            .spawn(move || {
                let local = LocalSet::new();
                local.block_on(&runtime, shard(shared, receiver, open, busy));
            })?;
        tracing::info!(shards = number + 1, "opened a shard");
        self.others.push(remote);
        Ok(())
    }

    /// One more shard when all are full; called once per period.
    fn grow(&mut self) {
        let full = self.busy.permille() > FULL
            && self.others.iter().all(|other| other.busy.permille() > FULL);
        if full
            && self.others.len() + 1 < self.app.shared.config.max_shards
            && let Err(error) = self.add()
        {
            tracing::warn!(%error, "could not open a shard");
        }
    }

    /// Gives a connection to the shard that has the fewest.
    fn place(&self, arrival: Arrival) {
        self.app.shared.connections.fetch_add(1, Relaxed);
        let least = self
            .others
            .iter()
            .min_by_key(|other| other.open.load(Relaxed));
        match least.filter(|other| other.open.load(Relaxed) < self.app.connections.len()) {
            None => drop(tokio::task::spawn_local(connection::serve(
                self.app.clone(),
                arrival,
            ))),
            Some(other) => self.hand_over(other, arrival),
        }
    }

    fn hand_over(&self, other: &Remote, arrival: Arrival) {
        let sent = Parcel::pack(arrival).map(|parcel| other.sender.try_send(parcel));
        match sent {
            Ok(Ok(())) => {
                other.open.fetch_add(1, Relaxed);
            }
            failed => {
                self.app.shared.connections.fetch_sub(1, Relaxed);
                tracing::warn!(?failed, "a connection was not taken over by its shard");
            }
        }
    }
}

async fn accept(shared: Arc<Shared>, mut door: Door, mut shards: Shards) {
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = shared.phase.draining() => return,
            _ = tick.tick() => {
                shards.grow();
                door.tell();
            }
            arrival = door.next(|| shared.connections.load(Relaxed)) => shards.place(arrival),
        }
    }
}

/// A further shard's thread.
async fn shard(
    shared: Arc<Shared>,
    mut receiver: mpsc::Receiver<Parcel>,
    open: Arc<AtomicUsize>,
    busy: Arc<Busy>,
) {
    let app = App::new(shared.clone());
    tokio::task::spawn_local(follow(app.clone(), busy));
    loop {
        let parcel = tokio::select! {
            () = shared.phase.over() => break,
            parcel = receiver.recv() => parcel,
        };
        let Some(parcel) = parcel else { break };
        let (app, open) = (app.clone(), open.clone());
        tokio::task::spawn_local(async move {
            match parcel.open() {
                Ok(arrival) => connection::serve(app, arrival).await,
                Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
            }
            open.fetch_sub(1, Relaxed);
        });
    }
    // The accepting shard may be gone first; connections still open run to the end of the drain.
    shared.phase.over().await;
    tokio::time::sleep(ABORT_GRACE).await;
}

/// Tells a shard's connections what the server is up to, measures the shard, and keeps its memory small.
async fn follow(app: Rc<App>, busy: Arc<Busy>) {
    let shared = app.shared.clone();
    let orders = async {
        shared.phase.draining().await;
        app.connections.order(Orders::Finish);
        shared.phase.cutting().await;
        app.connections.order(Orders::Cut);
        shared.phase.over().await;
        app.connections.order(Orders::Close);
    };
    tokio::select! {
        () = orders => {}
        () = busy.measure() => {}
        () = tidy(shared.config.give_back) => {}
    }
}

async fn tidy(give_back: fn()) {
    loop {
        tokio::time::sleep(PERIOD).await;
        give_back();
    }
}
