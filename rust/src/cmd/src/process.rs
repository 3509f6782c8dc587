// SPDX-License-Identifier: Apache-2.0

//! Processes that don't outlive each other.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::fault::{Code, Fault};

/// For a child to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// The kernel kills this process when the one that started it ends, whatever it died of.
pub fn die_with_parent() {
    // SAFETY: prctl with these arguments only sets an attribute of this process; getppid cannot fail.
    let orphan = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        libc::getppid() == 1 && std::process::id() != 1
    };
    if orphan {
        tracing::debug!("the parent is process 1: its end will not end this process");
    }
}

/// Takes over an inherited descriptor, which must be open.
pub fn inherit(flag: &str, fd: RawFd) -> Result<OwnedFd, Fault> {
    // SAFETY: F_GETFD has no effect besides its result.
    if fd < 3 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(Fault::usage(format!(
            "{flag} {fd}: no such descriptor was inherited"
        )));
    }
    // SAFETY: it is open, and the launcher handed it to this process for this flag alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A child that is killed when this process ends, in a process group of its own.
pub fn spawn(mut command: Command, what: &str) -> Result<Child, Fault> {
    let parent = std::process::id() as libc::pid_t;
    command
        .process_group(0)
        .kill_on_drop(true)
        .stdin(std::process::Stdio::null());
    let die = move || {
        // SAFETY: both calls are async-signal-safe.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            if libc::getppid() != parent {
                libc::_exit(1);
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and calls async-signal-safe functions only.
    unsafe { command.pre_exec(die) };
    let program = command.as_std().get_program().to_owned();
    command.spawn().map_err(|error| {
        Fault::new(
            Code::EngineStart,
            format!(
                "{what}: {} could not be started: {error}",
                program.display()
            ),
        )
    })
}

/// SIGTERM, then SIGKILL; the child is gone afterwards. `what` is its name for people.
pub async fn stop(child: &mut Child, what: &str) {
    if let Some(pid) = child.id() {
        // SAFETY: the child was not reaped yet, so its id is still its own.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let seconds = GRACE.as_secs();
        tracing::warn!("{what} did not end within {seconds} s of SIGTERM and is killed");
        let _ = child.kill().await;
    }
}
