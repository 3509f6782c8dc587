// SPDX-License-Identifier: Apache-2.0

//! Sends the requests and takes the times.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::args::{BenchArgs, Endpoint};
use crate::cost::{self, Perf};
use crate::error::BenchError;
use crate::http::{Connection, Target};
use crate::prompts;
use crate::report::{Recorder, Report, ServerCost};
use crate::sse::{Answer, EventReader};

struct Load {
    args: BenchArgs,
    target: Target,
    model: String,
    /// Connections that wait for their next request.
    idle: RefCell<Vec<Connection>>,
    recorder: RefCell<Recorder>,
    next: Cell<usize>,
}

/// Runs warm-up and measurement.
pub(crate) async fn run(args: &BenchArgs) -> Result<Report, BenchError> {
    if args.concurrency == 0 || args.num_requests == 0 {
        return Err(BenchError::Option(
            "--concurrency and --num-requests must be at least 1",
        ));
    }
    if args.turns == 0 || (args.turns > 1 && args.rate.is_some()) {
        return Err(BenchError::Option(
            "--turns must be at least 1, and has no meaning with --rate",
        ));
    }
    if args
        .rate
        .is_some_and(|rate| !(rate.is_finite() && rate > 0.0))
    {
        return Err(BenchError::Option("--rate must be above 0"));
    }
    let target = Target::parse(&args.base_url, args.api_key.as_deref())?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => first_model(&target).await?,
    };
    let load = Rc::new(Load {
        args: args.clone(),
        target,
        model,
        idle: RefCell::default(),
        recorder: RefCell::default(),
        next: Cell::new(0),
    });
    if args.warmup > 0 {
        load.closed_loop(args.warmup).await;
        load.recorder.take();
    }
    load.measure().await
}

async fn first_model(target: &Target) -> Result<String, BenchError> {
    let mut body = Vec::new();
    let mut connection = target.connect().await?;
    let request = target.request("GET", "/v1/models", b"");
    let response = connection
        .send(&request, |bytes| body.extend_from_slice(bytes))
        .await;
    let status = match response {
        Ok(response) => format!("status {}", response.status),
        Err(error) => error.to_string(),
    };
    let list: Value = serde_json::from_slice(&body).unwrap_or_default();
    let model = list["data"][0]["id"].as_str();
    model.map(str::to_owned).ok_or(BenchError::NoModel(status))
}

impl Load {
    async fn measure(self: &Rc<Self>) -> Result<Report, BenchError> {
        let cpu = |pid: u32| cost::cpu_time(pid);
        let before = self.args.pid.map(cpu).transpose()?;
        let perf = self
            .args
            .pid
            .filter(|_| self.args.perf)
            .and_then(Perf::start);
        let start = Instant::now();
        match self.args.rate {
            Some(rate) => self.open_loop(rate).await,
            None => self.closed_loop(self.args.num_requests).await,
        }
        let wall = start.elapsed();
        let instructions = perf.and_then(Perf::stop);
        let cost = match (self.args.pid, before) {
            (Some(pid), Some(before)) => {
                let after = cpu(pid)?;
                let peak_rss_kb = cost::peak_rss_kb(pid);
                Some(ServerCost {
                    before,
                    after,
                    instructions,
                    peak_rss_kb,
                })
            }
            _ => None,
        };
        let recorder = self.recorder.take();
        Ok(recorder.report(&self.args, &self.model, wall, cost))
    }

    /// `concurrency` requests are in flight until all have been sent; those of a conversation go one after the other.
    async fn closed_loop(self: &Rc<Self>, count: usize) {
        let end = self.next.get() + count;
        let workers = (0..self.args.concurrency.min(count)).map(|_| {
            let load = self.clone();
            tokio::task::spawn_local(async move {
                while load.next.get() < end {
                    let first = load.next.replace(load.next.get() + load.args.turns);
                    for index in first..(first + load.args.turns).min(end) {
                        load.one(index).await;
                    }
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            // A worker ends only by finishing: nothing in it panics on input.
            let _ = worker.await;
        }
    }

    /// Requests begin at random times, whatever becomes of the earlier ones.
    async fn open_loop(self: &Rc<Self>, rate: f64) {
        let permits = Rc::new(tokio::sync::Semaphore::new(self.args.concurrency.max(1)));
        let mut random = fastrand::Rng::with_seed(self.args.seed);
        let (mut due, mut requests) = (tokio::time::Instant::now(), Vec::new());
        for _ in 0..self.args.num_requests {
            // Gaps of a Poisson process are exponential.
            let gap = -(1.0 - random.f64()).ln() / rate;
            due += Duration::from_secs_f64(gap);
            tokio::time::sleep_until(due).await;
            let index = self.next.replace(self.next.get() + 1);
            let (load, permits) = (self.clone(), permits.clone());
            requests.push(tokio::task::spawn_local(async move {
                let permit = permits.acquire().await;
                load.one(index).await;
                drop(permit);
            }));
        }
        for request in requests {
            let _ = request.await;
        }
    }

    async fn one(&self, index: usize) {
        let body = prompts::body(&self.args, &self.model, index);
        let path = match self.args.endpoint {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Completions => "/v1/completions",
        };
        let request = self.target.request("POST", path, &body);
        let limit = Duration::from_secs_f64(self.args.timeout.max(0.001));
        match tokio::time::timeout(limit, self.exchange(&request)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.recorder.borrow_mut().error(error),
            Err(_) => self
                .recorder
                .borrow_mut()
                .error("no complete answer in time".to_owned()),
        }
    }

    async fn exchange(&self, request: &[u8]) -> Result<(), String> {
        let idle = self.idle.borrow_mut().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self
                .target
                .connect()
                .await
                .map_err(|error| error.to_string())?,
        };
        let start = Instant::now();
        let (mut events, mut whole, mut times) = (EventReader::default(), Vec::new(), Vec::new());
        let stream = !self.args.no_stream;
        let sent = connection.send(request, |bytes| {
            if stream {
                let count = events.push(bytes);
                times.extend(std::iter::repeat_n(start.elapsed(), count));
            } else {
                whole.extend_from_slice(bytes);
            }
        });
        let response = sent.await.map_err(|error| error.to_string())?;
        let elapsed = start.elapsed();
        if response.keep_alive {
            self.idle.borrow_mut().push(connection);
        }
        let answer = match (stream, response.status) {
            (true, 200) => events.answer,
            // A refusal comes as plain JSON, whatever was asked for.
            (true, _) => Answer::from_json(&events.rest),
            (false, _) => Answer::from_json(&whole),
        };
        check(response.status, &answer)?;
        self.recorder.borrow_mut().answer(&answer, &times, elapsed);
        Ok(())
    }
}

fn check(status: u16, answer: &Answer) -> Result<(), String> {
    if let Some(error) = &answer.error {
        return Err(format!("status {status}: {error}"));
    }
    match (status, answer.done) {
        (200, true) => Ok(()),
        (200, false) => Err("the stream ended without [DONE]".to_owned()),
        _ => Err(format!("status {status}")),
    }
}
