"""Many sources at once: each is a task of Ray, which spreads them over processes and machines and repeats the lost."""

import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

import reid_tracker
from reid_tracker.config import TrackConfig
from reid_tracker.device import share_processor
from reid_tracker.errors import UserError
from reid_tracker.gallery.store import is_database
from reid_tracker.ownership import FOLDER, is_finished, source_marks
from reid_tracker.pipeline.failures import raise_failures
from reid_tracker.pipeline.models import Models
from reid_tracker.pipeline.plan import Job
from reid_tracker.pipeline.prepare import planned, prepare
from reid_tracker.pipeline.remote import Remote, is_remote, remote_of, track_one
from reid_tracker.pipeline.source_run import Progress
from reid_tracker.results import RunSummary
from reid_tracker.writing import write_whole

logger = logging.getLogger(__name__)

MANIFEST = "done.json"
TRIES = 3  # after the first, of a source whose worker or machine was lost
LOOK_SECONDS = 0.25  # between two looks at what the workers have done
TELL_SECONDS = 0.5  # between two words of a worker about its source
REACH_SECONDS = 5.0  # for a cluster to answer
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
STOP_SECONDS = 15.0  # for interrupted workers to end their files


@dataclass
class Place:
    """How far a source is, as `Progress` is told it."""

    name: str
    frame_count: int | None = None
    notes: list[str] = field(default_factory=list)
    done: int = 0
    began: float = 0.0


def track_on_workers(
    source: "str | Path | list[str | Path]", config: TrackConfig, progress: Progress | None = None
) -> list[RunSummary]:
    """`track`, with the sources spread over workers by ``config.workers``; parameters, result and errors as there.

    A source whose worker dies is tracked again by another one, up to `TRIES` times. What an earlier run with the same
    settings has finished, by a list in the folder of results, is not done again.
    """
    ray = _import_ray()
    jobs = planned(source, config)
    if config.workers.ray and config.gallery.where and not is_database(config.gallery.where):
        raise UserError(
            f"gallery {config.gallery.where}: the workers of a cluster need one by URL; or use workers of this machine."
        )
    with ExitStack() as checked:
        prepare(jobs, config, Models(config), None, checked)  # what contradicts itself is refused before any worker
    manifest = _Manifest(config, remote_of(jobs, config))
    summaries = [RunSummary(job.name, error=job.error) for job in jobs]
    waiting = []
    for number, (job, summary) in enumerate(zip(jobs, summaries, strict=True)):
        if job.error is not None:
            continue
        if not config.workers.again:
            manifest.find(job, summary)
        summary.done_before = bool(summary.outputs or summary.urls)
        if not summary.done_before:
            waiting.append(number)
    if waiting:
        before = {number: signal.getsignal(number) for number in SIGNALS}
        with _cluster(ray, config), _noting_signals(before) as told:
            _run(ray, jobs, summaries, waiting, config, manifest, progress, told)
    if not any(each.interrupted for each in summaries):
        raise_failures(summaries)
    return [each for each in summaries if each.interrupted or each.error or each.frames or each.done_before]


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--workers and --ray need a package that is missing; install it with: pip install 'reid-tracker[ray]'"
        ) from error
    return ray


def _threads(config: TrackConfig) -> int:
    """Processors of each worker."""
    workers = config.workers
    if workers.threads:
        return workers.threads
    return 1 if workers.ray else max((os.cpu_count() or 1) // max(workers.count, 1), 1)


@contextmanager
def _cluster(ray: Any, config: TrackConfig) -> Iterator[None]:
    """Ray, of this machine alone or the one that runs already; an own one goes with everything it wrote."""
    workers = config.workers
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    folder = None
    if ray.is_initialized():  # the caller's own
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        if workers.ray:
            _reach(workers.ray)
            ray.init(address=workers.ray, **quiet)
        else:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # it would keep one in the home folder
            folder = tempfile.mkdtemp(prefix="ray-")  # sockets lie in it: their paths must be short
            processors = max(workers.count, 1) * _threads(config)
            ray.init(
                num_cpus=processors, include_dashboard=False, _temp_dir=folder, _node_ip_address="127.0.0.1", **quiet
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise UserError(
            f"Ray {workers.ray or 'on this machine'}: cannot be reached or started ({reason[0]})."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _noting_signals(before: dict[signal.Signals, Any]) -> Iterator[threading.Event]:
    """An event that is set when the run is to end; ``before`` are the handlers that are put back afterwards.

    Ray's own handler ends the process at once, and a KeyboardInterrupt may be lost within Ray.
    """
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    for number in before:
        signal.signal(number, lambda *_: told.set())
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reach(address: str) -> None:
    """Raise an OSError where there is no answer: Ray would keep trying for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()


class _Board:
    """What the workers tell of their sources; an actor beside the caller."""

    def __init__(self) -> None:
        self._told: dict[int, dict[str, Any]] = {}

    def begin(self, number: int) -> None:
        """A source begins, perhaps once more."""
        self._told[number] = {"began": time.time(), "done": 0, "total": None, "notes": []}

    def tell(self, number: int, done: int, total: int | None, notes: list[str]) -> None:
        """How far it is."""
        self._told[number] |= {"done": done, "total": total, "notes": notes}

    def read(self) -> dict[int, dict[str, Any]]:
        """All of it."""
        return self._told


def _run(
    ray: Any,
    jobs: list[Job],
    summaries: list[RunSummary],
    waiting: list[int],
    config: TrackConfig,
    manifest: "_Manifest",
    progress: Progress | None,
    told: threading.Event,
) -> None:
    """Give the sources to workers and wait for all of them; fills ``summaries``."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = ray.remote(num_cpus=0)(_Board).options(scheduling_strategy=here).remote()
    threads = _threads(config)
    task = ray.remote(num_cpus=threads, num_gpus=config.workers.gpus, max_retries=TRIES)(_work)
    everything = ray.put((jobs, config))
    running = {task.remote(everything, number, threads, board): number for number in waiting}
    places = {number: Place(jobs[number].name) for number in waiting}
    late: set[int] = set()
    try:
        while running:
            if told.is_set():
                raise KeyboardInterrupt
            ready, _ = ray.wait(list(running), timeout=LOOK_SECONDS)
            for each in ready:
                number = running.pop(each)
                summaries[number] = _result(ray, each, summaries[number], number in late, config)
                if summaries[number].error is None:
                    manifest.add(jobs[number], summaries[number])
                else:
                    logger.warning("%s: %s", jobs[number].name, summaries[number].error)
            for number, word in ray.get(board.read.remote()).items():
                if number not in running.values():
                    continue
                place = places[number]
                place.began, place.frame_count, place.notes = word["began"], word["total"], word["notes"]
                if progress is not None and word["done"] != place.done:
                    progress(place, word["done"])
                place.done = word["done"]
                over = config.workers.timeout is not None and time.time() - place.began > config.workers.timeout
                if over and number not in late:
                    late.add(number)
                    ray.cancel(next(each for each, own in running.items() if own == number), force=True)
    except KeyboardInterrupt:
        for each in running:
            ray.cancel(each)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=STOP_SECONDS)
        words = ray.get(board.read.remote())  # the latest: the first may have begun since the last look
        begun = [number for number in running.values() if number in words]
        for number in begun or list(running.values())[:1]:
            summaries[number].interrupted = True
            summaries[number].last_frame = words[number]["done"] if begun else 0
            summaries[number].kept = "what was written up to there is kept."


def _result(ray: Any, reference: Any, summary: RunSummary, late: bool, config: TrackConfig) -> RunSummary:
    """What came of a task."""
    try:
        done: RunSummary = ray.get(reference)
        return done
    except ray.exceptions.RayError as error:
        if late:
            summary.error = f"took longer than {config.workers.timeout:g} s and was given up."
        elif isinstance(error, ray.exceptions.OutOfMemoryError):
            summary.error = "its worker ran out of memory; take fewer workers at a time."
        else:
            summary.error = f"its worker was lost {TRIES + 1} times ({type(error).__name__})."
        return summary


_models: dict[str, Models] = {}


def _work(everything: tuple[list[Job], TrackConfig], number: int, threads: int, board: Any) -> RunSummary:
    """Track one source, in a worker's process; the networks stay for the next one."""
    jobs, config = everything
    job, summary = jobs[number], RunSummary(jobs[number].name)
    board.begin.remote(number)  # not awaited: a task that waits gives its processors to another
    share_processor(threads)
    told = 0.0

    def tell(source: Any, done: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            board.tell.remote(number, done, source.frame_count, source.notes)

    key = config.model_dump_json()
    if key not in _models:
        _models.clear()
        _models[key] = Models(config)
    notes = _Notes()
    logging.getLogger("reid_tracker").addHandler(notes)
    try:
        with ExitStack() as opened:
            common = prepare(jobs, config, _models[key], tell, opened)
            remote = Remote(config.output.folder, config.output.private) if is_remote(config.output.folder) else None
            track_one(job, summary, common, remote, settings_of(config))
    except UserError as error:
        summary.error = str(error)
    finally:
        logging.getLogger("reid_tracker").removeHandler(notes)
    summary.notes += [each for each in notes.sentences if each not in summary.notes]
    return summary


class _Notes(logging.Handler):
    """Keeps what the package says while a source is tracked: a worker has no terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a sentence."""
        self.sentences.append(record.getMessage())


def settings_of(config: TrackConfig) -> str:
    """What results depend on beside their source, in short."""
    settings = config.model_dump(mode="json", exclude={"workers": True, "output": {"overwrite"}})
    text = json.dumps([reid_tracker.__version__, settings], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


class _Manifest:
    """Which sources were finished with which settings; a list in the folder of results."""

    def __init__(self, config: TrackConfig, remote: Remote | None) -> None:
        self._folder, self._remote = Path(config.output.folder).expanduser(), remote
        self._settings = settings_of(config)
        self._known = self._read() if remote is None else {}

    def _key(self, job: Job) -> str:
        marks = [*source_marks(job.path), self._settings]
        return hashlib.sha256("\n".join(marks).encode("utf-8", "surrogateescape")).hexdigest()[:24]

    def find(self, job: Job, summary: RunSummary) -> None:
        """Tell the summary what came of a source, if it is finished and all of that is as it was."""
        if self._remote is not None:
            summary.urls = self._remote.files_of(job, self._settings)
            return
        files = [self._folder / each for each in self._known.get(self._key(job), ())]
        of = source_marks(job.path)
        summary.outputs = files if all(is_finished(each, of) for each in files) else []

    def add(self, job: Job, summary: RunSummary) -> None:
        """Note a finished source; at a URL, its worker has."""
        if self._remote is not None:
            return
        own = self._folder / FOLDER
        with FileLock(own / f"{MANIFEST}.lock", timeout=30, thread_local=False):
            self._known = self._read() | {self._key(job): [each.name for each in summary.outputs]}
            write_whole(own / MANIFEST, (json.dumps(self._known) + "\n").encode())

    def _read(self) -> dict[str, list[str]]:
        """The list; empty if it cannot be read."""
        try:
            found = json.loads((self._folder / FOLDER / MANIFEST).read_text(encoding="utf-8"))
            return {str(key): [Path(str(name)).name for name in names] for key, names in found.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}
