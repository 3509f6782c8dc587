// SPDX-License-Identifier: Apache-2.0

//! Messages of the data-parallel coordinator.

use super::error::DecodeError;
use super::read::Reader;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// Coordinator to engines: begin a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartDpWave {
    /// Number of the wave.
    pub wave: u64,
    /// Engine that started it and needs no telling.
    pub exclude_engine: Option<u32>,
}

impl StartDpWave {
    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(8);
        w.array(2);
        w.u64(self.wave);
        w.option(self.exclude_engine, |w, index| w.u64(u64::from(index)));
        w.into_parts().0
    }

    /// Decodes the payload.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        const FIELD: &str = "start_dp_wave";
        let mut r = Reader::new(payload);
        let mut slots = r.slots(FIELD)?;
        slots.require(FIELD)?;
        let mut out = Self {
            wave: r.u64(FIELD)?,
            exclude_engine: None,
        };
        if slots.take() {
            out.exclude_engine = r.nullable(|r| r.uint32(FIELD))?;
        }
        slots.finish(&mut r, FIELD)?;
        Ok(out)
    }
}

/// Load of one engine, as the coordinator publishes it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct EngineLoad {
    /// Waiting requests.
    pub waiting: u64,
    /// Running requests.
    pub running: u64,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_cache_usage: f64,
}

/// Coordinator to frontends.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CoordinatorUpdate {
    /// Load by global rank; `None` in a message about waves only.
    pub loads: Option<Vec<EngineLoad>>,
    /// Current wave.
    pub current_wave: u64,
    /// Engines are running it.
    pub engines_running: bool,
}

impl CoordinatorUpdate {
    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(64);
        w.array(3);
        w.option(self.loads.as_ref(), |w, loads| {
            w.seq(loads, |w, load| {
                w.array(3);
                w.u64(load.waiting);
                w.u64(load.running);
                w.f64(load.kv_cache_usage);
            });
        });
        w.u64(self.current_wave);
        w.bool(self.engines_running);
        w.into_parts().0
    }

    /// Decodes the message.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        const FIELD: &str = "coordinator update";
        let mut r = Reader::new(payload);
        let mut slots = r.slots(FIELD)?;
        let mut out = Self::default();
        slots.require(FIELD)?;
        out.loads = r.nullable(|r| r.vec(FIELD, decode_load))?;
        slots.require(FIELD)?;
        out.current_wave = r.u64(FIELD)?;
        slots.require(FIELD)?;
        out.engines_running = r.bool(FIELD)?;
        slots.finish(&mut r, FIELD)?;
        Ok(out)
    }
}

fn decode_load(r: &mut Reader<'_>) -> Result<EngineLoad> {
    const FIELD: &str = "engine load";
    let mut out = EngineLoad::default();
    let mut slots = r.slots(FIELD)?;
    if slots.take() {
        out.waiting = r.u64(FIELD)?;
    }
    if slots.take() {
        out.running = r.u64(FIELD)?;
    }
    if slots.take() {
        out.kv_cache_usage = r.f64(FIELD)?;
    }
    slots.finish(r, FIELD)?;
    Ok(out)
}
