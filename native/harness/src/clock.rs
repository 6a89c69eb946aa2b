//! CLOCK_MONOTONIC, the one clock that all workers and the parent share.

use std::hint::spin_loop;
use std::time::Duration;

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// A sleep ends this long before its time; the rest is spun, because a plain sleep wakes up to 50 µs late.
const SPIN_NS: u64 = 150_000;

/// Now, in ns since an arbitrary start that is the same for every process of this boot.
#[inline]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Returns at `at_ns`, or at once if that has passed.
pub fn wait_until(at_ns: u64) {
    if at_ns > now_ns() + SPIN_NS {
        let wake = Duration::from_nanos(at_ns - SPIN_NS);
        let wake = Timespec { tv_sec: wake.as_secs() as i64, tv_nsec: i64::from(wake.subsec_nanos()) };
        // a signal may cut a sleep short
        while clock_nanosleep_absolute(ClockId::Monotonic, &wake) == Err(rustix::io::Errno::INTR) {}
    }
    while now_ns() < at_ns {
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_never_returns_early() {
        for wait in [0, 1_000, 140_000, 2_000_000] {
            let at = now_ns() + wait;
            wait_until(at);
            assert!(now_ns() >= at);
        }
    }
}
