// SPDX-License-Identifier: Apache-2.0

//! What the load costs the server's process: CPU time of all its threads, and instructions.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::error::BenchError;

/// CPU time so far, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct CpuTime {
    /// User and system, to the nanosecond.
    pub(crate) total: f64,
    /// User, in clock ticks.
    pub(crate) user: f64,
    /// System, in clock ticks.
    pub(crate) system: f64,
}

/// Reads the CPU time of a process: threads that ended are included.
pub(crate) fn cpu_time(pid: u32) -> Result<CpuTime, BenchError> {
    let (user, system) = ticks(pid).ok_or(BenchError::NoProcess(pid))?;
    let total = precise(pid).unwrap_or(user + system);
    Ok(CpuTime {
        total,
        user,
        system,
    })
}

/// utime and stime of /proc/PID/stat (proc(5)), in seconds.
fn ticks(pid: u32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and parentheses; fields are counted from behind it.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    // SAFETY: sysconf reads a constant.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let mut next = || Some(fields.next()?.parse::<f64>().ok()? / per_second);
    Some((next()?, next()?))
}

/// The process's CPU clock (clock_getcpuclockid(3)).
fn precise(pid: u32) -> Option<f64> {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls write to the locals whose addresses they get.
    let read = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    read.then(|| time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// Peak resident memory in kB (VmHWM).
pub(crate) fn peak_rss_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A running `perf stat` on the server.
#[derive(Debug)]
pub(crate) struct Perf(Child);

impl Perf {
    /// `None` when perf can't be started.
    pub(crate) fn start(pid: u32) -> Option<Self> {
        let child = Command::new("perf")
            .args([
                "stat",
                "-x,",
                "-e",
                "instructions:u",
                "-p",
                &pid.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        child.ok().map(Self)
    }

    /// Stops counting; `None` when perf could not count (no permission, no counter).
    pub(crate) fn stop(mut self) -> Option<u64> {
        // SAFETY: the child is ours and not reaped yet.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        let mut text = String::new();
        self.0.stderr.take()?.read_to_string(&mut text).ok()?;
        self.0.wait().ok()?;
        parse_perf(&text)
    }
}

fn parse_perf(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("instructions"))?;
    line.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_a_process_grows_with_its_work() {
        let pid = std::process::id();
        let before = cpu_time(pid).expect("this process exists");
        let mut sum = 0u64;
        while cpu_time(pid).expect("this process exists").total - before.total < 0.005 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(peak_rss_kb(pid).expect("this process has memory") > 0);
        assert!(matches!(
            cpu_time(u32::MAX / 4),
            Err(BenchError::NoProcess(_))
        ));
    }

    #[test]
    fn perf_output_is_read_or_refused() {
        assert_eq!(
            parse_perf("1234,,instructions:u,100,100.00,,\n"),
            Some(1234)
        );
        assert_eq!(
            parse_perf("<not supported>,,instructions:u,0,100.00,,\n"),
            None
        );
        assert_eq!(parse_perf(""), None);
    }
}
