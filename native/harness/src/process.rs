//! The first acts of a worker process, before any runtime is loaded.

use std::fs::File;
use std::num::NonZeroU64;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, set_parent_process_death_signal, test_kill_process};
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

/// Whether the parent, whose pid is BENCH_PARENT, ended before the kernel knew of the wish above.
fn orphaned() -> bool {
    let parent = std::env::var("BENCH_PARENT").ok().and_then(|text| text.parse().ok()).and_then(Pid::from_raw);
    parent.is_some_and(|parent| test_kill_process(parent) == Err(rustix::io::Errno::SRCH))
}
