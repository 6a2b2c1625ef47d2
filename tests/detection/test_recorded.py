import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_tracker.detection.recorded import RecordedDetections
from reid_tracker.errors import UserError
from reid_tracker.video.frames import Frame

BOX = [10.0, 20.0, 30.0, 60.0]


def at(number: int) -> Frame:
    """The frame of a 1-based number, without pixels."""
    return Frame(image=None, index=number - 1, timestamp=0.0)


def write_npz(path: Path, **changes: object) -> Path:
    """Two good rows of frames 1 and 3, with changes; None leaves an array out."""
    arrays = {"frame": np.array([1, 3]), "xyxy": np.array([BOX, BOX]), "confidence": np.array([0.5, 0.9])} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 60), threshold=st.sampled_from([0.0, 0.1, 0.6]))
def test_npz_gives_each_frame_its_rows_in_order(seed: int, rows: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(1, 12, rows)
    corner = rng.uniform(-50, 900, (rows, 2))
    xyxy = np.hstack([corner, corner + rng.uniform(0.1, 80, (rows, 2))])
    confidence, class_id = rng.uniform(0, 1, rows), rng.integers(0, 5, rows)
    embedding = rng.normal(size=(rows, 6))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recorded.npz"
        np.savez(path, frame=frame, xyxy=xyxy, confidence=confidence, class_id=class_id, embedding=embedding)
        recorded = RecordedDetections(path, threshold)
    assert recorded.dimension == 6
    kept = [row for row in range(rows) if np.float32(confidence[row]) >= threshold]
    assert recorded.last_frame == max((frame[row] for row in kept), default=0)
    for number in range(1, 14):
        expected = [row for row in kept if frame[row] == number]
        detections = recorded.detect(at(number))
        np.testing.assert_allclose(detections.xyxy, xyxy[expected].reshape(-1, 4), rtol=1e-6)
        np.testing.assert_allclose(detections.confidence, confidence[expected], rtol=1e-6)
        np.testing.assert_array_equal(detections.class_id, class_id[expected])
        np.testing.assert_allclose(detections.data["embedding"], embedding[expected].reshape(-1, 6), atol=1e-6)
        assert detections.xyxy.dtype == detections.confidence.dtype == detections.data["embedding"].dtype == np.float32


def test_text_rows_become_corners(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text("3,-1,10,20,5,40,0.9,-1,-1,-1\n1,-1,1.5,2.5,3,4,0.05,-1,-1,-1\n1,7,1,2,3,4,0.5,-1,-1,-1\n")
    recorded = RecordedDetections(path)
    assert (recorded.dimension, recorded.last_frame) == (None, 3)
    assert recorded.detect(at(1)).xyxy.tolist() == [[1, 2, 4, 6]]
    assert recorded.detect(at(3)).xyxy.tolist() == [[10, 20, 15, 60]]
    assert recorded.detect(at(3)).class_id.tolist() == [0]
    assert len(recorded.detect(at(2))) == len(recorded.detect(at(4))) == 0
    assert recorded.detect(at(3)).data == {}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ([0.2, 0.9, 1.0], [0.2, 0.9, 1.0]),
        ([-1, -1, -1], [1, 1, 1]),
        ([0.2, -1, 0.9], [0.2, 1, 0.9]),
        ([-0.5, 0.0, 2.0], [0.3775, 0.5, 0.8808]),  # DPM margins
        ([-1, 0.0, 2.0], [0.2689, 0.5, 0.8808]),  # here -1 is a margin like the others
        ([0.5, 12.0, 1e6], [0.6225, 1, 1]),  # ACF
        ([0.5, np.nan, np.inf], [0.5]),  # a broken row decides nothing for the others
    ],
)
def test_confidences_end_in_0_to_1(tmp_path: Path, written: list[float], read: list[float]) -> None:
    path = tmp_path / "det.txt"
    path.write_text("".join(f"1,-1,1,2,3,4,{value}\n" for value in written))
    np.testing.assert_allclose(RecordedDetections(path).detect(at(1)).confidence, read, atol=1e-4)


def test_rows_without_a_confidence_column_are_certain(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text("1,-1,1,2,3,4\n")
    assert RecordedDetections(path).detect(at(1)).confidence.tolist() == [1]


def test_an_empty_file_is_a_video_without_anyone(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text("")
    recorded = RecordedDetections(path)
    assert recorded.last_frame == 0
    assert len(recorded.detect(at(1))) == 0


@pytest.mark.filterwarnings("error")
def test_unusable_boxes_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = np.array([BOX, [np.nan, 0, 1, 1], [5, 5, 5, 9], [9, 5, 1e300, 9]])
    path = write_npz(tmp_path / "a.npz", frame=np.ones(4), xyxy=boxes, confidence=np.full(4, 0.9))
    text = "".join(f"1,-1,{left},{top},{right - left},{bottom - top},0.9\n" for left, top, right, bottom in boxes)
    (tmp_path / "det.txt").write_text(text)
    assert RecordedDetections(tmp_path / "det.txt").detect(at(1)).xyxy.tolist() == [BOX]
    with caplog.at_level(logging.WARNING):
        recorded = RecordedDetections(path)
    assert recorded.detect(at(1)).xyxy.tolist() == [BOX]
    assert "3 boxes" in caplog.text


@pytest.mark.filterwarnings("error")
def test_vectors_are_brought_to_unit_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = np.array([[3, 4], [1, 0], [0, 0], [np.nan, 1], [1e300, 1]])
    path = write_npz(
        tmp_path / "a.npz",
        frame=np.ones(5),
        xyxy=np.tile(BOX, (5, 1)),
        confidence=np.linspace(0.2, 1, 5),
        embedding=vectors,
    )
    with caplog.at_level(logging.WARNING):
        embedding = RecordedDetections(path).detect(at(1)).data["embedding"]
    np.testing.assert_allclose(embedding, [[0.6, 0.8], [1, 0]] + [[np.nan, np.nan]] * 3, rtol=1e-6)
    assert "1 appearance vectors" in caplog.text


def test_what_is_done_to_a_result_does_not_reach_the_record(tmp_path: Path) -> None:
    recorded = RecordedDetections(write_npz(tmp_path / "a.npz", embedding=np.eye(2)))
    first = recorded.detect(at(1))
    first.xyxy[:] = first.data["embedding"][:] = 0
    assert recorded.detect(at(1)).xyxy.tolist() == [BOX]
    assert recorded.detect(at(1)).data["embedding"].tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyxy": None}, "no array 'xyxy'"),
        ({"confidence": None}, "no array 'confidence'"),
        ({"frame": None}, "no array 'frame'"),
        ({"frame": np.array([0, 1])}, "begin at 1"),
        ({"frame": np.array([1.0, 1.5])}, "whole"),
        ({"frame": np.array([1.0, np.nan])}, "whole"),
        ({"frame": np.array([1.0, 1e300])}, "whole"),
        ({"frame": np.array([1, 2**64 - 1], np.uint64)}, "is the last"),
        ({"frame": np.array([1])}, "frame must be"),
        ({"xyxy": np.ones((2, 5))}, "xyxy must be"),
        ({"xyxy": np.ones(4)}, "must be numbers"),
        ({"xyxy": np.float64(4)}, "must be numbers"),
        ({"confidence": np.array(["a", "b"])}, "confidence must be"),
        ({"confidence": np.ones((2, 1))}, "confidence must be"),
        ({"class_id": np.array([1, 2, 3])}, "class_id must be"),
        ({"class_id": np.array([1, np.nan])}, "class_id holds other things"),
        ({"class_id": np.array([1, 1.5])}, "class_id holds other things"),
        ({"class_id": np.array([1, 1e300])}, "class_id holds other things"),
        ({"class_id": np.array([1, 2**64 - 1], np.uint64)}, "class_id holds other things"),
        ({"embedding": np.ones((3, 8))}, "embedding must be"),
        ({"embedding": np.ones(2)}, "embedding must be"),
        ({"embedding": np.ones((2, 8, 1))}, "embedding must be"),
        ({"embedding": np.ones((2, 0))}, "vectors of no number"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RecordedDetections(write_npz(tmp_path / "a.npz", **changes))


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", extra=np.array([Payload(tmp_path / "ran")], dtype=object))
    with pytest.raises(UserError, match="of plain arrays"):
        RecordedDetections(path)
    assert not (tmp_path / "ran").exists()
    np.load(path, allow_pickle=True)["extra"]
    assert (tmp_path / "ran").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = write_npz(tmp_path / "a.npz").read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"hello", whole[: len(whole) // 2]]
    for _ in range(60):
        noise = np.frombuffer(whole, np.uint8).copy()
        noise[rng.integers(0, len(noise), 40)] = rng.integers(0, 256, 40)
        damaged.append(noise.tobytes())
    refused = 0
    for content in damaged:
        (tmp_path / "b.npz").write_bytes(content)
        try:
            RecordedDetections(tmp_path / "b.npz")
        except UserError:
            refused += 1
    assert refused > len(damaged) // 2


def test_what_is_no_numpy_file_is_told_without_numpy_s_advice(tmp_path: Path) -> None:
    (tmp_path / "det.npz").write_text("1,-1,10,20,30,40,0.9\n")
    np.save(tmp_path / "array.npy", np.arange(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    write_npz(tmp_path / "objects.npz", frame=np.array([1, None], dtype=object))
    for name, message in (("det", "not a NumPy file"), ("array", "not a NumPy file"), ("objects", "plain arrays")):
        with pytest.raises(UserError, match=rf"{name}\.npz: .*{message}") as told:
            RecordedDetections(tmp_path / f"{name}.npz")
        assert "pickle" not in str(told.value)


def test_classes_are_chosen_by_number_where_the_file_has_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_npz(tmp_path / "a.npz", class_id=np.array([0, 2]))
    for classes, kept in ((["2"], [2]), ([0, "2"], [0, 2]), (["all"], [0, 2]), ([], [0, 2]), ("0", [0])):
        recorded = RecordedDetections(path, classes=classes)
        assert [each for number in (1, 3) for each in recorded.detect(at(number)).class_id.tolist()] == kept
    assert not caplog.records
    assert RecordedDetections(path, classes=["99"]).last_frame == 0
    assert "a.npz: nothing in it is of class 99, but of 0, 2" in caplog.text
    with pytest.raises(UserError, match=r"Class 'car': .*a\.npz knows classes by number only; choose of 0, 2"):
        RecordedDetections(path, classes=["car"])


def test_classes_of_a_file_that_says_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("1,-1,10,20,30,40,0.9\n")
    for path in (tmp_path / "det.txt", write_npz(tmp_path / "a.npz")):
        with pytest.raises(UserError, match="says no classes to choose from; leave out --classes"):
            RecordedDetections(path, classes=["0"])
        assert len(RecordedDetections(path, classes=["all"]).detect(at(1))) == 1


def test_missing_files_and_impossible_thresholds_are_refused(tmp_path: Path) -> None:
    for name in ("none.npz", "none.txt"):
        with pytest.raises(UserError, match="no such file"):
            RecordedDetections(tmp_path / name)
    with pytest.raises(UserError, match="between 0 and 1"):
        RecordedDetections(write_npz(tmp_path / "a.npz"), confidence=1.5)


@pytest.mark.needs_data
@pytest.mark.skipif("REID_TRACKER_DATA" not in os.environ, reason="REID_TRACKER_DATA names no evaluation data")
def test_the_recorded_sequence_is_all_there() -> None:
    path = Path(os.environ["REID_TRACKER_DATA"]) / "mot15" / "PETS09-S2L1" / "yolo11n_osnet.npz"
    recorded = RecordedDetections(path, confidence=0.1)
    with np.load(path) as file:
        expected = int((file["confidence"] >= np.float32(0.1)).sum())
    detections = [recorded.detect(at(number)) for number in range(1, recorded.last_frame + 1)]
    assert recorded.last_frame == 795
    assert sum(map(len, detections)) == expected
    norms = np.linalg.norm(np.vstack([frame.data["embedding"] for frame in detections]), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-3)
