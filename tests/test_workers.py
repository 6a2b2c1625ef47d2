"""Many sources at once: the same results as one at a time, whatever happens to the workers."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import ray
from command_world import Run, boxes_of, make_clip, refused
from live_world import wait_until

from reid_tracker import TrackConfig, UserError, track
from reid_tracker.config import load
from reid_tracker.pipeline import workers
from reid_tracker.pipeline.failures import BatchError
from reid_tracker.video.sources import open_source

LONG = 1200  # frames


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests here: it takes seconds to start."""
    os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)  # else one is written to the home folder
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    return [make_clip(tmp_path / "in" / str(number) / "walk.mp4", frames=10 + number) for number in range(4)]


def settings(clips: list[Path], folder: Path, **more: object) -> TrackConfig:
    fixed = {
        "detector.recorded": boxes_of(*clips),
        "embedder.enabled": False,
        "tracker.camera_motion": False,
        "output.folder": str(folder),
        "output.mot": True,
        "output.jsonl": True,
    }
    return load(TrackConfig, overrides={**fixed, **more})


def test_results_are_those_of_one_process_and_a_second_run_does_what_is_missing(
    cluster: None, command: Run, clips: list[Path], tmp_path: Path
) -> None:
    track(clips, settings(clips, tmp_path / "one"))
    spread = settings(clips, tmp_path / "spread", **{"workers.count": 2})
    told: dict[str, int] = {}
    summaries = track(clips, spread, progress=lambda source, done: told.update({source.name: done}))
    names = ["walk", "walk-2", "walk-3", "walk-4"]
    assert [(each.source, each.frames) for each in summaries] == list(zip(names, range(10, 14), strict=True))
    for ending in ("txt", "jsonl"):
        for name in names:
            alone, at_once = ((tmp_path / run / f"{name}.{ending}").read_bytes() for run in ("one", "spread"))
            assert alone == at_once
    assert [each.done_before for each in track(clips, spread)] == [True] * 4
    # Whatever is gone or was changed is made again, and so is all with other settings.
    (tmp_path / "spread" / "walk-2.txt").unlink()
    (tmp_path / "spread" / "walk-3.jsonl").write_text("mine")
    with pytest.raises(UserError, match=r"walk-3\.jsonl: is there already"):  # what the user changed is the user's
        track(clips, spread)
    (tmp_path / "spread" / "walk-3.jsonl").unlink()
    assert [each.done_before for each in track(clips, spread)] == [True, False, False, True]
    other = settings(clips, tmp_path / "spread", **{"workers.count": 2, "tracker.lost_seconds": 1.0})
    assert [each.done_before for each in track(clips, other)] == [False] * 4
    again = settings(clips, tmp_path / "spread", **{"workers.count": 2, "workers.again": True})
    assert [each.done_before for each in track(clips, again)] == [False] * 4
    fixed = ["--detections", spread.detector.recorded, "--no-appearance", "--no-camera-motion", "--mot", "--jsonl"]
    status, out, _ = command("track", *clips, *fixed, "-o", tmp_path / "spread", "--workers", "2")
    assert status == 0 and out.count("done before") == 4 and "walk-4.jsonl" in out


def test_a_list_of_what_is_done_that_cannot_be_read_tells_of_nothing(
    cluster: None, clips: list[Path], tmp_path: Path
) -> None:
    spread = settings(clips, tmp_path / "out", **{"workers.count": 2})
    track(clips[:1], spread)
    for text in ("[", "[1]", '{"a": 3}', "{" * 100_000, json.dumps({"a": ["../../../etc/passwd"]})):
        (tmp_path / "out" / ".reid_tracker" / "done.json").write_text(text)
        assert [each.done_before for each in track(clips[:1], spread)] == [False]


def test_a_source_that_cannot_be_read_costs_itself_alone(cluster: None, clips: list[Path], tmp_path: Path) -> None:
    clips[1].write_bytes(b"no video")
    spread = settings(clips, tmp_path / "out", **{"workers.count": 2})
    with pytest.raises(BatchError) as failed:
        track([*clips, tmp_path / "none.mp4"], spread)
    errors = {each.source: each.error for each in failed.value.summaries}
    assert [name for name, error in errors.items() if error] == ["walk-2", "none.mp4"]
    assert "1/walk.mp4" in str(errors["walk-2"])
    assert (tmp_path / "out" / "walk-4.txt").stat().st_size


def long_clip(path: Path) -> Path:
    """A clip that takes some seconds."""
    return make_clip(path, frames=LONG)


def test_a_source_that_takes_too_long_is_given_up(cluster: None, tmp_path: Path) -> None:
    clips = [long_clip(tmp_path / "in" / "3" / "long.mp4"), make_clip(tmp_path / "in" / "0" / "walk.mp4")]
    spread = settings(
        clips[::-1], tmp_path / "out", **{"workers.count": 2, "workers.timeout": 0.3, "output.video": True}
    )
    with pytest.raises(BatchError, match=r"long: took longer than 0\.3 s and was given up"):
        track(clips, spread)
    assert len(list(open_source(tmp_path / "out" / "walk.mp4"))) == 30


def test_a_killed_worker_costs_its_source_a_second_try(tmp_path: Path) -> None:
    clips = [long_clip(tmp_path / "in" / f"{number}.mp4") for number in range(2)]
    fixed = ["--detections", boxes_of(*clips), "--no-appearance", "--no-camera-motion", "--video", "--mot"]
    program = [sys.executable, "-m", "reid_tracker", "track", *clips, *fixed, "-o", tmp_path / "out", "--workers", "2"]
    process = subprocess.Popen(
        [str(each) for each in program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def workers() -> list[psutil.Process]:
        found = []
        for each in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                found += [each] if "ray::_work" in each.name() else []
        return found

    running: list[psutil.Process] = []

    def has_begun() -> bool:
        running[:] = workers() if any((tmp_path / "out").glob("?.mp4")) else []
        return bool(running)

    wait_until(has_begun, seconds=60)
    running[0].send_signal(signal.SIGKILL)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    for number in range(2):
        assert len(list(open_source(tmp_path / "out" / f"{number}.mp4"))) == LONG
        assert (tmp_path / "out" / f"{number}.txt").read_text().splitlines()[-1].startswith(f"{LONG},")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        ".reid_tracker", "0.mp4", "0.txt", "1.mp4", "1.txt",
    ]  # fmt: skip
    assert "0.mp4" in out


def test_sigterm_keeps_what_was_written(tmp_path: Path) -> None:
    first = long_clip(tmp_path / "in" / "0.mp4")
    clips = [first, *(first.with_name(f"{number}.mp4") for number in range(1, 9))]  # when two are done others are not
    for each in clips[1:]:
        each.write_bytes(first.read_bytes())
    fixed = ["--detections", boxes_of(*clips), "--no-appearance", "--no-camera-motion", "--video"]
    program = [sys.executable, "-m", "reid_tracker", "track", *clips, *fixed, "-o", tmp_path / "out", "--workers", "2"]
    process = subprocess.Popen([str(each) for each in program], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any((tmp_path / "out").glob("?.mp4")), seconds=60)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Interrupted: " in error, error
    written = list((tmp_path / "out").glob("?.mp4"))
    assert written and all(0 < len(list(open_source(each))) <= LONG for each in written)


def test_an_end_before_the_first_frame_is_no_success(
    cluster: None, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def told_already(before: object) -> Iterator[threading.Event]:
        told = threading.Event()
        told.set()
        yield told

    monkeypatch.setattr(workers, "_noting_signals", told_already)
    summaries = track(clips, settings(clips, tmp_path / "out", **{"workers.count": 2}))
    assert summaries and all(each.interrupted for each in summaries)


def test_what_workers_cannot_do_is_refused(command: Run, clips: list[Path], tmp_path: Path) -> None:
    fixed = ["--detections", clips[0].parent / "det.txt", "-o", tmp_path / "out"]
    refused(command("track", clips[0], *fixed, "--ray", "auto", "--gallery", tmp_path / "people"), "by URL")
    refused(command("track", clips[0], *fixed, "--workers", "2", "--roi", "junk"), "roi")
    refused(command("track", clips[0], *fixed, "--timeout", "9"), "add --workers or --ray")
    refused(command("track", clips[0], *fixed, "--again"), "add --workers or --ray")
    with pytest.raises(UserError, match="workers load their own networks"):
        track(clips, settings(clips, tmp_path / "out", **{"workers.count": 2}), detector=object())  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_and_a_missing_package_are_named(
    command: Run, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.shutdown()
    fixed = ["--detections", clips[0].parent / "det.txt", "--no-appearance", "-o", tmp_path / "out"]
    refused(command("track", clips[0], *fixed, "--ray", "127.0.0.1:1"), "Ray 127.0.0.1:1: cannot be reached")
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(command("track", clips[0], *fixed, "--workers", "2"), "pip install 'reid-tracker[ray]'")
