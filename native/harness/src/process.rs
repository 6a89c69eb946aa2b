//! The first acts of a worker process, before any runtime is loaded.

use std::fs::File;
use std::num::NonZeroU64;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::stdio::{dup2_stdout, stderr, stdout};
use rustix::thread::set_current_timer_slack;

/// Takes stdout away from everyone else and returns it; fd 1 is stderr from here on, because runtimes print. The process dies with
/// its parent (a frozen worker must not outlive it) and its timers are exact to the nanosecond; threads inherit both wishes.
pub fn prepare() -> Result<File> {
    let private = rustix::io::fcntl_dupfd_cloexec(stdout(), 3).context("cannot duplicate stdout")?;
    dup2_stdout(stderr()).context("cannot point fd 1 at stderr")?;
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot set PR_SET_PDEATHSIG")?;
    set_current_timer_slack(NonZeroU64::new(1)).context("cannot set PR_SET_TIMERSLACK")?;
    ensure!(!orphaned(), "the parent has ended");
    Ok(File::from(private))
}

/// Whether the parent, who says that it is one by BENCH_PARENT, died before the wish above took hold.
fn orphaned() -> bool {
    let claimed = std::env::var("BENCH_PARENT").is_ok_and(|parent| parent != "1");
    claimed && getppid().is_none_or(Pid::is_init)
}
