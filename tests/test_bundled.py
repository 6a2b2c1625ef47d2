"""What ships with the package: small, described, of one kind, and in use without a word."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from reid_tracker import TrackConfig, track
from reid_tracker.appearance.embedder import Embedder
from reid_tracker.backends import appearance_form, detector_form
from reid_tracker.config import load
from reid_tracker.demo import make_clip
from reid_tracker.detection.yolo import YoloDetector
from reid_tracker.motchallenge import read_rows
from reid_tracker.video.sources import open_source
from reid_tracker.weights import APPEARANCE, BUNDLED_FORMS, DETECTOR, EIGHT_BIT_FORMS


def files(path: Path) -> list[Path]:
    return [each for each in path.iterdir() if each.is_file()] if path.is_dir() else [path]


def test_each_file_is_small_and_each_model_has_a_card():
    folders = [APPEARANCE.parent, *(forms[DETECTOR, "openvino"] for forms in (BUNDLED_FORMS, EIGHT_BIT_FORMS))]
    for path in (file for folder in folders for file in files(folder)):
        assert path.stat().st_size < 8e6, path
        assert str(Path(__file__).parents[1]).encode() not in path.read_bytes(), path
    assert DETECTOR.with_suffix(".md").is_file() and APPEARANCE.with_suffix(".md").is_file()


@pytest.mark.parametrize(("is_quick_at_bytes", "forms"), [(False, BUNDLED_FORMS), (True, EIGHT_BIT_FORMS)])
def test_on_a_cpu_the_forms_for_it_run(monkeypatch, is_quick_at_bytes, forms):
    monkeypatch.setattr("reid_tracker.backends.multiplies_bytes", lambda: is_quick_at_bytes)
    assert detector_form(None, device="cpu") == detector_form(None, "openvino") == forms[DETECTOR, "openvino"]
    assert appearance_form(None, device="cpu") == BUNDLED_FORMS[APPEARANCE, "openvino"]
    assert detector_form(None, "torch") == DETECTOR


def test_the_8_bit_appearance_network_is_the_checkpoint():
    one, other = Embedder(device="cpu"), Embedder(appearance_form(None, device="cpu"))
    assert one.hash == other.hash and one.statistics == other.statistics


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("bundled") / "clip")


def test_all_forms_of_the_detector_find_the_same_people(clip):
    frame = next(iter(open_source(clip)))
    found = []
    for path in (DETECTOR, BUNDLED_FORMS[DETECTOR, "openvino"], EIGHT_BIT_FORMS[DETECTOR, "openvino"]):
        detector = YoloDetector(path, confidence=0.5, device="cpu")
        assert detector.class_names == {0: "person"} and detector.image_size == (640, 640)
        found.append(detector.detect(frame).xyxy)
    for other in found[1:]:
        assert len(found[0]) == len(other) >= 3
        assert np.abs(found[0][:, None] - other).max(axis=2).min(axis=1).max() < 12


def test_people_are_tracked_with_nothing_but_what_is_bundled(clip, tmp_path):
    copy = shutil.copy(clip, tmp_path / "mine.mp4")
    settings = {"output.folder": str(tmp_path / "out"), "source.end": 30, "device": "cpu"}
    (summary,) = track(copy, load(TrackConfig, None, settings))
    assert summary.frames == 30 and 3 <= summary.identities <= 5
    rows = read_rows(tmp_path / "out" / "mine.txt")
    assert np.bincount(rows[:, 1].astype(int)).max() == 30  # somebody is followed from first to last


def test_every_package_is_in_the_wheel() -> None:
    root = Path(__file__).parents[1]
    about = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {each.parent.relative_to(root) for each in (root / "reid_tracker").rglob("__init__.py")}
    assert set(about["packages"]) == {".".join(each.parts) for each in folders} | {"reid_tracker.training"}
    for folder in (root / "reid_tracker").rglob("static"):
        assert "static/*" in about["package-data"][".".join(folder.relative_to(root).parts[:-1])]
