"""A /proc, /sys and cgroup of known content, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "proc/7/stat": "7 (a (worker) x) S 1 7 7 0 -1 4194304 1200 99 3 88 250 50 9 9 20 0 3 0 1000 900000 60000 18446744073709551615",
    "proc/7/status": (
        "Name:\tworker\nVmHWM:\t  900 kB\nVmRSS:\t  700 kB\nRssAnon:\t  400 kB\nRssFile:\t  250 kB\nRssShmem:\t   50 kB\n"
        "VmSwap:\t   16 kB\nThreads:\t3\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t1\n"
    ),
    "proc/7/smaps_rollup": "00400000-7fff0000 ---p 00000000 00:00 0  [rollup]\nRss:  700 kB\nPss:  512 kB\nPss_Dirty: 100 kB\n",
    "proc/7/clear_refs": "",
    "proc/7/task/7/status": "voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t1\n",
    "proc/7/task/8/status": "voluntary_ctxt_switches:\t20\nnonvoluntary_ctxt_switches:\t4\n",
    "proc/7/task/9/status": "voluntary_ctxt_switches:\t300\nnonvoluntary_ctxt_switches:\t60\n",
    "proc/1/clear_refs": "",
    "proc/1/smaps_rollup": "Pss: 1 kB\n",
    "proc/stat": "cpu  100 0 50 1000 5 0 1 42 0 0\ncpu0 100 0 50 1000 5 0 1 42 0 0\nctxt 5\n",
    "proc/vmstat": "nr_free_pages 5\npswpin 3\npswpout 11\noom_kill 0\n",
    "proc/pressure/cpu": "some avg10=1.00 avg60=0.50 avg300=0.10 total=1000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=20\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=10\n",
    "proc/self/cgroup": "0::/bench/run\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 9\nnr_periods 9\nnr_throttled 0\nthrottled_usec 0\n",
    "sys/fs/cgroup/bench/cpu.stat": "usage_usec 9\nnr_periods 100\nnr_throttled 7\nthrottled_usec 350\n",
    "sys/fs/cgroup/bench/run/cpu.stat": "usage_usec 9\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "4000000\n",
    "sys/class/powercap/intel-rapl:0:1/name": "dram\n",
    "sys/class/powercap/intel-rapl:0:1/energy_uj": "700000\n",
}


def write(root: Path, changed: dict[str, str | None] | None = None) -> Path:
    """The tree under `root`; a file that is changed to None is not there."""
    for name, text in {**FILES, **(changed or {})}.items():
        if text is not None:
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return root
