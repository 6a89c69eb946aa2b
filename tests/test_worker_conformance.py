"""The definition of a worker: every framework of the catalogue, and every null, held to bench/WORKER.md line by line."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import catalog
from bench.catalog import Framework
from bench.core import paths
from bench.machine import counters
from bench.prepare import launch, native
from tests.support import real_model
from tests.support.driver import Driver, Served, SharedMemory, TestPlan, environment, flags, make_plan, run

FRAMEWORKS = catalog.load().frameworks
NULLS = [name for name, framework in FRAMEWORKS.items() if framework.role == "floor"]
MEASURED = [name for name, framework in FRAMEWORKS.items() if framework.role == "measured"]
#: The knobs that a worker is told of, by framework; others are set by how it is started.
TOLD = {name: {key: knob for key, knob in framework.knobs.items() if not knob.by_parent} for name, framework in FRAMEWORKS.items()}
WITH_KNOBS = [name for name, knobs in TOLD.items() if knobs]
TOLERANCE = 2e-5
ROWS = 24

pytestmark = [pytest.mark.native, pytest.mark.slow]


@functools.cache
def available(name: str) -> Framework:
    """The framework, built if need be. What is missing is a failure in CI and a skip with its reason elsewhere."""
    framework = FRAMEWORKS[name]
    if reason := launch.missing(framework):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name}: {reason}")
    if framework.build:
        native.ensure(framework)
    return framework


def artefact_of(framework: Framework) -> Path:
    """MiniLM's real weights for this runtime; the nulls read nothing, any folder will do."""
    if framework.role == "floor":
        return paths.ROOT / "bench"
    return real_model.artefact(framework.artefact).folder


@pytest.fixture(scope="module", params=list(FRAMEWORKS))
def framework(request: pytest.FixtureRequest) -> Framework:
    return available(request.param)


@pytest.fixture(scope="module")
def model(framework: Framework) -> Path:
    return artefact_of(framework)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the workers of this module run; the plans lie in it."""
    return tmp_path_factory.mktemp("room")


@pytest.fixture(scope="module")
def plan(room: Path) -> TestPlan:
    """Rows of mixed lengths, distinct, with uneven gaps of mean about 1."""
    random = np.random.default_rng(7)
    rows = [random.integers(1000, 29000, size=3 + (7 * row) % 40, dtype=np.int64) for row in range(ROWS)]
    return make_plan(room / "plan", rows, random.exponential(size=ROWS))


@pytest.fixture(scope="module")
def worker(framework: Framework, model: Path, room: Path) -> Iterator[Driver]:
    with Driver(framework, model, room) as driver:
        yield driver


@pytest.fixture(scope="module")
def singles(worker: Driver, plan: TestPlan) -> np.ndarray:
    return worker.serve(plan).vectors


# flags


def test_version_is_one_flat_json_line(framework: Framework) -> None:
    done = run(framework, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    stated = json.loads(done.stdout)
    assert set(stated) == {"framework", "language", "runtime", "version", "build"}
    assert all(isinstance(value, str) and value for value in stated.values())
    assert (stated["framework"], stated["language"]) == (framework.name, framework.language)


@pytest.mark.parametrize("wrong", [["--bogus", "1"], ["--set", "no-such-knob=1"]], ids=" ".join)
def test_wrong_flags_exit_2(framework: Framework, model: Path, wrong: list[str]) -> None:
    refused(framework, *flags(model), *wrong)


def refused(framework: Framework, *arguments: str) -> None:
    done = run(framework, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), arguments
    assert done.stderr.strip() and "Traceback" not in done.stderr


@pytest.mark.parametrize("framework", WITH_KNOBS, indirect=True, scope="module")
def test_a_value_that_a_knob_does_not_take_exits_2(framework: Framework, model: Path) -> None:
    knobs = {key: "no-such-value" for key in TOLD[framework.name]}
    for key, value in knobs.items():
        refused(framework, *flags(model), "--set", f"{key}={value}")


@pytest.mark.parametrize("framework", WITH_KNOBS, indirect=True, scope="module")
def test_every_declared_knob_comes_back_and_leaves_the_vectors(
    framework: Framework, model: Path, room: Path, plan: TestPlan, singles: np.ndarray
) -> None:
    knobs = {key: knob.values[0] if knob.values else str(singles.shape[1]) for key, knob in TOLD[framework.name].items()}
    with Driver(framework, model, room, *(part for key, value in knobs.items() for part in ("--set", f"{key}={value}"))) as driver:
        assert {key: str(driver.ready["settings"][key]) for key in knobs} == knobs
        for batch in (1, 5):
            assert np.abs(driver.serve(plan, batch=batch).vectors - singles).max() <= TOLERANCE


READ_BACK = {
    "onnx-python": [("arena", "0", "enable_cpu_mem_arena", False), ("mem_pattern", "0", "enable_mem_pattern", False),
                    ("optimization", "basic", "graph_optimization_level", "ORT_ENABLE_BASIC")],
    "onnx-rust": [("optimization", "extended", "graph_optimization_level", "ORT_ENABLE_EXTENDED")],
    "onnx-cpp": [("optimization", "disabled", "graph_optimization_level", "ORT_DISABLE_ALL")],
    "openvino": [("streams", "2", "num_streams", "2"), ("pinning", "0", "enable_cpu_pinning", "False"),
                 ("hint", "THROUGHPUT", "performance_hint", "THROUGHPUT")],
}  # fmt: skip


@pytest.mark.parametrize("framework", READ_BACK, indirect=True, scope="module")
def test_a_knob_is_read_back_from_the_runtime(framework: Framework, model: Path, room: Path) -> None:
    asked = [word for knob, value, _, _ in READ_BACK[framework.name] for word in ("--set", f"{knob}={value}")]
    with Driver(framework, model, room, *asked, threads=2) as driver:
        for _, _, setting, expected in READ_BACK[framework.name]:
            assert str(expected) in str(driver.ready["settings"][setting])


@pytest.mark.parametrize("framework", ["onnx-python", "onnx-rust", "onnx-cpp"], indirect=True, scope="module")
def test_one_shared_session_has_several_callers(framework: Framework, model: Path, room: Path, plan: TestPlan, singles: np.ndarray) -> None:
    if framework.name == "onnx-rust":
        done = run(framework, *flags(model, sessions=2), "--set", "shared=1")
        assert (done.returncode, "one caller at a time" in done.stderr) == (3, True)
        return
    with Driver(framework, model, room, "--set", "shared=1", sessions=2) as shared, Driver(framework, model, room, sessions=2) as own:
        assert np.abs(shared.serve(plan).vectors - singles).max() <= TOLERANCE
        own.serve(plan)
        # MiniLM's weights are 90 MB: one copy of them against two.
        assert rss_bytes(shared.pid) < rss_bytes(own.pid) - 50e6


BY_PROCESSES = [name for name, knobs in TOLD.items() if "processes" in knobs]


@pytest.mark.parametrize("framework", BY_PROCESSES, indirect=True, scope="module")
def test_sessions_may_be_processes(framework: Framework, model: Path, room: Path, plan: TestPlan, singles: np.ndarray) -> None:
    with Driver(framework, model, room, "--set", "processes=1", sessions=2) as driver:
        children = counters.with_children(driver.pid)[1:]
        assert len(children) == 2 and driver.ready["settings"]["precision"] == "fp32"
        for rate, batch in ((0.0, 1), (0.0, 5), (300.0, 3)):
            served = driver.serve(plan, rate=rate, batch=batch)
            assert served.request.tolist() == list(range(ROWS))
            assert np.abs(served.vectors - singles).max() <= TOLERANCE
        worked = [cpu_seconds(pid) for pid in children]
        assert min(worked) > 0 and counters.summed([counters.meter(pid) for pid in children]).cpu_ns >= 0.9e9 * sum(worked)
        os.kill(children[0], signal.SIGKILL)
        answer = driver.ask(f"serve {plan.name} 0 4 0 1 20 {driver.out()}")
        assert answer.startswith("failed") and "has ended" in answer
    for _ in range(200):
        if not any(Path(f"/proc/{pid}").exists() for pid in children):
            break
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@pytest.mark.parametrize("framework", BY_PROCESSES, indirect=True, scope="module")
def test_what_a_sessions_process_cannot_do_exits_like_any_other(framework: Framework, model: Path, tmp_path: Path) -> None:
    for folder, precision, status in ((model, "int4", 3), (tmp_path, "fp32", 1)):
        done = run(framework, *flags(folder, sessions=2, precision=precision), "--set", "processes=1")
        assert done.returncode == status, done.stderr
        assert [line for line in done.stderr.splitlines() if line.startswith(("error: ", "not-applicable "))]


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_missing_model_is_one_line_with_its_cure(framework: Framework, tmp_path: Path) -> None:
    # the nulls read nothing of the folder; of the others each must find out that this one is empty
    done = run(framework, *flags(tmp_path / "nowhere" if framework.role == "floor" else tmp_path))
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and errors[0].count(": ") >= 2, done.stderr
    assert "Traceback" not in done.stderr and "panicked" not in done.stderr


def test_what_the_runtime_cannot_do_exits_3(framework: Framework, model: Path) -> None:
    done = run(framework, *flags(model, precision="fp16"))
    assert done.returncode == 3, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()].count("not-applicable") == 1


# the conversation


def test_ready_says_what_was_loaded(worker: Driver, framework: Framework) -> None:
    ready = worker.ready
    assert set(ready) == {"load_ns", "first_ns", "second_ns", "dim", "settings"}
    assert all(isinstance(ready[key], int) and ready[key] > 0 for key in ("first_ns", "second_ns", "dim")) and ready["load_ns"] >= 0
    assert ready["dim"] == 384
    settings = ready["settings"]
    assert (settings["precision"], settings["sessions"], settings["threads"]) == ("fp32", 1, 1)
    assert not any(isinstance(value, dict | list) for value in settings.values())


def test_fd_1_is_stderr_and_sleeps_are_exact(worker: Driver) -> None:
    # what a runtime prints goes to fd 1: it must not be the pipe of the protocol
    fds = Path(f"/proc/{worker.pid}/fd")
    assert (fds / "1").readlink() == (fds / "2").readlink() == worker.log
    assert Path(f"/proc/{worker.pid}/timerslack_ns").read_text().strip() == "1"


def test_printing_does_not_reach_the_protocol(worker: Driver, plan: TestPlan) -> None:
    with Path(f"/proc/{worker.pid}/fd/1").open("a") as printed:
        printed.write("a runtime prints\n")
    assert worker.serve(plan, count=1).rows == 1
    assert "a runtime prints" in worker.log.read_text()


def test_one_row_back_to_back(worker: Driver, plan: TestPlan) -> None:
    served = worker.serve(plan, first=5, count=1)
    assert served.request.tolist() == [5]
    assert (served.due_ns == served.start_ns).all() and (served.start_ns <= served.end_ns).all()
    assert abs(np.linalg.norm(served.vectors[0].astype(np.float64)) - 1) < 1e-5
    assert served.about == {"rows": 1, "dim": 384, "dtype": "float32", "batches": 1}


def test_times_are_of_the_monotonic_clock_and_in_order(worker: Driver, plan: TestPlan) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    served = worker.serve(plan)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert served.request.tolist() == list(range(ROWS))
    assert before <= served.start_ns[0] and served.end_ns[-1] <= after
    assert (served.start_ns[1:] >= served.end_ns[:-1]).all()


def test_a_mixed_batch_equals_its_rows_one_by_one(worker: Driver, plan: TestPlan, singles: np.ndarray) -> None:
    assert np.isfinite(singles).all()
    assert len(np.unique(singles.round(4), axis=0)) == ROWS
    for batch in (2, 7, ROWS):
        assert np.abs(worker.serve(plan, batch=batch).vectors - singles).max() <= TOLERANCE


def test_buffers_keep_nothing_of_the_batch_before(worker: Driver, plan: TestPlan, singles: np.ndarray) -> None:
    worker.serve(plan, batch=ROWS)
    for first, count in ((3, 4), (0, 2), (11, 5)):
        served = worker.serve(plan, first=first, count=count, batch=count)
        assert np.abs(served.vectors - singles[first : first + count]).max() <= TOLERANCE


def test_rows_of_a_batch_share_their_times_and_the_last_batch_is_smaller(worker: Driver, plan: TestPlan) -> None:
    served = worker.serve(plan, first=2, count=10, batch=4)
    assert served.batch_sizes == [4, 4, 2]
    assert served.about["batches"] == 3
    for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
        assert len(np.unique(served.samples[part, 2:], axis=0)) == 1
    assert (served.due_ns == served.start_ns).all()


def test_due_times_follow_the_gaps(worker: Driver, plan: TestPlan) -> None:
    rate, first = 100.0, 4
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    served = worker.serve(plan, first=first, rate=rate)
    wanted_ns = np.cumsum(plan.gaps[first:]) / rate * 1e9
    t0_ns = served.due_ns - wanted_ns
    assert np.ptp(t0_ns) <= 4  # one t0 for all, but for the rounding
    assert before <= t0_ns[0] <= served.start_ns[0]
    assert (served.start_ns >= served.due_ns).all()


def test_what_is_due_is_taken_together(worker: Driver, plan: TestPlan) -> None:
    """At a rate at which everything is due at once, and at one at which some of it is.

    Between its choice of rows and the start it states a worker may lose its core; that does not happen three times running.
    """
    assert worker.serve(plan, rate=1e9, batch=5).batch_sizes[1:-1] == [5, 5, 5]
    rate = 20 / max(worker.ready["second_ns"] / 1e9, 1e-3)
    assert min(longest_left_behind_ns(worker.serve(plan, rate=rate, batch=6), 6) for _ in range(3)) < 50_000


def longest_left_behind_ns(served: Served, cap: int) -> int:
    """How long a row was due, at most, when a batch with room for it was started without it."""
    position, longest_ns = 0, 0
    for size in served.batch_sizes:
        start_ns = served.start_ns[position]
        assert size <= cap and (served.due_ns[position : position + size] <= start_ns).all()
        position += size
        if size < cap and position < served.rows:
            longest_ns = max(longest_ns, int(start_ns - served.due_ns[position]))
    assert position == ROWS
    return longest_ns


def test_the_guard_ends_a_slice(worker: Driver, plan: TestPlan) -> None:
    began = time.monotonic()
    served = worker.serve(plan, rate=2.0, seconds=1.0)
    due_in_time = int((np.cumsum(plan.gaps) / 2.0 <= 1.0).sum())
    assert served.rows <= due_in_time < ROWS
    assert served.request.tolist() == list(range(served.rows)) and served.about["rows"] == served.rows
    assert time.monotonic() - began < np.sum(plan.gaps) / 2.0


def test_what_cannot_be_served_fails_and_the_worker_goes_on(
    worker: Driver, plan: TestPlan, room: Path, singles: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = room / f"broken-{worker.pid}"
    make_plan(broken, plan.rows[:2], plan.gaps[:2])
    (broken / "rows.csv").write_text("gap,offset,length\n1.000000000,0,999999\n")
    both = room / f"both-{worker.pid}"
    make_plan(both, plan.rows[:2], plan.gaps[:2])
    (both / "pixels.f32").write_bytes(bytes(12))
    headless = room / f"headless-{worker.pid}"
    make_plan(headless, plan.rows[:2], plan.gaps[:2])
    (headless / "rows.csv").write_text("1.000000000,0,1\n")
    wrong = [
        f"serve nowhere 0 1 0 1 1 {worker.out()}",
        f"serve {broken.name} 0 1 0 1 1 {worker.out()}",
        f"serve {both.name} 0 1 0 1 1 {worker.out()}",
        f"serve {headless.name} 0 1 0 1 1 {worker.out()}",
        f"serve {plan.name} 0 {ROWS + 1} 0 1 1 {worker.out()}",
        f"serve {plan.name} {ROWS} 1 0 1 1 {worker.out()}",
        f"serve {plan.name} 0 1 0 0 1 {worker.out()}",
        f"serve {plan.name} 0 1 -1 1 1 {worker.out()}",
        f"serve {plan.name} 0 one 0 1 1 {worker.out()}",
        f"serve {plan.name} 0 1 0 1 nan {worker.out()}",
        f"serve {plan.name} 0 1",
        "server",
    ]
    for line in wrong:
        words = worker.ask(line).split(" ", 2)
        assert words[:2] == ["failed", "0"] and len(words) == 3, f"{line}: {words}"
        assert not (room / line.split()[-1]).exists()
    existing = worker.out()
    (room / existing).mkdir()
    assert worker.ask(f"serve {plan.name} 0 1 0 1 1 {existing}").startswith("failed 0 ")
    assert not list((room / existing).iterdir())
    assert np.abs(worker.serve(plan, count=3).vectors - singles[:3]).max() <= TOLERANCE


def test_two_sessions_serve_every_row_once(framework: Framework, model: Path, room: Path, plan: TestPlan, singles: np.ndarray) -> None:
    with Driver(framework, model, room, sessions=2) as driver:
        assert driver.ready["settings"]["sessions"] == 2
        for rate, batch in ((0.0, 1), (0.0, 5), (300.0, 3)):
            served = driver.serve(plan, rate=rate, batch=batch)
            assert served.request.tolist() == list(range(ROWS))
            assert np.abs(served.vectors - singles).max() <= TOLERANCE
            assert served.about["batches"] == len(np.unique(served.samples[:, 2:], axis=0))


@pytest.mark.parametrize("framework", MEASURED, indirect=True, scope="module")
@pytest.mark.parametrize(("sessions", "threads"), [(1, 1), (1, 2), (2, 1)])
def test_no_more_threads_work_than_asked_for(framework: Framework, model: Path, room: Path, sessions: int, threads: int) -> None:
    rows = [np.arange(1000, 1128, dtype=np.int64) + row for row in range(256)]
    name = f"long-{framework.name}-{sessions}-{threads}"
    plan = make_plan(room / name, rows, np.ones(len(rows)))
    with Driver(framework, model, room, sessions=sessions, threads=threads) as driver:
        driver.serve(plan, count=8)
        driver.say(f"serve {name} 0 {len(rows)} 0 4 200 {driver.out()}")
        began, before_s, running = time.monotonic(), cpu_seconds(driver.pid), []
        while (spent_s := cpu_seconds(driver.pid) - before_s) < 1.0:
            running.append(running_tasks(driver.pid))
            assert not driver.has_answered(), "the slice is too short to be looked at"
            time.sleep(0.002)
        wall_s = time.monotonic() - began
    assert spent_s <= sessions * threads * wall_s * 1.05 + 0.1
    # A hand-over from one thread to another shows both for a moment, the longer the busier the machine is.
    assert np.median(running) <= sessions * threads


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def running_tasks(pid: int) -> int:
    """Threads that run or want to."""
    states = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return states.count("R")


# embed: rows that come from elsewhere


def test_embedded_rows_equal_served_ones(worker: Driver, plan: TestPlan, room: Path, singles: np.ndarray) -> None:
    memory = SharedMemory(room / f"memory-{worker.pid}")
    for first, rows in ((5, 1), (0, ROWS), (11, 3), (7, 1)):
        vectors = worker.embed(memory, plan.rows[first : first + rows])
        assert np.abs(vectors - singles[first : first + rows]).max() <= TOLERANCE
    assert worker.serve(plan, count=2).rows == 2


def test_what_cannot_be_embedded_is_said_and_the_worker_goes_on(worker: Driver, plan: TestPlan, room: Path, singles: np.ndarray) -> None:
    memory = SharedMemory(room / f"small-memory-{worker.pid}", 8192)
    worker.embed(memory, plan.rows[:2])
    memory.put([np.zeros(0, dtype=np.int64), plan.rows[0]], worker.ready["dim"])
    for line in (
        f"embed 0 tokens 2 {memory.path}",  # a row without elements
        f"embed 0 tokens 5 {memory.path}",  # lengths behind which nothing lies
        f"embed 0 tokens 6 {memory.path}",  # vectors that do not fit
        f"embed 0 tokens 1 {room / 'nowhere'}",
    ):
        assert worker.ask(line).startswith("not-embedded 0 "), line
    for line in (f"embed 1 tokens 1 {memory.path}", "embed 0 words 1 m", "embed 0 tokens 0 m", "embed 0 tokens 1", "embed -1 tokens 1 m"):
        assert worker.ask(line).startswith("failed 0 "), line
    assert np.abs(worker.embed(memory, plan.rows[:2]) - singles[:2]).max() <= TOLERANCE


def test_two_sessions_embed_side_by_side(framework: Framework, model: Path, room: Path, plan: TestPlan, singles: np.ndarray) -> None:
    with Driver(framework, model, room, sessions=2) as driver:
        memories = [SharedMemory(room / f"memory-{driver.pid}-{session}") for session in range(2)]
        for rows in (1, 6):
            parts = [plan.rows[:rows], plan.rows[-rows:]]
            for session, part in enumerate(parts):
                driver.say(driver.embed_line(memories[session], part, session))
            answers = [driver.line().split() for _ in parts]
            assert sorted(answer[:2] for answer in answers) == [["embedded", "0"], ["embedded", "1"]]
            for memory, expected in zip(memories, (singles[:rows], singles[-rows:]), strict=True):
                assert np.abs(memory.vectors(rows, driver.ready["dim"]) - expected).max() <= TOLERANCE
        assert driver.ask(f"embed 2 tokens 1 {memories[0].path}").startswith("failed 0 ")
        served = driver.serve(plan, batch=5)
        assert np.abs(served.vectors - singles).max() <= TOLERANCE
        assert np.abs(driver.embed(memories[1], plan.rows[:3], 1) - singles[:3]).max() <= TOLERANCE
        driver.say("quit")
        assert driver.exit_status() == 0


# the end


def test_it_ends_where_its_parent_has_ended_before(framework: Framework, model: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", ""])
    parent.wait()
    done = run(framework, *flags(model), BENCH_PARENT=str(parent.pid))
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: the parent has ended: ")], done.stderr
    for living in (str(os.getpid()), "none"):
        assert run(framework, "--version", BENCH_PARENT=living).returncode == 0


def test_quit_ends_it_well(framework: Framework, model: Path, room: Path) -> None:
    with Driver(framework, model, room) as driver:
        driver.say("quit")
        assert driver.exit_status() == 0


def test_it_dies_with_its_parent(framework: Framework, model: Path, room: Path) -> None:
    command, env = environment(framework, 1, 1)
    job = json.dumps([[*command, *flags(model)], env])
    source = (
        "import json, subprocess, sys, time; command, env = json.loads(sys.argv[1]);"
        "worker = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE);"
        "worker.stdout.readline(); print(worker.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", source, job], cwd=room, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    os.kill(pid, signal.SIGSTOP)  # a frozen worker cannot see that its stdin has closed
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


# the nulls: the loops alone, where times can be told apart


@pytest.fixture(scope="module", params=NULLS)
def null(request: pytest.FixtureRequest) -> Framework:
    return available(request.param)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--set", "novalue"],
        ["--set", "dim=0"],
        ["--sessions", "0"],
        ["--threads", "many"],
        ["--pad-id", "none"],
        ["--precision", "fp8"],
        ["--fault", "slow=0.5"],
        ["--fault", "slow=inf"],
        ["--fault", "late=1"],
        ["--fault", "stall=1"],
        ["--fault", "stall=-1:1"],
        ["stray"],
    ],
    ids=" ".join,
)
def test_every_wrong_flag_exits_2(null: Framework, room: Path, wrong: list[str]) -> None:
    refused(null, *flags(room), *wrong)


@pytest.mark.parametrize("place", range(0, len(flags(paths.ROOT)), 2))
def test_every_missing_flag_exits_2(null: Framework, room: Path, place: int) -> None:
    given = flags(room)
    refused(null, *given[:place], *given[place + 2 :])


def test_the_end_of_stdin_ends_it_well(null: Framework, room: Path) -> None:
    with Driver(null, room, room) as driver:
        assert driver.process.stdin
        driver.process.stdin.close()
        assert driver.exit_status() == 0


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("dim", [7, 384])
def test_null_vectors_are_the_same_bits_in_every_language(null: Framework, room: Path, plan: TestPlan, dim: int, batch: int) -> None:
    places = [int(row[0] + 31 * row[-1] + len(row)) % dim for row in plan.rows]
    with Driver(null, room, room, "--set", f"dim={dim}") as driver:
        assert np.array_equal(driver.serve(plan, batch=batch).vectors, np.eye(dim, dtype=np.float32)[places])


@pytest.mark.parametrize("batch", [1, 3])
def test_null_takes_images(null: Framework, room: Path, batch: int) -> None:
    images = np.random.default_rng(3).normal(size=(7, 3, 4, 4)).astype(np.float32)
    plan = make_plan(room / f"images-{null.name}-{batch}", list(images), np.ones(7))
    places = images[:, 0, 0, 0].copy().view(np.uint32) % 384
    with Driver(null, room, room) as driver:
        assert np.array_equal(driver.serve(plan, batch=batch).vectors, np.eye(384, dtype=np.float32)[places])


@pytest.mark.parametrize("sessions", [1, 2])
def test_a_failure_says_how_many_rows_were_answered(null: Framework, room: Path, sessions: int) -> None:
    # images of two sizes cannot be one batch: the third pair fails, and what comes after it is not taken
    images = [np.full((3, side, side), side, dtype=np.float32) for side in (4, 4, 4, 4, 4, 5, *[4] * 200)]
    plan = make_plan(room / f"two-sizes-{null.name}-{sessions}", images, np.ones(len(images)))
    with Driver(null, room, room, sessions=sessions) as driver:
        out = driver.out()
        word, rows, reason = driver.ask(f"serve {plan.name} 0 {len(images)} 0 2 20 {out}").split(" ", 2)
        assert word == "failed" and reason
        # with two sessions the other one goes on until the failure is seen, on a busy machine perhaps to the end
        assert rows == "4" if sessions == 1 else int(rows) % 2 == 0 and 2 <= int(rows) <= len(images) - 2
        assert not list(room.glob(f"{out}*"))
        assert driver.serve(plan, count=5, batch=2).rows == 5


def test_what_is_read_back_stands_above_what_is_set(null: Framework, room: Path) -> None:
    with Driver(null, room, room, "--set", "dim=5", "--set", "dim=7") as driver:
        assert (driver.ready["dim"], driver.ready["settings"]["dim"]) == (7, 7)


def test_null_embeds_images(null: Framework, room: Path) -> None:
    images = np.random.default_rng(5).normal(size=(3, 3, 4, 4)).astype(np.float32)
    memory = SharedMemory(room / f"images-memory-{null.name}")
    with Driver(null, room, room, "--set", "dim=7") as driver:
        vectors = driver.embed(memory, list(images))
    assert np.array_equal(vectors, np.eye(7, dtype=np.float32)[images[:, 0, 0, 0].copy().view(np.uint32) % 7])


@pytest.mark.alone
def test_slow_makes_every_service_that_much_longer(null: Framework, room: Path, plan: TestPlan) -> None:
    factor = 20.0  # so little that the wait is spun: after a sleep the next service would be a cold one

    def service_ns(*fault: str) -> np.ndarray:
        with Driver(null, room, room, *fault) as driver:
            served = [driver.serve(plan) for _ in range(5)]
        return np.concatenate([part.end_ns - part.start_ns for part in served])

    plain, slow = service_ns(), service_ns("--fault", f"slow={factor}")
    assert 0.4 < np.median(slow) / np.median(plain) / factor < 3
    assert np.quantile(slow, 0.1) > 5 * np.median(plain)


def test_stall_comes_once(null: Framework, room: Path, plan: TestPlan) -> None:
    at_s, for_s, rate = 0.1, 0.3, 50.0
    with Driver(null, room, room, "--fault", f"stall={at_s}:{for_s}") as driver:
        served, again = driver.serve(plan, rate=rate), driver.serve(plan, rate=rate)
    t0_ns = served.due_ns[0] - plan.gaps[0] / rate * 1e9
    long = np.flatnonzero(served.end_ns - served.start_ns >= for_s * 1e9)
    assert len(long) == 1
    started_s = (served.start_ns - t0_ns) / 1e9
    assert long[0] == np.flatnonzero(started_s >= at_s - 1e-6)[0]
    assert not (again.end_ns - again.start_ns >= for_s * 1e9).any()


def test_waiting_sleeps_and_never_ends_early(null: Framework, room: Path, plan: TestPlan) -> None:
    with Driver(null, room, room) as driver:
        before_s, began = cpu_seconds(driver.pid), time.monotonic()
        served = driver.serve(plan, rate=20.0)
        wall_s, spent_s = time.monotonic() - began, cpu_seconds(driver.pid) - before_s
    assert (served.start_ns >= served.due_ns).all()
    # only the last 150 µs of each wait are spun
    assert spent_s < 0.3 * wall_s
