"""The command line as a user calls it."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import av
import cv2
import numpy as np
import pytest

from reid_tracker.cli import main
from reid_tracker.config import LiveConfig, TrackConfig
from reid_tracker.errors import UserError
from reid_tracker.motchallenge import read_rows
from reid_tracker.video.sources import open_source
from reid_tracker.writing import write_whole

DETECTION = "{},-1,{},30,20,60,0.9\n"


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the command line in this process; its exit status, standard output and standard error."""

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reid-tracker", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Forty frames of a moving square, and its boxes."""
    folder = tmp_path_factory.mktemp("clip")
    with av.open(str(folder / "walk.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for index in range(40):
            image = np.random.default_rng(index).integers(0, 60, (120, 160, 3), dtype=np.uint8)
            image[30:90, 3 * index : 3 * index + 20] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    (folder / "det.txt").write_text("".join(DETECTION.format(n, 3 * (n - 1)) for n in range(1, 41)))
    return folder / "walk.mp4"


@pytest.fixture
def arguments(clip, tmp_path):
    return ["--detections", clip.with_name("det.txt"), "--no-appearance", "-o", tmp_path / "out"]


def refused(result, *words: str) -> None:
    """A user's mistake: status 2, one sentence with these words, no traceback."""
    status, _, error = result
    assert status == 2, error
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    for word in words:
        assert word in lines[0], lines[0]


def test_track_then_evaluate(run, clip, arguments, tmp_path):
    status, out, _ = run("track", clip, *arguments)
    assert status == 0
    assert re.search(r"walk\s+40\s+1\s+[\d.]+", out)
    assert str(tmp_path / "out" / "walk.mp4") in out and str(tmp_path / "out" / "walk.txt") in out

    truth = tmp_path / "truth" / "walk"
    (truth / "gt").mkdir(parents=True)
    (truth / "seqinfo.ini").write_text("[Sequence]\nname=walk\nframeRate=10\nseqLength=40\nimWidth=160\nimHeight=120\n")
    (truth / "gt" / "gt.txt").write_text("".join(f"{n},1,{3 * (n - 1)},30,20,60,1,-1,-1,-1\n" for n in range(1, 41)))
    told = ["--truth", truth.parent, "--results", tmp_path / "out"]
    status, out, _ = run("evaluate", "mot", *told, "--json", tmp_path / "f.json", "--csv", tmp_path / "f.csv")
    assert status == 0 and "100.00" in out and "COMBINED_SEQ" in out
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["walk"]["HOTA"] == figures["COMBINED_SEQ"]["IDF1"] == pytest.approx(1)
    assert (tmp_path / "f.csv").read_text().count("\n") == 3
    other = tmp_path / "other"
    other.mkdir()
    for each in told[3].glob("*.txt"):
        (other / each.name).write_text("")
    status, out, _ = run("evaluate", "mot", *told, "--results", other, "--json", tmp_path / "both.json")
    assert status == 0 and [line.split()[0] for line in out.splitlines() if "." in line] == ["out", "other"]
    both = json.loads((tmp_path / "both.json").read_text())
    assert both["other/COMBINED_SEQ"]["HOTA"] == 0 < both["out/COMBINED_SEQ"]["HOTA"]
    status, out, _ = run("evaluate", "mot", *told, "--engine", "motmetrics")
    assert status == 0 and "HOTA" not in out and "100.00" in out


def test_settings_file_and_flags(run, clip, arguments, tmp_path):
    settings = tmp_path / "my.yaml"
    settings.write_text("tracker: {confirm_sightings: 60}\noutput: {jsonl: true}\n")
    assert run("track", clip, *arguments, "--config", settings, "--mot", "--end", "20")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["walk.jsonl", "walk.txt"]
    assert read_rows(tmp_path / "out" / "walk.txt")[:, 0].max() == 20
    assert run("track", clip, *arguments, "--set", "tracker.high_confidence=0.95", "--mot")[0] == 0
    refused(run("track", clip, *arguments, "--set", "tracker.lost_second=3"), "tracker.lost_second", "did you mean")
    refused(run("track", clip, *arguments, "--set", "lost"), "NAME=VALUE")
    refused(run("track", clip, *arguments, "--stride", "0"), "source.stride")


def test_config_writes_what_track_reads(run, tmp_path):
    assert run("config", "track", "-o", tmp_path / "track.yaml")[0] == 0
    assert (tmp_path / "track.yaml").read_text() == run("config")[1]
    refused(run("config", "track", "-o", tmp_path / "track.yaml"), "track.yaml", "cannot be written")
    refused(run("config", "nothing"), "nothing", "track")


def test_blurring_changes_the_people_and_nothing_else(run, arguments, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    chessboard = np.kron(np.indices((30, 40)).sum(axis=0) % 2, np.full((4, 4), 200)).astype(np.uint8)
    for number in range(1, 6):
        cv2.imwrite(str(frames / f"{number}.png"), np.repeat(chessboard[:, :, None], 3, axis=2))

    def contrast(*flags):
        """In the middle of the first box, and far from all boxes."""
        more = ["--fps", "5", "--video", "--set", "output.trail_seconds=0", *flags]
        assert run("track", frames, *arguments, *more)[0] == 0
        with av.open(str(tmp_path / "out" / "frames.mp4")) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="gray").astype(float)
        return picture[56:72, 6:16].std(), picture[:, 80:].std()

    sharp, blurred = contrast(), contrast("--blur-people")
    assert blurred[0] < sharp[0] / 3
    assert blurred[1] == pytest.approx(sharp[1], rel=0.05)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing.mp4", ["missing.mp4"]),
        (lambda folder: folder / "*.mkv", ["*.mkv"]),
        (lambda folder: write(folder / "text.mp4", b"this is no video"), ["text.mp4"]),
        (lambda folder: write(folder / "empty.mp4", b""), ["empty.mp4"]),
        (lambda folder: folder, ["no pictures"]),
    ],
    ids=["missing file", "glob of nothing", "not a video", "zero bytes", "empty folder"],
)
def test_bad_sources(run, arguments, tmp_path, make, words):
    folder = tmp_path / "in"
    folder.mkdir()
    refused(run("track", make(folder), *arguments), *words)
    assert not (tmp_path / "out").exists()


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--detector", "missing.pt"], ["missing.pt"]),
        (["--detector", "folder/missing.pt"], ["folder/missing.pt", "no such"]),
        (["--detections", "missing.txt"], ["missing.txt", "no such file"]),
        (["--detections", "{det}", "--embedder", "missing.safetensors"], ["missing.safetensors"]),
        (["--detections", "{det}", "--device", "cuda:99"], ["cuda:99"]),
        (["--detections", "{det}", "--start", "30", "--end", "10"], ["start", "end"]),
        (["--detections", "{det}", "--start", "1000"], ["walk"]),
        (["--detections", "{det}", "--start", "soon"], ["soon"]),
        (["--detections", "{det}", "--fps", "0"], ["source.fps"]),
        (["--detections", "{det}", "--fps", "1e-300"], ["source.fps", "0.001"]),
        (["--detections", "{det}", "--stride", "9" * 30], ["source.stride", "10000000"]),
        (["--detections", "{det}", "--roi", "1,2"], ["polygon"]),
        (["--detections", "{det}", "--roi", "0,0 1e300,0 0,9"], ["roi", "outside of any picture"]),
        (["--detections", "{det}", "--line", "door=1,2"], ["line '1,2'", "two points"]),
        (["--detections", "{det}", "--no-appearance", "--resume", "{det}"], ["det.txt", "not a readable state"]),
        (["--detections", "{det}", "--save-state", "{det}/folder/state"], ["folder/state", "det.txt: Not a directory"]),
        (["--detections", "{det}", "--save-state", "."], ["is a folder"]),
        (["--detections", "{det}", "--save-state", "/proc/state"], ["/proc/state", "cannot be written"]),
        (["--detections", "{det}", "--conf", "7"], ["detector.confidence"]),
        (["--detections", "{det}", "--no-appearance", "--embedder", "mine.onnx"], ["appearance is off", "choose one"]),
        (["--detections", "{det}", "--retention", "3"], ["A retention is for people in a gallery", "--gallery"]),
        (["--detections", "{det}", "--config", "missing.yaml"], ["missing.yaml"]),
        (["--detections", "{det}", "--no-appearance", "-o", "{det}/inside"], ["det.txt"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_flags(run, clip, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    flags = [flag.replace("{det}", str(clip.with_name("det.txt"))) for flag in flags]
    refused(run("track", clip, *flags), *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "mot", "--truth", "none", "--results", "none", "--json", "{det}/f"],
        ["evaluate", "mot", "--truth", "none", "--results", "none", "--csv", "{det}/f"],
        ["evaluate", "reid", "--data", "none", "--json", "{det}/f"],
        ["evaluate", "reid", "--data", "none", "--map", "{det}/f.png"],
        ["evaluate", "robustness", "none", "--plot", "{det}/f"],
        ["train", "none", "-o", "{det}"],
        ["export", "none", "-o", "{det}/f"],
        ["export-crops", "none", "none", "-o", "{det}"],
    ],
    ids=" ".join,
)
def test_a_place_that_takes_no_file_is_refused_before_the_work(run, clip, command):
    file = str(clip.with_name("det.txt"))
    refused(run(*(word.replace("{det}", file) for word in command)), f"({file}: Not a directory)")


LONG = 300 * "x"


@pytest.mark.parametrize(
    "command",
    [
        ["track", "{clip}", "--detections", "{det}", "--no-appearance", "-o", LONG],
        ["track", "{clip}", "--detections", "{det}", "--no-appearance", "--save-state", LONG],
        ["track", LONG, "--detections", "{det}"],
        ["track", "{clip}", "--detections", LONG],
        ["track", "{clip}", "--detections", "{det}", "--places", LONG],
        ["convert", "{det}", "--to", "csv", "-o", LONG],
        ["convert", LONG, "--to", "csv", "-o", "a.csv"],
        ["report", "{det}", "--fps", "10", "-o", LONG],
        ["evaluate", "mot", "--truth", "none", "--results", "none", "--json", LONG],
        ["evaluate", "reid", "--data", LONG],
        ["export-crops", "{det}", "{clip}", "-o", LONG],
        ["train", "none", "-o", LONG],
        ["gallery", "list", "--gallery", LONG],
        ["places", "{clip}", "-o", LONG, "--preview", "a.png"],
    ],
    ids=lambda command: " ".join(command).replace(LONG, "LONG"),
)
def test_a_name_that_no_file_has_is_one_sentence(run, clip, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    given = {"{clip}": clip, "{det}": clip.with_name("det.txt")}
    refused(run(*(given.get(word, word) for word in command)), LONG)
    assert {path.name for path in tmp_path.iterdir()} <= {"in", clip.name, "det.txt"}


def test_a_python_program_learns_of_it_too(tmp_path):
    for name in (LONG, "a\0b"):
        with pytest.raises(UserError, match="no file can have this name"):
            write_whole(tmp_path / name, b"")


def test_a_video_damaged_half_way_keeps_what_could_be_read(run, clip, arguments, tmp_path):
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat") + 4
    middle = start + (len(content) - start) // 2
    content[middle : middle + 400] = os.urandom(400)
    damaged = write(tmp_path / "damaged.mp4", bytes(content))
    status, out, _ = run("track", damaged, *arguments, "--mot", "--jsonl")
    frames = [json.loads(line)["index"] for line in (tmp_path / "out" / "damaged.jsonl").read_text().splitlines()]
    assert status == 0 and len(frames) >= 10
    assert len(frames) == 40 or "damaged" in out


def test_a_truncated_video_says_up_to_which_frame(run, clip, arguments, tmp_path):
    # Remuxed with the index first, as cameras and downloads leave it, then cut.
    with (
        av.open(str(clip)) as source,
        av.open(str(tmp_path / "whole.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    content = (tmp_path / "whole.mp4").read_bytes()
    cut = write(tmp_path / "cut.mp4", content[: len(content) * 2 // 3])
    status, out, _ = run("track", cut, *arguments, "--mot")
    last = int(read_rows(tmp_path / "out" / "cut.txt")[:, 0].max())
    assert status == 0 and 10 < last < 40 and re.search(rf"after frame {last}\b", out), out


def test_detections_of_one_video_are_not_taken_for_another_s(run, clip, arguments, tmp_path):
    other = write(tmp_path / "yard.mp4", clip.read_bytes())
    refused(run("track", clip, other, *arguments), "det.txt", "those of one video", "{name}")
    beside = ["--detections", tmp_path / "{name}.txt", *arguments[2:], "--mot"]
    for name, frames in (("walk", 40), ("yard", 43)):
        write(tmp_path / f"{name}.txt", "".join(DETECTION.format(n, 3 * n) for n in range(1, frames + 1)).encode())
    told = "its detections go on to frame 43, which yard does not have"
    status, out, _ = run("track", clip, other, *beside)
    assert status == 0 and out.count("go on to") == 1 and told in " ".join(out.split())
    assert "go on to" in run("track", other, *beside, "--stride", "3")[1]
    for part in (["--end", "20"], ["--stride", "9"]):  # the video may hold the frames that were not read
        status, out, _ = run("track", other, *beside, *part)
        assert status == 0 and "go on to" not in out


def test_detections_that_are_none(run, clip, arguments, tmp_path):
    empty = write(tmp_path / "empty.txt", b"")
    assert run("track", clip, "--detections", empty, "-o", tmp_path / "out", "--no-appearance")[0] == 0
    assert (tmp_path / "out" / "walk.txt").read_text() == ""
    odd = "1,-1,nan,30,20,60,0.9\n2,-1,5,30,-4,60,0.9\n3,-1,900,900,20,60,0.9\n3,-1,-50,-50,20,20,0.9\n"
    strange = write(tmp_path / "strange.txt", odd.encode())
    assert run("track", clip, "--detections", strange, "-o", tmp_path / "out", "--no-appearance")[0] == 0
    refused(run("track", clip, "--detections", write(tmp_path / "bad.txt", b"a,b,c\n"), *arguments[2:]), "bad.txt")


def test_vectors_that_change_their_length_are_refused(run, clip, tmp_path):
    arrays = {"frame": np.array([1, 2]), "xyxy": np.array([[0, 0, 9, 9]] * 2), "confidence": np.ones(2)}
    np.savez(tmp_path / "v.npz", **arrays, embedding=np.ones((3, 8)))
    refused(run("track", clip, "--detections", tmp_path / "v.npz", "-o", tmp_path / "out"), "v.npz", "embedding")


def test_a_full_disk_ends_with_the_frame_that_was_kept(clip, arguments, tmp_path):
    """A limit on file sizes stands for the full disk: writing fails half-way just the same."""
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "from reid_tracker.cli import main; main()"
    )
    command = [sys.executable, "-c", limited, "track", clip, *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    refused((done.returncode, done.stdout, done.stderr), "walk.mp4", "cannot be written", "frames up to")
    kept = int(re.search(r"frames up to (\d+)", done.stderr).group(1))
    assert read_rows(tmp_path / "out" / "walk.txt")[:, 0].max() >= kept
    assert len(list(open_source(tmp_path / "out" / "walk.mp4"))) > 0


def test_ctrl_c_says_up_to_which_frame(clip, arguments, tmp_path):
    slow = (
        "import time; from reid_tracker.detection.recorded import RecordedDetections as R; d = R.detect\n"
        "R.detect = lambda self, frame: (time.sleep(0.2), d(self, frame))[1]\n"
        "from reid_tracker.cli import main; main()"
    )
    command = [*map(str, [sys.executable, "-c", slow, "track", clip, *arguments, "--mot", "--jsonl"])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    written = tmp_path / "out" / "walk.jsonl"
    deadline = time.monotonic() + 60
    while not (written.exists() and written.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in error
    kept = int(re.search(r"walk is written up to frame (\d+)", error).group(1))
    assert len(written.read_text().splitlines()) == kept < 40


def test_ctrl_c_says_how_training_goes_on(run, monkeypatch, tmp_path):
    from reid_tracker.training.trainer import Trainer

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)
    for person in "abc":
        (tmp_path / "people" / person).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(tmp_path / "people" / person / f"{number}.jpg"), np.zeros((64, 32, 3), np.uint8))
    small = ["--set", "network.backbone=mobilenet_v3_small", "--set", "schedule.validation_identities=0"]
    status, _, error = run("train", tmp_path / "people", "-o", tmp_path / "model", *small)
    assert status == 130 and "--resume" in error and "Traceback" not in error


def test_bad_evaluation_input(run, tmp_path):
    refused(run("evaluate", "mot", "--truth", tmp_path / "no", "--results", tmp_path), "no")
    refused(run("evaluate", "mot", "--truth", tmp_path, "--results", tmp_path, "--engine", "guess"), "guess")


def test_help_is_quick_because_nothing_heavy_is_imported():
    program = (
        "import sys; sys.argv = ['reid-tracker', '--help']\n"
        "from reid_tracker.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'cv2', 'av', 'scipy', 'supervision', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]" and "track" in done.stdout


def test_the_package_imports_lazily_and_names_what_it_offers():
    program = (
        "import sys, reid_tracker; assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert all(getattr(reid_tracker, name) for name in reid_tracker.__all__)\n"
        "try: reid_tracker.nothing\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert "has no attribute 'nothing'" in done.stdout, done.stderr


def test_train_evaluate_and_track_with_one_s_own_people(run, clip, tmp_path):
    """Four people as plain folders: train, resume, measure, and use the network in track."""
    random = np.random.default_rng(0)
    lines = ["path,identity,camera,split"]
    for identity in range(4):
        folder = tmp_path / "people" / f"p{identity}"
        folder.mkdir(parents=True)
        for number in range(4):
            image = np.full((64, 32, 3), 60 * identity, dtype=np.uint8) + random.integers(0, 40, (64, 32, 3), np.uint8)
            cv2.imwrite(str(folder / f"{number}.jpg"), image)
            lines.append(f"people/p{identity}/{number}.jpg,{identity},{number % 2},{'gallery' if number else 'query'}")
    write(tmp_path / "people.csv", "\n".join(lines).encode())
    small = ["network.backbone=mobilenet_v3_small", "network.dimension=16", "network.input_size=[64, 32]"]
    small += ["batch.people=2", "batch.images=2", "schedule.validation_identities=0", "schedule.epochs=1"]
    flags = [word for setting in small for word in ("--set", setting)]
    command = ["train", tmp_path / "people", "-o", tmp_path / "model", *flags]
    status, out, error = run(*command)
    model = tmp_path / "model" / "appearance.safetensors"
    assert status == 0 and str(model) in out, error
    assert run(*command, "--resume")[0] == 0
    told = ["--data", tmp_path / "people.csv", "--model", model, "--json", tmp_path / "reid.json"]
    status, out, error = run("evaluate", "reid", *told, "--rerank")
    assert status == 0 and "4 queries, 12 in the gallery" in out, error
    assert {"rank1", "rank5", "mAP", "mINP"} <= json.loads((tmp_path / "reid.json").read_text()).keys()
    boxes = ["--detections", clip.with_name("det.txt"), "--embedder", model, "-o", tmp_path / "out", "--mot"]
    assert run("track", clip, *boxes)[0] == 0
    refused(run("train", tmp_path / "nobody", "-o", tmp_path / "model"), "nobody")
    refused(run(*command[:4], "--set", "loss.mine=x"), "loss.mine")
    refused(run("evaluate", "reid", "--data", tmp_path / "nobody"), "nobody")
    refused(run("export", tmp_path / "none.safetensors", "-o", tmp_path / "x"), "none.safetensors")


@pytest.fixture
def three_people(tmp_path):
    """A video of three people in one colour each, and what a run wrote of it: the third is seen under two numbers."""
    video, colours = tmp_path / "yard.mp4", ((40, 40, 200), (200, 40, 40), (40, 200, 40))
    rows, lines = [], []
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 120, "yuv444p"
        for index in range(40):
            image, tracks = np.full((120, 320, 3), 90, np.uint8), []
            grain = np.random.default_rng(index).integers(-30, 30, (60, 24, 1))
            for person, colour in enumerate(colours):
                left = 10 + 100 * person + index
                look = np.clip(np.array(colour) + grain, 0, 255)
                if index < 20:  # everyone is out of focus at first
                    look = cv2.blur(look.astype(np.float32), (9, 9))
                image[30:90, left : left + 24] = look
                identity = person + 1 if person < 2 or index < 30 else 9
                confidence = 0 if index == 39 else 0.9
                rows.append(f"{index + 1},{identity},{left},30,24,60,{confidence},-1,-1,-1\n")
                tracks.append({"id": identity, "xyxy": [left, 30, left + 24, 90], "confidence": confidence})
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            lines.append(json.dumps({"index": index, "timestamp": index / 10, "tracks": tracks}))
        container.mux(stream.encode(None))
    (tmp_path / "yard.txt").write_text("".join(rows))
    (tmp_path / "yard.jsonl").write_text("\n".join(lines))
    return video


def test_tracks_become_a_training_set(run, three_people, tmp_path):
    crops, results = tmp_path / "crops", three_people.with_suffix(".txt")
    write(tmp_path / "review.csv", b"identity,decision,name\n2,keep,ann\n9,merge-into 3,\n3,,bob\n")
    flags = ["--review", tmp_path / "review.csv", "--per-identity", 4, "--min-height", 50]
    status, out, error = run("export-crops", results, three_people, "-o", crops, *flags)
    assert status == 0 and "12 crops of 3 identities" in out, error
    assert {path.name for path in crops.iterdir()} == {"000001", "ann", "bob", "crops.csv"}
    frames = {name: [int(path.stem[-6:]) for path in sorted((crops / name).iterdir())] for name in ("000001", "bob")}
    for numbers in frames.values():  # one of each stretch of the walk, and of the second half only sharp ones
        assert [(number - 1) // 10 for number in numbers] == [0, 1, 2, 3] and 40 not in numbers
    picture = cv2.imread(str(next((crops / "ann").iterdir())))
    assert abs(picture.mean(axis=(0, 1)) - [200, 40, 40]).max() < 30
    # A second video of the same camera joins the set; the same one again does not.
    (tmp_path / "later.mp4").write_bytes(three_people.read_bytes())
    again = [tmp_path / "later.mp4", "-o", crops, "--per-identity", 2, "--min-height", 50, "--camera", 1]
    assert "crops of 4 identities" in run("export-crops", three_people.with_suffix(".jsonl"), *again)[1]
    strangers = {f"later_{number:06d}" for number in (1, 2, 3, 9)}  # who has number 1 here is somebody else
    assert {path.name for path in crops.iterdir()} == {"000001", "ann", "bob", "crops.csv"} | strangers
    known = run("export-crops", three_people.with_suffix(".jsonl"), *again, "--overwrite", "--same-people")
    assert "crops of 4 identities" in known[1]
    assert {path.name[:-11] for path in (crops / "000001").iterdir()} == {three_people.stem, "later"}
    refused(run("export-crops", results, three_people, "-o", crops), "already")
    small = ["network.backbone=mobilenet_v3_small", "network.dimension=16", "network.input_size=[64, 32]"]
    small += ["batch.people=2", "batch.images=2", "schedule.validation_identities=0", "schedule.epochs=1"]
    flags = [word for setting in small for word in ("--set", setting)]
    status, _, error = run("train", crops / "crops.csv", "-o", tmp_path / "model", *flags)
    assert status == 0, error
    told = ["--data", crops / "crops.csv", "--model", tmp_path / "model" / "appearance.safetensors"]
    assert run("evaluate", "reid", *told)[0] == 0


@pytest.mark.parametrize(
    ("review", "words"),
    [
        (b"identity,decision\n7,keep\n", ["no identity 7"]),
        (b"identity,decision\n1,remove\n", ["no decision"]),
        (b"number,decision\n1,keep\n", ["no decision"]),
        (b"identity,decision\n1,merge-into 2\n2,merge-into 1\n", ["circle"]),
        (b"identity,decision,name\n1,keep,../x\n", ["folder's name"]),
        (b'identity,decision,name\n1,keep,"Ann ""B"""\n', ["folder's name", "quotation marks"]),
        (b"identity,name\n2,Ann\n1,Ann\n", ["1 and 2 are both Ann", "at once in frame 1;"]),
        (b"identity,decision\n3,merge-into 1\n", ["1 and 3 are both 000001", "at once"]),
        (b"identity,decision\n1,drop\n2,drop\n3,drop\n9,merge-into 1\n", ["no one"]),
        (b"identity,name\n1," + b"x" * 200_000, ["line 2 is not of a table"]),
        (b"[" * 100_000, ["not JSON"]),
        (b'[{"identity": 1e999}]', ["no decision"]),
        (b'[{"identity": 1.5}]', ["no decision"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_review_that_contradicts_itself(run, three_people, tmp_path, review, words):
    file = write(tmp_path / ("review.json" if review.startswith(b"[") else "review.csv"), review)
    command = ["export-crops", three_people.with_suffix(".txt"), three_people, "-o", tmp_path / "crops"]
    refused(run(*command, "--review", file), *words)
    refused(run(*command[:1], tmp_path / "none.txt", *command[2:]), "none.txt")
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize("name", ["[cam1]", "[bold]", "a\udcffb", "\x1b[31mred\x07", "é日本"])
def test_any_file_name_works_and_is_shown_harmless(clip, tmp_path, name):
    """In a terminal that knows ASCII only."""
    video = tmp_path / f"{name}.mp4"
    video.write_bytes(clip.read_bytes())
    fixed = ["--detections", clip.with_name("det.txt"), "--no-appearance", "--no-camera-motion", "--mot", "--jsonl"]
    command = [sys.executable, "-m", "reid_tracker", "track", video, *fixed, "-o", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert b"\x1b[31m" not in done.stdout + done.stderr and b"\x07" not in done.stdout + done.stderr
    assert (name.strip("\x1b\x07").encode("ascii", "backslashreplace")[-4:]) in done.stdout
    assert {each.name for each in (tmp_path / "out").iterdir()} >= {f"{name}.txt", f"{name}.jsonl"}


@pytest.mark.parametrize(("command", "model"), [("track", TrackConfig), ("live", LiveConfig)])
def test_every_option_that_is_a_setting_sets_one_that_there_is(command, model):
    flags = importlib.import_module(f"reid_tracker.cli.{command}").FLAGS
    for flag in flags:
        settings = model
        *groups, name = flag.setting.split(".")
        for group in groups:
            settings = settings.model_fields[group].annotation
        assert name in settings.model_fields, flag.setting
    assert len({flag.setting for flag in flags}) == len(flags) > 8
