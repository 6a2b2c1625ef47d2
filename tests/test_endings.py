"""Runs that end badly: what is said of them is true of every file, and nothing is lost that was done."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_world import FRAMES, Run, boxes_of, make_clip, refused, start
from test_ownership import FLAGS, last_frame, wait_for

from reid_tracker import TrackConfig, UserError, progress, track
from reid_tracker.config import load
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.pipeline.failures import BatchError
from reid_tracker.report.visits import VisitLog
from reid_tracker.video import sinks, video_sink
from reid_tracker.video.sources import open_source

FIXED = ("--no-appearance", "--no-camera-motion")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in" / "walk.mp4")


# --- a batch ---


@pytest.fixture
def batch(clip: Path) -> list[Path]:
    """Six sources: three that are sound, one cut off, one missing, one that is no video."""
    sound = [clip, *(Path(shutil.copy(clip, clip.with_name(f"walk{number}.mp4"))) for number in (2, 6))]
    cut, text = clip.with_name("cut.mp4"), clip.with_name("text.mp4")
    cut.write_bytes(clip.read_bytes()[:2000])
    text.write_bytes(b"no video")
    return [sound[0], sound[1], cut, clip.with_name("missing.mp4"), text, sound[2]]


def test_a_batch_goes_on_after_a_bad_source(command: Run, batch: list[Path], tmp_path: Path) -> None:
    boxes = ("--detections", boxes_of(*batch), *FIXED, "-o", tmp_path / "out", "--mot")
    status, out, error = command("track", *batch, *boxes)
    assert status == 2 and "3 of 6 sources failed" in error and "Traceback" not in error
    failed = error[error.index("sources failed") :]
    assert all(name in failed for name in ("cut.mp4", "missing.mp4", "text.mp4"))
    assert not re.search(r"walk\d?\b", failed)
    # Told at the start, and at the end once.
    assert error.index("missing.mp4: no such file") < error.index("frame 1 of 30") and failed.count("missing.mp4") == 1
    for name in ("walk", "walk2", "walk6"):
        assert re.search(rf"{name}\s+{FRAMES}\s+1\s", out) and str(tmp_path / "out" / f"{name}.txt") in out
        assert last_frame(tmp_path / "out" / f"{name}.txt") == FRAMES
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"walk.txt", "walk2.txt", "walk6.txt"}


def test_a_source_that_fails_half_way_does_not_end_the_batch(command: Run, clip: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(clip, clip.with_name("later.mp4")))
    seen: list[int] = []

    def fail_once(source, done):
        seen.append(done)
        if len(seen) == 7:
            raise UserError("The lamp broke.")

    config = load(TrackConfig, None, {"output.folder": str(tmp_path / "out"), "output.mot": True})
    config.detector.recorded, config.embedder.enabled = boxes_of(clip, other), False
    with pytest.raises(BatchError, match=r"(?s)1 of 2 sources failed.*walk.*The lamp broke.*up to (6|7)") as end:
        track([clip, other], config, progress=fail_once)
    walk, later = end.value.summaries
    assert "lamp" in (walk.error or "") and later.error is None and later.frames == FRAMES
    assert last_frame(tmp_path / "out" / "walk.txt") == walk.last_frame


def test_one_cause_for_all_is_said_once(command: Run, clip: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(clip, clip.with_name("later.mp4")))
    arguments = ["track", clip, other, "--detector", tmp_path / "none.pt", "-o", tmp_path / "out"]
    assert "failed" not in refused(command(*arguments), "none.pt")


def test_ctrl_c_ends_a_batch_and_tells_of_what_failed_before(
    command: Run, clip: Path, batch: list[Path], tmp_path: Path
) -> None:
    broken = command.breaking(4, KeyboardInterrupt())
    arguments = [batch[2], clip, batch[1], "--detections", boxes_of(*batch), *FIXED, "-o", tmp_path / "out"]
    status, _, error = command("track", *arguments, "--mot")
    broken.undo()
    assert status == 130 and "Failed: cut" in error and "walk is written up to frame 4." in error
    assert not (tmp_path / "out" / "walk2.txt").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("The disk is full.")], ids=["Ctrl-C", "error"])
def test_an_end_while_looking_back_keeps_the_first_results_whole(
    command: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    write, calls = sinks.MotSink.write, []

    def fail(self, result):
        calls.append(result)
        if len(calls) == FRAMES + 8:
            raise error
        write(self, result)

    monkeypatch.setattr(sinks.MotSink, "write", fail)
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", tmp_path / "out", "--mot", "--video", "--refine")
    status, _, said = command("track", clip, *boxes)
    assert status == (130 if isinstance(error, KeyboardInterrupt) else 2) and "Traceback" not in said
    assert re.search(r"[wW]alk is written; of what it was looked back on, frames", said)
    out = tmp_path / "out"
    assert last_frame(out / "walk.txt") == len(list(open_source(out / "walk.mp4"))) == FRAMES
    for name, held in (("walk_refined.txt", 7), ("walk_refined.mp4", 8)):
        assert re.search(rf"up to {held} are kept in \S*{name}", said), said
    assert last_frame(out / "walk_refined.txt") == 7 and len(list(open_source(out / "walk_refined.mp4"))) == 8
    monkeypatch.undo()


def test_ctrl_c_before_the_first_frame(command: Run, clip: Path, tmp_path: Path) -> None:
    broken = command.breaking(0, KeyboardInterrupt())
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", tmp_path / "out", "--mot", "--video")
    status, _, said = command("track", clip, *boxes)
    broken.undo()
    assert status == 130 and "nothing of walk is written" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("The disk is full.")], ids=["Ctrl-C", "error"])
def test_counts_are_kept_as_all_else_is(command: Run, clip: Path, tmp_path: Path, error: BaseException) -> None:
    broken, out = command.breaking(20, error), tmp_path / "out"
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", out, "--mot", "--line", "door=40,0 40,120")
    _, _, said = command("track", clip, *boxes)
    broken.undo()
    assert re.search(r"written up to frame 20\.|frames up to 20 are kept\.", said), said
    counts = json.loads((out / "walk_counts.json").read_text())
    assert counts["lines"]["door"]["in"] == len(counts["visits"]) == 1


@pytest.mark.parametrize("call", [5, 20])
def test_an_error_that_nobody_foresaw_in_one_file_takes_no_other_along(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    write, out, calls = sinks.MotSink.write, tmp_path / "out", []

    def fail(self, result):
        calls.append(result)
        if len(calls) == call:
            raise ZeroDivisionError
        write(self, result)

    monkeypatch.setattr(sinks.MotSink, "write", fail)
    monkeypatch.setattr(VisitLog, "people_table", lambda self: 1 / 0)
    wanted = {"mot": True, "video": True, "parquet": True, "report": True}
    config = load(TrackConfig, None, {"output.folder": str(out), **{f"output.{each}": True for each in wanted}})
    config.detector.recorded, config.embedder.enabled = str(clip.parent / "det.txt"), False
    config.count.lines = ["door=40,0 40,120"]
    with pytest.raises(ZeroDivisionError) as end:
        track(clip, config)
    assert {each.name for each in out.glob("[!.]*")} == {
        f"walk{each}" for each in (".txt", ".mp4", ".parquet", "_visits.csv", "_report.html", "_counts.json")
    }
    assert len((out / "walk.txt").read_text().splitlines()) <= call
    (said,) = end.value.__notes__
    assert f"up to {call - 1} are kept in {out / 'walk.txt'}" in said or f"none in {out / 'walk.txt'}" in said
    film = len(list(open_source(out / "walk.mp4")))
    assert film > call and f"up to {film} are kept in {out / 'walk.mp4'}" in said
    assert f"none in {out / 'walk_people.csv'}" in said


# --- signals ---

WITH_GALLERY = """
import numpy as np
from reid_tracker.pipeline.models import Models
class Constant:
    hash, dimension, header = "c" * 64, 4, {}
    def embed(self, image, xyxy):
        return np.repeat(np.float32([[1, 0, 0, 0]]), len(xyxy), axis=0)
Models.embedder_for = lambda self, detector, source: (Constant(), None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_every_signal_ends_a_run_as_ctrl_c_does(clip: Path, tmp_path: Path, number: signal.Signals) -> None:
    boxes = ("--detections", clip.parent / "det.txt", "--no-camera-motion", "-o", tmp_path / "out")
    flags = (
        *boxes,
        "--jsonl",
        "--video",
        "--mot",
        "--gallery",
        tmp_path / "people",
        "--set",
        "output.bridge_seconds=0.2",
    )
    process = start("track", clip, *flags, seconds=0.1, before=WITH_GALLERY)
    lines = tmp_path / "out" / "walk.jsonl"
    wait_for(lambda: lines.exists() and lines.read_text().count("\n"))  # written 1.4 s late: the rest, at the end
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in error, error
    kept = int(re.search(r"walk is written up to frame (\d+)", error).group(1))
    assert 8 <= kept < FRAMES
    assert len(lines.read_text().splitlines()) == len(list(open_source(lines.with_suffix(".mp4")))) == kept
    assert last_frame(lines.with_suffix(".txt")) == kept
    gallery = SqliteGallery(tmp_path / "people")
    assert len(gallery.people()) == 1
    gallery.close()


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_nohup_is_meant(clip: Path, tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", tmp_path / "out", "--mot")
    process = start("track", clip, *boxes, seconds=0.05, before=ignoring)
    wait_for(lambda: (tmp_path / "out" / "walk.txt").exists())
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 0 and last_frame(tmp_path / "out" / "walk.txt") == FRAMES


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_training_ends_at_a_signal_as_at_ctrl_c(number: signal.Signals) -> None:
    # In a process of its own: one in which other tests left native threads may not survive it.
    test = Path(__file__).with_name("training_signals.py")
    alone = [sys.executable, "-m", "pytest", "-q", f"{test}::test_training_ends[{number.value}]"]
    done = subprocess.run(alone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


# --- full disks ---

LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize("limit", [1_000, 2_000, 40_000, 70_000, 110_000])
def test_a_full_disk_leaves_in_each_file_what_is_said(clip: Path, tmp_path: Path, limit: int) -> None:
    """A limit on file sizes stands for the full disk: writing fails half-way just the same."""
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", tmp_path / "out")
    process = start("track", clip, *boxes, "--video", "--mot", "--jsonl", before=LIMITED.format(limit=limit))
    out, error = process.communicate(timeout=60)
    refused((process.returncode, out, error), "cannot be written")
    told = re.findall(r"up to (\d+) are kept in (.*?)(?=, up to|, none|\.(?:\s|$))", error)
    said = {Path(name): int(last) for last, names in told for name in names.split(" and ")}
    everything = re.search(r"frames up to (\d+) are kept\.", error)
    files = set((tmp_path / "out").glob("[!.]*"))
    assert files and (everything or files == said.keys()), error
    for path in files:
        expected = int(everything.group(1)) if everything else said[path]
        if path.suffix == ".mp4":
            assert len(list(open_source(path))) == expected > 0
        elif path.suffix == ".jsonl":
            assert len(path.read_text().splitlines()) == expected
        else:
            # The first two frames of a person are not reported: of them there are no rows.
            assert last_frame(path) in (expected, 0) and (expected < 3 or last_frame(path))
    film = tmp_path / "out" / "walk.mp4"
    assert film.exists() or f"none in {film}" in error


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_full_disk_is_told_of_what_is_made_at_the_end(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", out, "--zone", "a=0,0 90,0 90,90")
    process = start("track", clip, *boxes, "--mot", "--parquet", "--report", before=LIMITED.format(limit=2_500))
    _, error = process.communicate(timeout=60)
    said = refused((process.returncode, "", error), "walk.parquet: cannot be written (File too large)")
    kept, missing = (
        {out / f"walk{name}" for name in names}
        for names in ((".txt", "_people.csv", "_visits.csv", "_counts.json"), (".parquet", "_report.html"))
    )
    assert set(out.glob("[!.]*")) == kept
    assert all(f"none in {each}" in said for each in missing) and not any(f"none in {each}" in said for each in kept)


def test_a_fragment_cut_anywhere_is_cut_off_whole(tmp_path: Path) -> None:
    import supervision as sv

    from reid_tracker.video.frames import Frame
    from reid_tracker.video.sinks import FrameResult
    from reid_tracker.video.video_sink import VideoSink

    sink = VideoSink(tmp_path / "whole.mp4", 25.0)
    noise = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    for index in range(60):
        nobody = sv.Detections.empty()
        sink.write(FrameResult(Frame(np.roll(noise, index, 1), index, index / 25), nobody, nobody))
    sink.close()
    content = (tmp_path / "whole.mp4").read_bytes()
    counts = []
    for size in [*np.random.default_rng(1).integers(0, len(content), 30).tolist(), len(content)]:
        path = tmp_path / "cut.mp4"
        path.write_bytes(content[:size])
        count = video_sink.cut_to_whole_fragments(path)
        assert count == (len(list(open_source(path))) if count else 0)
        counts.append((size, count))
    assert [count for _, count in sorted(counts)] == sorted(count for _, count in counts) and counts[-1][1] == 60


def test_a_full_disk_in_training_ends_in_one_sentence(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    for person in "abc":
        (tmp_path / "people" / person).mkdir(parents=True)
        for each in range(2):
            cv2.imwrite(str(tmp_path / "people" / person / f"{each}.jpg"), np.zeros((64, 32, 3), np.uint8))
    save, full = torch.save, [False, True]

    def fail(what, path):
        save(what, path)
        if full.pop(0):
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    train = ["train", tmp_path / "people", "-o", tmp_path / "model", *FLAGS]
    refused(command(*train), "epoch 2 cannot be written", "No space left", "--resume goes on after epoch 1")
    assert not list((tmp_path / "model").glob("*.part"))
    monkeypatch.undo()


# --- without a terminal ---


def test_a_log_gets_a_line_now_and_then(
    command: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", tmp_path / "out", "--mot")
    _, _, error = command("track", clip, *boxes)
    lines = [line for line in error.splitlines() if line.startswith("walk: frame ")]
    assert lines[0] == f"walk: frame 1 of {FRAMES}" and len(lines) == FRAMES
    assert re.fullmatch(rf"walk: frame {FRAMES} of {FRAMES}, [\d.]+ a second, 0:00 left", lines[-1])


def test_lines_of_a_log_become_rarer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines = progress.ProgressLines()
    for done in range(1, 36_001):
        lines.advance(1, "day", done, 72_000)
        now += 0.1
    said = capsys.readouterr().err.splitlines()
    assert 60 <= len(said) <= 70 and said[0] == "day: frame 1 of 72000"
    assert said[-1].startswith("day: frame 3") and re.search(r", 10.0 a second, 1:0\d:\d\d left$", said[-1])


def test_a_run_in_the_background_says_something_before_it_ends(clip: Path, tmp_path: Path) -> None:
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", tmp_path / "out", "--mot")
    process = start("track", clip, *boxes, seconds=0.1)
    assert process.stderr is not None and process.stderr.readline().startswith("walk: frame 1 of 30")
    assert process.poll() is None
    process.kill()
    process.communicate()


# --- a gallery that goes away ---


class ByShade:
    """One vector for everyone."""

    hash, dimension, header = "c" * 64, 4, {}

    def embed(self, image, xyxy):
        return np.repeat(np.float32([[1, 0, 0, 0]]), len(xyxy), axis=0)


@pytest.mark.parametrize("way", ["deleted", "renamed", "replaced"])
def test_a_gallery_taken_away_meanwhile_is_noticed_at_each_save(clip: Path, tmp_path: Path, way: str) -> None:
    people = tmp_path / "people"
    settings = {"output.folder": str(tmp_path / "out"), "output.mot": True, "gallery.where": str(people)}
    config = load(TrackConfig, None, {**settings, "gallery.save_seconds": 1e-6})
    config.detector.recorded = str(clip.parent / "det.txt")

    def take_away(_, done):
        if done == 12:
            people.rename(tmp_path / "elsewhere")
            if way == "deleted":
                shutil.rmtree(tmp_path / "elsewhere")
            elif way == "replaced":
                shutil.copytree(tmp_path / "elsewhere", people)

    with pytest.raises(UserError, match=r"gallery\.sqlite: was moved or deleted.*frames up to (\d+) are kept") as end:
        track(clip, config, embedder=ByShade(), progress=take_away)
    kept = int(re.search(r"up to (\d+)", str(end.value)).group(1))
    assert 11 <= kept <= 15 and last_frame(tmp_path / "out" / "walk.txt") == kept


def test_every_use_of_a_gallery_taken_away_says_so(tmp_path: Path) -> None:
    from reid_tracker.gallery.store import Model, Sighting, View

    gallery = SqliteGallery(tmp_path / "people", Model("c" * 64, 4))
    shutil.rmtree(tmp_path / "people")
    steps = (
        lambda: gallery.enrol({1: Sighting([View(np.float32([1, 0, 0, 0]))], 0, 0)}),
        gallery.new_numbers,
        gallery.people,
        lambda: gallery.name(1, "Ann"),
    )
    for step in steps:
        with pytest.raises(UserError, match="was moved or deleted while it was in use"):
            step()
    gallery.close()


def test_a_run_that_is_going_on_can_be_read_along(clip: Path, tmp_path: Path) -> None:
    """What a run that is going on has written can be read at any moment, under the result's own name."""
    boxes = ("--detections", clip.parent / "det.txt", *FIXED, "-o", tmp_path / "out", "--jsonl")
    process = start("track", clip, *boxes, seconds=0.05)
    lines = tmp_path / "out" / "walk.jsonl"
    wait_for(lambda: lines.exists() and lines.read_text().count("\n") >= 3)
    assert [json.loads(line)["index"] for line in lines.read_text().splitlines()[:3]] == [0, 1, 2]
    assert process.wait(30) == 0
