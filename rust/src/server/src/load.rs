// SPDX-License-Identifier: Apache-2.0

//! How busy a shard's thread is.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often a shard looks at itself.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Part of the last period that a thread spent computing, in thousandths. Written by its thread, read by others.
#[derive(Debug, Default)]
pub struct Busy(AtomicU32);

impl Busy {
    /// The last period's value.
    pub fn permille(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Measures the calling thread for as long as it is polled.
    pub async fn measure(&self) {
        let (mut wall, mut cpu) = (Instant::now(), thread_cpu());
        loop {
            tokio::time::sleep(PERIOD).await;
            let (wall_now, cpu_now) = (Instant::now(), thread_cpu());
            let busy = (cpu_now - cpu).as_secs_f64() / (wall_now - wall).as_secs_f64().max(1e-9);
            self.0.store((busy * 1000.0) as u32, Relaxed);
            (wall, cpu) = (wall_now, cpu_now);
        }
    }
}

/// CPU time of the calling thread; never goes back.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result; a failure leaves it at zero.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
