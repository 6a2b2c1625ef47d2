"""Whose a file is: no input and no file of the user's is overwritten, old results stay until new ones are whole."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_world import FRAMES, Run, boxes_of, make_clip, refused, start

from reid_tracker import TrackConfig, UserError, track
from reid_tracker.config import LiveOutputSettings, load
from reid_tracker.live.outputs import Recorder
from reid_tracker.motchallenge import read_rows
from reid_tracker.ownership import FOLDER, claim
from reid_tracker.video.sources import open_source


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in" / "day.mp4")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def contents(*folders: Path) -> dict[Path, bytes]:
    """Every file of the user's in some folders."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if ".reid_tracker" not in path.parts}


def last_frame(path: Path) -> int:
    return int(read_rows(path)[:, 0].max(initial=0))


# --- an input is never an output ---


def test_no_result_overwrites_another_source_of_the_batch(command: Run, clip: Path, results: Path) -> None:
    other = make_clip(results / "day.mp4", shade=120)
    boxes = boxes_of(clip, other)
    before = contents(clip.parent, results)
    for flags in ([], ["--overwrite"]):
        arguments = ["track", clip, other, "--detections", boxes, "-o", results, *flags]
        refused(command(*arguments), "day.mp4", "overwrite its own source")
    assert contents(clip.parent, results) == before


def test_a_hard_or_symbolic_link_to_the_source_is_the_source(command: Run, clip: Path, results: Path) -> None:
    content = clip.read_bytes()
    for link in (os.link, os.symlink):
        link(clip, results / "day.mp4")
        for flags in ([], ["--overwrite"]):
            refused(command.track(clip, results, "--video", *flags), "results/day.mp4", "source")
        assert clip.read_bytes() == (results / "day.mp4").read_bytes() == content
        (results / "day.mp4").unlink()
    # And the other way round: the source is a link to a file that bears the result's name.
    real = clip.rename(results / "day.mp4")
    clip.symlink_to(real)
    refused(command.track(clip, results, "--video", "--overwrite"), "source")
    assert clip.read_bytes() == content


def test_the_case_of_a_name_does_not_tell_an_output_from_an_input(command: Run, clip: Path) -> None:
    shouting = clip.rename(clip.with_name("day.MP4"))
    refused(command.track(shouting, shouting.parent, "--video"), "day.mp4", "source")


@pytest.mark.parametrize(
    ("name", "label", "flags"),
    [
        ("day.txt", "detections", ["--detections", "{file}", "--mot"]),
        ("day.txt", "settings", ["--config", "{file}", "--mot"]),
        ("day.txt", "state", ["--resume", "{file}", "--mot"]),
        ("day.txt", "model", ["--embedder", "{file}", "--mot"]),
        ("day.txt", "model", ["--detector", "{file}", "--mot", "--detections", ""]),
        ("day.jsonl", "state", ["--resume", "{file}", "--jsonl"]),
        ("day_counts.json", "settings", ["--config", "{file}", "--line", "gate=80,0 80,120"]),
        ("day_refined.txt", "detections", ["--detections", "{file}", "--mot", "--refine"]),
        ("day.part.txt", "detections", ["--detections", "{file}", "--mot"]),
        ("state", "detections", ["--detections", "{file}", "--save-state", "{file}"]),
        ("state", "source", ["--save-state", "{source}"]),
    ],
)
def test_nothing_that_is_read_is_written(
    command: Run, clip: Path, results: Path, name: str, label: str, flags: list[str]
) -> None:
    file = results / name
    file.write_text("{}" if "--config" in flags else (clip.parent / "det.txt").read_text())
    before = contents(results, clip.parent)
    flags = [flag.replace("{file}", str(file)).replace("{source}", str(clip)) for flag in flags]
    for more in ([], ["--overwrite"]):
        refused(command.track(clip, results, *flags, *more), f"overwrite its own {label}")
    assert contents(results, clip.parent) == before


def test_a_gallery_s_folder_takes_no_results(command: Run, clip: Path, tmp_path: Path) -> None:
    arguments = ["track", clip, "--gallery", tmp_path / "people", "-o", tmp_path / "people" / "crops"]
    refused(command(*arguments, "--overwrite"), "overwrite its own gallery")
    assert not (tmp_path / "people").exists()


def test_a_folder_of_pictures_is_not_written_over(command: Run, tmp_path: Path) -> None:
    folder = tmp_path / "gt"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((64, 64, 3), np.uint8))
    (folder / "gt.txt").write_text("1,1,0,0,9,9,1\n")
    boxes = tmp_path / "det.txt"
    boxes.write_text("1,-1,0,0,20,60,0.9\n")
    arguments = ["track", folder, "--detections", boxes, "--no-appearance", "--mot", "-o", folder, "--overwrite"]
    refused(command(*arguments), "gt.txt", "source")
    # A new name beside the pictures takes nothing from anybody, and again it is ours.
    moved = folder.rename(tmp_path / "frames")
    arguments = ["track", moved, "--detections", boxes, "--no-appearance", "--mot", "-o", moved]
    assert command(*arguments)[0] == command(*arguments)[0] == 0
    assert (moved / "gt.txt").read_text() == "1,1,0,0,9,9,1\n"


def test_the_state_may_be_named_twice_to_go_on_from_video_to_video(command: Run, clip: Path, results: Path) -> None:
    state = results / "people.state"
    assert command.track(clip, results, "--mot", "--save-state", state)[0] == 0
    copy = results / "copy.state"
    copy.write_bytes(state.read_bytes())
    for each in (state, copy):
        assert command.track(clip, results, "--mot", "--resume", each, "--save-state", each)[0] == 0
    refused(command.track(clip, results, "--mot", "--save-state", results / "day.txt"), "name them apart")


# --- what this program did not write ---


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("day.mp4", ["--video"]),
        ("day.txt", ["--mot"]),
        ("day.jsonl", ["--jsonl"]),
        ("day_counts.json", ["--line", "gate=80,0 80,120"]),
        ("day_crops/000001/000001.jpg", ["--crops"]),
        ("day_refined.txt", ["--mot", "--refine"]),
        ("people.state", ["--save-state", "{results}/people.state"]),
    ],
)
def test_a_file_of_the_user_s_stays(command: Run, clip: Path, results: Path, name: str, flags: list[str]) -> None:
    file = results / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"mine")
    flags = [flag.replace("{results}", str(results)) for flag in flags]
    refused(command.track(clip, results, *flags), name.partition("/")[0], "was not written by this program", "--overw")
    assert contents(results) == {file: b"mine"}
    assert command.track(clip, results, *flags, "--overwrite")[0] == 0
    assert not file.exists() or file.read_bytes() != b"mine"


def test_a_photographer_s_mp4_beside_the_mov_stays(command: Run, tmp_path: Path) -> None:
    camera = make_clip(tmp_path / "IMG_0001.MOV")
    own = make_clip(tmp_path / "IMG_0001.mp4", shade=90)
    content = own.read_bytes()
    refused(command.track(camera, tmp_path, "--video"), "IMG_0001.mp4", "--overwrite")
    assert own.read_bytes() == content


def test_a_result_that_somebody_changed_is_theirs(command: Run, clip: Path, results: Path) -> None:
    flags = ["--mot", "--crops", "--set", "tracker.confirm_sightings=1"]
    assert command.track(clip, results, *flags)[0] == 0
    assert command.track(clip, results, *flags)[0] == 0
    crop = next((results / "day_crops").rglob("*.jpg"))
    crop.unlink()  # somebody looked them over
    refused(command.track(clip, results, *flags), "day_crops", "--overwrite")
    (results / "day.txt").write_text("1,1,0,0,9,9,1,-1,-1,-1\n")
    refused(command.track(clip, results, "--mot"), "day.txt", "--overwrite")
    assert command.track(clip, results, *flags, "--overwrite")[0] == 0 and last_frame(results / "day.txt") == FRAMES


def test_results_of_another_video_of_that_name_stay(command: Run, clip: Path, results: Path, tmp_path: Path) -> None:
    assert command.track(clip, results, "--mot")[0] == 0
    other = make_clip(tmp_path / "other" / "day.mp4", shade=120)
    before = contents(results)
    refused(command.track(other, results, "--mot"), "day.txt", "results of something else")
    assert contents(results) == before
    # A video that only moved is the same.
    moved = clip.rename(tmp_path / "day.mp4")
    (tmp_path / "det.txt").write_text((clip.parent / "det.txt").read_text())
    assert command.track(moved, results, "--mot")[0] == 0


# --- results stay whole ---


def test_the_same_command_again_replaces_its_results(command: Run, clip: Path, results: Path) -> None:
    flags = ["--mot", "--jsonl", "--video", "--crops", "--refine", "--line", "gate=80,0 80,120"]
    assert command.track(clip, results, *flags)[0] == 0
    names = {path.name for path in contents(results)}
    first = (results / "day.txt").read_bytes()
    assert command.track(clip, results, *flags, "--end", 20)[0] == 0
    assert last_frame(results / "day.txt") == last_frame(results / "day_refined.txt") == 20
    assert command.track(clip, results, *flags)[0] == 0
    assert (results / "day.txt").read_bytes() == first and {path.name for path in contents(results)} == names


def test_crops_of_two_runs_are_not_mixed(command: Run, clip: Path, results: Path) -> None:
    assert command.track(clip, results, "--crops")[0] == 0
    assert command.track(clip, results, "--crops", "--start", 11)[0] == 0
    frames = sorted(int(path.stem) for path in (results / "day_crops").rglob("*.jpg"))
    assert frames and frames[0] > 10
    assert not [path for path in results.rglob("*") if "part" in path.name or path.suffix == ".old"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("The camera fell down.")], ids=["Ctrl-C", "error"])
def test_a_run_that_breaks_off_leaves_the_old_results_whole(
    command: Run, clip: Path, results: Path, error: BaseException
) -> None:
    flags = ["--mot", "--video", "--crops"]
    assert command.track(clip, results, *flags)[0] == 0
    before = contents(results)
    broken = command.breaking(5, error)
    status, _, said = command.track(clip, results, *flags)
    broken.undo()
    assert status == (130 if isinstance(error, KeyboardInterrupt) else 2)
    after = contents(results)
    assert {path: after[path] for path in before} == before
    text, film = results / "day.part.txt", results / "day.part.mp4"
    assert str(text) in said and str(film) in said and "stay as they were" in said
    assert last_frame(text) == len(list(open_source(film))) == 5
    assert command.track(clip, results, *flags)[0] == 0
    assert contents(results).keys() == before.keys()


def test_a_killed_run_keeps_what_it_did_and_stands_in_nobody_s_way(command: Run, clip: Path, results: Path) -> None:
    fixed = ["--detections", clip.parent / "det.txt", "--no-appearance", "--no-camera-motion", "-o", results, "--mot"]
    process = start("track", clip, *fixed, seconds=0.1)
    wait_for(lambda: (results / "day.txt").exists() and (results / "day.txt").stat().st_size > 100)
    process.kill()
    process.communicate()
    assert 0 < last_frame(results / "day.txt") < FRAMES
    assert command.track(clip, results, "--mot")[0] == 0 and last_frame(results / "day.txt") == FRAMES
    assert not list((results / ".reid_tracker").glob("*-*.lock"))


DIES_AS_IT_BEGINS = """
import os, signal, sys
from pathlib import Path
from reid_tracker import ownership

make, output = ownership.make_empty, Path(sys.argv[1])

def make_and_die(path, private):
    make(path, private)
    os.kill(os.getpid(), signal.SIGKILL)

ownership.make_empty = make_and_die
with ownership.claim([output], of=["day"]) as claimed:
    claimed.begin(output)
"""


def test_a_run_killed_while_it_made_a_file_stands_in_nobody_s_way(tmp_path: Path) -> None:
    output = tmp_path / "day.txt"
    for _ in range(2):  # the second one makes day.part.txt
        done = subprocess.run([sys.executable, "-c", DIES_AS_IT_BEGINS, str(output)])
        assert done.returncode == -signal.SIGKILL and output.read_bytes() == b""
    with claim([output], of=["day"]) as claimed:
        claimed.begin(output).write_text("whole")
        claimed.complete()
    assert output.read_text() == "whole"


def test_what_a_killed_run_was_writing_anew_goes_and_a_living_one_s_stays(tmp_path: Path) -> None:
    one, other, third = (tmp_path / f"{name}.txt" for name in ("one", "other", "third"))
    with claim([one]) as claimed:
        claimed.begin(one).write_text("a\n")
        with claimed.renewed(one) as fresh:
            fresh.write_text("b\n")
            of_the_killed = tmp_path / FOLDER / "0123456789abcdef0123456789abcdef-01234567.new"
            of_the_killed.write_text("half")
            parts = of_the_killed.with_name("0123456789abcdef0123456789abcdef-01234567abc.new")
            parts.mkdir()
            (parts / "0.mp4").write_text("half")
            with claim([other]):
                assert not of_the_killed.exists() and not parts.exists() and fresh.read_text() == "b\n"
        claimed.complete()
    assert one.read_text() == "b\n"
    with claim([third]) as claimed:
        claimed.begin(third).write_text("a\n")
        with pytest.raises(UserError, match="no"), claimed.renewed(third) as fresh:
            fresh.write_text("b\n")
            raise UserError("no")
        claimed.complete()
    assert third.read_text() == "a\n" and not list((tmp_path / FOLDER).glob("*.new"))


def test_what_is_put_where_a_killed_run_began_is_the_user_s(tmp_path: Path) -> None:
    output = tmp_path / "day.txt"
    subprocess.run([sys.executable, "-c", DIES_AS_IT_BEGINS, str(output)])
    output.unlink()
    output.write_text("mine")
    with pytest.raises(UserError, match="was not written by this program"), claim([output], of=["day"]):
        pass
    assert output.read_text() == "mine"


def test_two_runs_do_not_share_a_name(command: Run, clip: Path, results: Path) -> None:
    fixed = ["--detections", clip.parent / "det.txt", "--no-appearance", "--no-camera-motion", "-o", results]
    process = start("track", clip, *fixed, "--mot", "--jsonl", seconds=0.15)
    wait_for(lambda: (results / "day.jsonl").exists() and (results / "day.jsonl").stat().st_size > 0)
    for flags in (["--mot"], ["--mot", "--overwrite"]):
        refused(command.track(clip, results, *flags), "day.txt", "another run is writing it")
    # Another name in the folder is free meanwhile.
    other = make_clip(clip.with_name("night.mp4"), frames=5)
    assert command.track(other, results, "--mot")[0] == 0
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said and process.returncode == 130
    lines = (results / "day.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(len(lines)))
    assert command.track(clip, results, "--mot")[0] == 0


def test_many_claims_at_once_give_each_name_to_one(tmp_path: Path) -> None:
    owned, refusals = [], []

    def work() -> None:
        try:
            with claim([tmp_path / "new" / "a.txt"]) as claimed:
                owned.append(claimed)
                everybody.wait(30)
        except UserError as error:
            refusals.append(str(error))
            everybody.wait(30)

    everybody = threading.Barrier(8)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(owned) == 1 and len(refusals) == 7 and all("another run" in each for each in refusals)


def test_looked_back_results_and_a_video_of_that_name_are_told_apart(command: Run, clip: Path, results: Path) -> None:
    other = clip.with_name("day_refined.mp4")
    make_clip(other, frames=12)
    make_clip(clip)  # with the boxes of all frames
    status, out, _ = command.track(clip, results, other, "--detections", boxes_of(clip, other), "--mot", "--refine")
    assert status == 0, out
    held = {path.name: last_frame(path) for path in results.glob("*.txt")}
    assert held == {
        "day.txt": FRAMES,
        "day_refined.txt": FRAMES,
        "day_refined-2.txt": 12,
        "day_refined-2_refined.txt": 12,
    }


def test_names_that_differ_in_case_only_are_told_apart(command: Run, clip: Path, results: Path) -> None:
    other = make_clip(clip.with_name("Day.mp4"))
    assert command.track(clip, results, other, "--detections", boxes_of(clip, other), "--mot")[0] == 0
    assert {path.name for path in results.glob("*.txt")} == {"day.txt", "Day-2.txt"}


def test_a_folder_taken_away_meanwhile_is_noticed(clip: Path, tmp_path: Path) -> None:
    config = load(TrackConfig, None, {"output.folder": str(tmp_path / "out"), "output.mot": True})
    config.detector.recorded, config.embedder.enabled = str(clip.parent / "det.txt"), False
    with pytest.raises(UserError, match=r"day\.txt: was moved or deleted"):
        track(clip, config, progress=lambda _, done: done == 5 and (tmp_path / "out").rename(tmp_path / "gone"))


def test_a_refused_run_leaves_nothing_behind(command: Run, clip: Path, tmp_path: Path) -> None:
    broken = command.breaking(0, UserError("The camera fell down."))
    refused(command.track(clip, tmp_path / "new" / "out", "--mot", "--video", "--crops"), "fell down")
    broken.undo()
    assert not (tmp_path / "new").exists()


def test_help_says_what_a_second_run_does(command: Run) -> None:
    replacing = (["track"], ["train"], ["export"], ["export-crops"], ["demo"])
    measuring = (["evaluate", each] for each in ("mot", "reid", "robustness"))
    for name in (*replacing, *measuring, ["live"]):
        text = " ".join(command(*name, "--help")[1].split())
        assert "Run again" in text or "second run" in text or "already" in text
        assert "--overwrite" in text or name == ["live"]


# --- the other commands ---


def test_recordings_take_no_name_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracking_world import detections, person

    from reid_tracker.video.frames import Frame
    from reid_tracker.video.sinks import FrameResult

    monkeypatch.setattr(time, "strftime", lambda *_: "20300101-000000")
    own = tmp_path / "cam-20300101-000000.mp4"
    own.write_bytes(b"mine")
    tracks = detections([person(10, 20)])
    tracks.tracker_id, tracks.data["tracklet"] = np.array([4]), np.array([4])
    recorders = [Recorder(LiveOutputSettings(record=str(tmp_path)), name) for name in ("cam", "/cam")]
    for index in range(3):
        for each in recorders:
            each.write(FrameResult(Frame(np.zeros((64, 64, 3), np.uint8), index, 0.1 * index), tracks, tracks))
    for each in recorders:
        each.close()
    assert own.read_bytes() == b"mine"
    made = sorted(path.name for path in tmp_path.iterdir() if path != own)
    assert made == ["cam-20300101-000000-2.mp4", "cam-20300101-000000-3.mp4"]
    assert all(len(list(open_source(tmp_path / name))) == 3 for name in made)


def figures_of(command: Run, clip: Path, results: Path, *flags: object) -> tuple[int, str, str]:
    truth = clip.parent / "truth" / "day"
    if not truth.exists():
        (truth / "gt").mkdir(parents=True)
        info = f"[Sequence]\nname=day\nframeRate=10\nseqLength={FRAMES}\nimWidth=160\nimHeight=120\n"
        (truth / "seqinfo.ini").write_text(info)
        rows = (f"{n},1,{3 * (n - 1)},30,20,60,1,-1,-1,-1\n" for n in range(1, FRAMES + 1))
        (truth / "gt" / "gt.txt").write_text("".join(rows))
    return command("evaluate", "mot", "--truth", truth.parent, "--results", results, *flags)


def test_figures_replace_figures_and_nothing_else(command: Run, clip: Path, results: Path) -> None:
    assert command.track(clip, results, "--mot")[0] == 0
    truth = clip.parent / "truth" / "day" / "gt" / "gt.txt"
    for _ in range(2):
        assert figures_of(command, clip, results, "--json", results / "f.json", "--csv", results / "f.csv")[0] == 0
    (results / "own.json").write_text("mine")
    before = contents(results, truth.parent)
    refused(figures_of(command, clip, results, "--json", results / "own.json"), "own.json", "--overwrite")
    refused(figures_of(command, clip, results, "--csv", truth, "--overwrite"), "gt.txt", "truth")
    refused(figures_of(command, clip, results, "--csv", results / "day.txt", "--overwrite"), "day.txt", "results")
    refused(figures_of(command, clip, results, "--csv", results / "F", "--json", results / "f"), "two results")
    assert contents(results, truth.parent) == before
    assert figures_of(command, clip, results, "--json", os.devnull)[0] == 0
    assert not Path(os.devnull).is_file()


def test_an_export_replaces_an_export_and_nothing_else(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reid_tracker.appearance import export

    def convert(checkpoint, output, format, int8, data, place):
        for suffix in (".bin", ".xml"):
            place(output.with_suffix(suffix)).write_bytes(b"exported")
        return output

    monkeypatch.setattr(export, "convert_model", convert)
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"weights")
    arguments = ["export", model, "--format", "openvino", "-o", tmp_path / "small.xml"]
    assert command(*arguments)[0] == command(*arguments)[0] == 0
    (tmp_path / "own.bin").write_bytes(b"mine")
    refused(command(*arguments[:-1], tmp_path / "own.xml"), "own.bin", "--overwrite")
    assert (tmp_path / "own.bin").read_bytes() == b"mine" and not (tmp_path / "own.xml").exists()
    linked = tmp_path / "linked.bin"
    os.link(model, linked)
    refused(command(*arguments[:-1], tmp_path / "linked.xml", "--overwrite"), "checkpoint")
    assert model.read_bytes() == b"weights"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Four people as plain folders."""
    random = np.random.default_rng(0)
    for identity in range(4):
        folder = tmp_path / "people" / f"p{identity}"
        folder.mkdir(parents=True)
        for number in range(4):
            image = np.full((64, 32, 3), 60 * identity, np.uint8) + random.integers(0, 40, (64, 32, 3), np.uint8)
            cv2.imwrite(str(folder / f"{number}.jpg"), image)
    return tmp_path / "people"


SMALL = ["network.backbone=mobilenet_v3_small", "network.dimension=16", "network.input_size=[32, 16]"]
SMALL += ["batch.people=2", "batch.images=2", "schedule.validation_identities=0", "schedule.epochs=2"]
SMALL += ["compute.precision=float32", "compute.threads=1"]
FLAGS = [word for setting in SMALL for word in ("--set", setting)]


def test_train_keeps_a_model_until_another_one_is_whole(
    command: Run, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reid_tracker.training.trainer import Trainer

    model = tmp_path / "model" / "appearance.safetensors"
    train = ["train", people, "-o", model.parent, *FLAGS]
    assert command(*train)[0] == 0
    first = model.read_bytes()
    refused(command(*train), "appearance.safetensors", "--resume", "--overwrite")
    assert model.read_bytes() == first and command(*train, "--resume")[0] == 0
    first = model.read_bytes()

    epoch = Trainer._train_epoch

    def interrupt(self, progress):
        if self.epoch == 1:
            raise KeyboardInterrupt
        return epoch(self, progress)

    other = [*train, "--set", "compute.seed=1"]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupt)
        status, _, said = command(*other, "--overwrite")
    assert status == 130 and "goes on after the last whole epoch" in said
    assert model.read_bytes() == first and model.with_name("appearance.part.safetensors").is_file()
    assert command(*other, "--resume")[0] == 0
    assert model.read_bytes() != first and not model.with_name("appearance.part.safetensors").exists()
    refused(command(*train, "--overwrite", "--start", model), "overwrite its own start")


def test_two_trainings_do_not_share_a_folder(command: Run, people: Path, tmp_path: Path) -> None:
    with claim([tmp_path / "model" / "appearance.safetensors"]):
        refused(command("train", people, "-o", tmp_path / "model", *FLAGS), "another run is writing it")
    assert not (tmp_path / "model").exists()


def test_train_leaves_files_of_the_user_s_alone(command: Run, people: Path, tmp_path: Path) -> None:
    for name in ("last.pt", "teacher.npz", "appearance.safetensors"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        refused(command("train", people, "-o", folder, *FLAGS), name, "--overwrite")
        assert contents(folder) == {folder / name: b"mine"}
    (folder := tmp_path / "empty").mkdir()
    (folder / "mixtures.npz").touch()
    refused(command("train", people, "-o", folder, *FLAGS), "mixtures.npz", "--overwrite")


def test_a_set_of_crops_gets_no_file_twice(command: Run, clip: Path, tmp_path: Path) -> None:
    results, crops = clip.with_suffix(".txt"), tmp_path / "crops"
    results.write_text("".join(f"{n},1,{3 * (n - 1)},30,20,60,0.9,-1,-1,-1\n" for n in range(1, FRAMES + 1)))
    export = ["export-crops", results, clip, "-o", crops, "--per-identity", 1]
    own = crops / "000001"
    own.mkdir(parents=True)
    for number in range(1, FRAMES + 1):
        (own / f"day_{number:06}.jpg").write_bytes(b"mine")
    before = contents(crops)
    refused(command(*export), "is there already", "crops.csv")
    assert contents(crops) == before
    for path in before:
        path.unlink()
    assert command(*export)[0] == 0
    refused(command(*export), "already", "--overwrite")
    (made,) = crops.rglob("*.jpg")
    assert command(*export[:-1], 2, "--overwrite")[0] == 0
    listed = (crops / "crops.csv").read_text().splitlines()[1:]
    assert len(listed) == len(list(crops.rglob("*.jpg"))) == 2, made
    # A video whose name only begins like another one's is another video.
    shorter = clip.rename(clip.with_name("da.mp4"))
    assert command("export-crops", results, shorter, *export[3:])[0] == 0
    review = crops / "crops.csv"
    refused(command(*export, "--review", review, "--overwrite"), "its own review")


def test_the_demo_s_folder_keeps_what_is_not_the_demo_s(command: Run, tmp_path: Path) -> None:
    own = tmp_path / "demo" / "clip" / "gt" / "gt.txt"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    refused(command("demo", "-o", tmp_path / "demo"), "clip", "--overwrite")
    assert own.read_bytes() == b"mine"


def wait_for(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("private", [True, False])
def test_results_that_show_people_are_their_owners_alone(
    command: Run, clip: Path, tmp_path: Path, private: bool
) -> None:
    """Unless others may read them: then as the umask says."""
    out = tmp_path / "out"
    wanted = ["--video", "--mot", "--jsonl", "--parquet", "--crops", "--report", "--save-state", out / "state"]
    wanted += ["--zone", "a=0,0 90,0 90,90"]
    for _ in range(2):  # the second run replaces the first one's
        status, _, error = command.track(clip, out, *wanted, "--set", f"output.private={str(private).lower()}")
        assert status == 0, error
        made = [each for each in out.rglob("*") if FOLDER not in each.parts]
        assert len(made) >= 12
        others = {each.stat().st_mode & 0o077 for each in made}
        assert (others == {0}) == private


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("The disk is full.")], ids=["Ctrl-C", "error"])
def test_so_are_those_of_a_run_that_ends_early(command: Run, clip: Path, tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "out"
    wanted = ["--video", "--mot", "--jsonl", "--parquet", "--crops", "--report", "--zone", "a=0,0 90,0 90,90"]
    for _ in range(2):  # the second run's lie beside the first one's
        broken = command.breaking(20, error)
        status, _, said = command.track(clip, out, *wanted)
        broken.undo()
        assert status == (130 if isinstance(error, KeyboardInterrupt) else 2), said
        made = [each for each in out.rglob("*") if FOLDER not in each.parts]
        assert {"day.mp4", "day.parquet", "day_people.csv", "day_report.html"} <= {each.name for each in made}
        assert {each.name for each in made if each.stat().st_mode & 0o077} == set()
