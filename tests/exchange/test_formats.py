"""Tracks that go to an annotation tool, and come back as they were or as somebody corrected them."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import polars
import pytest
from command_world import Run, make_clip, refused

import reid_tracker
from reid_tracker.errors import UserError
from reid_tracker.exchange.formats import Video
from reid_tracker.motchallenge import format_row, read_sequence_info

SIZE = Video("yard", 640, 480, 10.0, 40)
FILES = {"mot": "tracks.txt", "cvat": "tracks.xml", "coco": "coco.json", "label-studio": "task.json", "yolo": "labels"}


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    """A video, and a run's text: two people, one of them away in between, one box where somebody is expected."""
    clip = make_clip(tmp_path / "yard.mp4", frames=40)
    lines = []
    for frame in range(1, 31):
        lines.append(format_row(frame, 3, np.array([5 + frame, 20.5, 45 + frame, 118.25]), 0.9))
        if frame < 10 or frame > 15:
            lines.append(format_row(frame, 12, np.array([110.0, 10, 150, 80 + frame]), 0.0 if frame == 20 else 0.7))
    results = tmp_path / "yard.txt"
    results.write_text("".join(lines))
    return clip, results


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(monkeypatch, capsys)


def rows(tracks: reid_tracker.Tracks) -> np.ndarray:
    """Frame, identity and box of each, in that order."""
    table = np.column_stack([tracks.frame, tracks.identity, tracks.xyxy])
    return table[np.lexsort((table[:, 1], table[:, 0]))]


def video_of(clip: Path) -> Video:
    return Video.of(reid_tracker.open_source(clip))


@pytest.mark.parametrize("to", FILES)
def test_what_goes_out_comes_back(world: tuple[Path, Path], tmp_path: Path, to: str) -> None:
    clip, results = world
    output = tmp_path / "out" / FILES[to]
    assert reid_tracker.convert(results, output, to, clip) == 54
    back = reid_tracker.read_tracks(output, video_of(clip))
    assert rows(back) == pytest.approx(rows(reid_tracker.read_tracks(results)), abs=2e-3)
    assert set(back.label) == {"person"}
    reid_tracker.convert(results, output, to, clip)  # once more: its own file
    made = [output, *output.rglob("*")]
    assert {each.name for each in made if each.stat().st_mode & 0o077} == set()  # where people were is private


@pytest.mark.parametrize("to", ["cvat", "coco", "label-studio", "yolo"])
def test_annotation_tools_get_what_the_picture_shows(world: tuple[Path, Path], tmp_path: Path, to: str) -> None:
    clip, _ = world
    boxes = [[-20.0, 30, 20, 90], [130, 60, 200, 150], [170, 10, 190, 50], [40, 30, 80, 90]]
    results = tmp_path / "edges.txt"
    results.write_text("".join(format_row(1, number, np.array(box), 0.9) for number, box in enumerate(boxes, 1)))
    output = tmp_path / "out" / FILES[to]
    assert reid_tracker.convert(results, output, to, clip) == 3  # nothing is to be seen of the third
    back = reid_tracker.read_tracks(output, video_of(clip))
    expected = np.array([[1, 1, 0, 30, 20, 90], [1, 2, 130, 60, 160, 120], [1, 4, 40, 30, 80, 90]])
    assert rows(back) == pytest.approx(expected, abs=2e-3)


def test_tables_hold_every_column(world: tuple[Path, Path], tmp_path: Path) -> None:
    _, results = world
    expected = reid_tracker.read_tracks(results).to_frame()
    for to, read in (("csv", pd.read_csv), ("parquet", polars.read_parquet)):
        reid_tracker.convert(results, tmp_path / f"table.{to}", to)
        found = read(tmp_path / f"table.{to}")
        assert list(found.columns) == list(expected.columns) and len(found) == len(expected) == 54
        assert np.allclose(found["y2"].to_numpy(), expected["y2"].to_numpy(), atol=1e-9)


def test_a_table_holds_the_times_that_the_video_tells(world: tuple[Path, Path], tmp_path: Path) -> None:
    clip, results = world
    rate = video_of(clip).frame_rate
    reid_tracker.convert(results, tmp_path / "mot.txt", "mot")  # which holds no times
    for video, name in ((clip, "told.csv"), (None, "untold.csv")):
        reid_tracker.convert(tmp_path / "mot.txt", tmp_path / name, "csv", video)
    told, untold = (pd.read_csv(tmp_path / name) for name in ("told.csv", "untold.csv"))
    assert np.allclose(told["seconds"], (told["frame"] - 1) / rate) and untold["seconds"].isna().all()
    assert ",nan," not in (tmp_path / "untold.csv").read_text()


def test_a_table_holds_no_text_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    track = {"id": 1, "confidence": 1, "xyxy": [-1, 2, 30, 40], "class": "=cmd|x"}
    (tmp_path / "a.jsonl").write_text(json.dumps({"index": 0, "timestamp": 0, "tracks": [track]}))
    reid_tracker.convert(tmp_path / "a.jsonl", tmp_path / "a.csv", "csv")
    (row,) = pd.read_csv(tmp_path / "a.csv").to_dict("records")
    assert (row["class"], row["x1"]) == ("'=cmd|x", -1)


def test_a_video_whose_name_is_no_text_has_a_truth_all_the_same(world: tuple[Path, Path], tmp_path: Path) -> None:
    clip, results = world
    clip = clip.rename(os.fsdecode(os.fsencode(tmp_path) + b"/yard\xff.mp4"))
    assert reid_tracker.convert(results, tmp_path / "truth", "mot-truth", clip) == 54
    assert read_sequence_info(tmp_path / "truth").name == "yard?"


def test_cvat_knows_who_is_out_of_sight_and_who_is_hidden(world: tuple[Path, Path], tmp_path: Path) -> None:
    clip, results = world
    reid_tracker.convert(results, tmp_path / "tracks.xml", "cvat", clip)
    from defusedxml.ElementTree import parse

    root = parse(tmp_path / "tracks.xml").getroot()
    assert root.findtext("meta/task/size") == "40" and root.findtext("meta/task/original_size/width") == str(
        video_of(clip).width
    )
    one, other = root.findall("track")
    assert [one.findtext("attribute"), other.findtext("attribute")] == ["3", "12"]
    assert [int(box.get("frame")) for box in other if box.get("outside") == "1"] == [9, 30]
    assert [int(box.get("frame")) for box in other if box.get("occluded") == "1"] == [19]
    # Somebody corrects a box there, and CVAT numbers the tracks anew.
    text = (tmp_path / "tracks.xml").read_text().replace('<attribute name="identity">3</attribute>', "")
    (tmp_path / "reviewed.xml").write_text(text.replace('xtl="6.00"', 'xtl="1.00"'))
    back = reid_tracker.read_tracks(tmp_path / "reviewed.xml")
    assert set(back.identity) == {1, 12} and back.xyxy[0, 0] == 1


def test_boxes_between_keyframes_of_label_studio_lie_on_a_line(world: tuple[Path, Path], tmp_path: Path) -> None:
    clip, _ = world
    size = video_of(clip)

    def key(frame: int, x: float, enabled: bool = True) -> dict:
        return {"frame": frame, "x": x, "y": 10, "width": 20, "height": 50, "enabled": enabled, "rotation": 0}

    sequence = [key(1, 0), key(5, 40, enabled=False), key(9, 40)]
    region = {"id": "Xy12", "type": "videorectangle", "value": {"sequence": sequence, "labels": ["Man"]}}
    task = {"data": {}, "annotations": [{"result": [region]}], "predictions": [{"result": []}]}
    (tmp_path / "task.json").write_text(json.dumps([task]))
    back = reid_tracker.read_tracks(tmp_path / "task.json", size)
    assert back.frame.tolist() == [1, 2, 3, 4, 5, 9] and set(back.identity) == {1} and set(back.label) == {"Man"}
    assert back.xyxy[:, 0] == pytest.approx(np.array([0, 10, 20, 30, 40, 40]) * size.width / 100)


def test_coco_of_other_programs(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 8, "file_name": "a/000001.png"}, {"id": 9, "file_name": "a/000003.png"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 4, "bbox": [1, 2, 3, 4], "attributes": {"track_id": 6}},
        ],
        "categories": [{"id": 4, "name": "dog"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    back = reid_tracker.read_tracks(tmp_path / "coco.json")
    assert (back.frame[0], back.identity[0], back.label) == (3, 6, ["dog"])
    assert back.xyxy.tolist() == [[1, 2, 4, 6]]
    del content["annotations"][0]["attributes"]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="track_id"):
        reid_tracker.read_tracks(tmp_path / "coco.json")


STRANGE = (
    r'{"index": 0, "timestamp": 0, "tracks": [{"id": 1, "confidence": 1, "xyxy": [1, 2, 30, 40], '
    r'"class": "a\ud83d\ude00 \ud800z \\ud800", "name": "\udc00"}]}'
)
BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>'


def region(frames: tuple[int, int]) -> str:
    """Label Studio's, between two keyframes."""
    keys = [{"frame": frame, "x": 1, "y": 1, "width": 1, "height": 1} for frame in frames]
    found = {"id": "1", "type": "videorectangle", "value": {"sequence": keys, "labels": ["x"]}}
    return json.dumps([{"predictions": [{"result": [found]}]}])


HUGE = {"image_id": 1, "category_id": 1, "track_id": 1, "bbox": [10**400, 1.5, 1.5, 1]}
COCO = {"images": [{"id": 1}], "annotations": [HUGE], "categories": [{"id": 1, "name": "x"}]}
TRACK = '<annotations><track id="{}" label="x"><box frame="{}" xtl="{}" ytl="0" xbr="9" ybr="9"/></track></annotations>'


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.xml", "<annotations><track", "not CVAT"),
        ("a.xml", "<html/>", "no <annotations>"),
        ("a.xml", BOMB, "not CVAT"),
        ("a.xml", TRACK.format("x", 1, 1), "not CVAT"),
        ("a.xml", TRACK.format(1, -5, 1), "count from 1"),
        ("a.xml", TRACK.format(1, 10**12, 1), "count from 1"),
        ("a.xml", TRACK.format(1, 1, "nan"), "finite"),
        ("a.xml", TRACK.format(1, 1, 20), "ends before"),
        ("a.xml", TRACK.format(10**30, 1, 1), "not a number"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", "[]", "one video"),
        ("a.json", '{"images": [], "annotations": 5, "categories": []}', "neither COCO"),
        ("a.json", '[{"predictions": []}]', "neither COCO"),
        ("a.json", json.dumps(COCO), "neither COCO|not a number"),
        ("a.json", region((1, 10**12)), "none of the video's"),
        ("a.json", region((-(10**12), 1)), "none of the video's"),
        (
            "a.jsonl",
            '{"index": 0, "timestamp": "x", "tracks": [{"id": 1, "confidence": 1, "xyxy": [1, 2, 3, 4]}]}',
            "not a",
        ),
        ("a.jsonl", STRANGE.replace('"timestamp": 0', '"timestamp": 1e300'), "no time in seconds"),
        ("a.jsonl", STRANGE.replace('"timestamp": 0', '"timestamp": -1e999'), "no time in seconds"),
        ("a.jsonl", '{"index": 0, "tracks": 3}', "line 1"),
        ("a.jsonl", "[" * 100_000, "line 1"),
        ("a.txt", "1,1,2\n", "columns"),
        ("a.txt", "1,1,1.7e308,2,1.7e308,4\n", "finite"),
        ("a.txt", "1,1,1e300,2,1,4\n", "beyond any picture"),
    ],
)
def test_what_is_not_of_a_format_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        reid_tracker.read_tracks(tmp_path / name, SIZE)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "0 .5 .5 .1 .1",
        "0 a .5 .1 .1 3",
        "0 .5 .5 .1 .1 1e999",
        "0 .5 .5 .1 .1 1.5",
        "-9 .5 .5 .1 .1 1",
        "-1 .5 .5 .1 .1 1",
        "0.5 .5 .5 .1 .1 1",
        "nan .5 .5 .1 .1 1",
    ],
)
def test_labels_that_are_none_or_without_identities_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a_1.txt").write_text(f"{text}\n")
    with pytest.raises(UserError, match=r"a_1\.txt"):
        reid_tracker.read_tracks(tmp_path, SIZE)


def test_classes_of_labels_are_their_names_or_else_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    (tmp_path / "a_1.txt").write_text("".join(f"{kind} .5 .5 .1 .1 {kind}\n" for kind in range(4)))
    assert reid_tracker.read_tracks(tmp_path, SIZE).label == ["dog", "cat", "2", "3"]


@pytest.mark.parametrize("to", [*FILES, "csv", "parquet"])
def test_a_text_that_no_file_holds_is_written_all_the_same(world: tuple[Path, Path], tmp_path: Path, to: str) -> None:
    """Halves of a pair, which JSON can spell; a whole pair is a letter, and a spelt backslash is one."""
    results, output = tmp_path / "a.jsonl", tmp_path / "out" / FILES.get(to, f"a.{to}")
    results.write_text(STRANGE)
    tracks = reid_tracker.read_tracks(results)
    assert (tracks.label, tracks.names) == (["a\U0001f600 ?z \\ud800"], {1: "?"})
    assert reid_tracker.convert(results, output, to, world[0]) == 1


def test_reviewed_tracks_score_and_train(run: Run, world: tuple[Path, Path], tmp_path: Path) -> None:
    clip, results = world
    status, out, error = run("convert", results, "--to", "cvat", "-o", tmp_path / "yard.xml", "--video", clip)
    assert status == 0 and "54 boxes" in out, error
    truth = tmp_path / "yard"
    assert run("convert", tmp_path / "yard.xml", "--to", "mot-truth", "-o", truth, "--video", clip)[0] == 0
    status, out, error = run("evaluate", "mot", "--truth", truth, "--results", results)
    assert status == 0 and "100.00" in out, error
    status, out, error = run(
        "export-crops", truth / "gt" / "gt.txt", clip, "-o", tmp_path / "crops", "--min-height", 20
    )
    assert status == 0 and "crops of" in out, error


def test_mistakes_at_the_command_line(run: Run, world: tuple[Path, Path], tmp_path: Path) -> None:
    clip, results = world
    refused(run("convert", results, "--to", "word", "-o", tmp_path / "x"), "--to word", "cvat")
    refused(run("convert", results, "--to", "yolo", "-o", tmp_path / "x"), "--video")
    refused(run("convert", tmp_path / "none.txt", "--to", "csv", "-o", tmp_path / "x"), "none.txt")
    refused(run("convert", results, "--to", "csv", "-o", results), "overwrite its own")
    (tmp_path / "mine.csv").write_text("mine")
    refused(run("convert", results, "--to", "csv", "-o", tmp_path / "mine.csv"), "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert run("convert", results, "--to", "csv", "-o", tmp_path / "mine.csv", "--overwrite")[0] == 0
    assert cv2.VideoCapture(str(clip)).isOpened()  # the video was only read


def test_a_run_writes_its_boxes_as_a_table(command: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in" / "walk.mp4")
    status, out, error = command.track(clip, tmp_path / "out", "--parquet", "--jsonl")
    assert status == 0 and out.split()[-1] == str(tmp_path / "out" / "walk.parquet"), error
    table = polars.read_parquet(tmp_path / "out" / "walk.parquet")
    lines = reid_tracker.read_tracks(tmp_path / "out" / "walk.jsonl")
    assert table.columns == list(lines.columns()) and len(table) == len(lines) > 20
    for name, values in lines.columns().items():
        if name != "class":
            np.testing.assert_allclose(table[name].to_numpy(), values, atol=0.01)
    assert set(table["class"]) == {"person"}
    nobody = make_clip(tmp_path / "none" / "walk.mp4")
    (nobody.parent / "det.txt").write_text("")
    assert command.track(nobody, tmp_path / "out", "--parquet", "--overwrite")[0] == 0
    assert polars.read_parquet(tmp_path / "out" / "walk.parquet").columns == table.columns
