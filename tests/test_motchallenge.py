"""Reading and writing MOTChallenge text."""

import numpy as np
import pytest

from reid_tracker.errors import UserError
from reid_tracker.motchallenge import format_row, read_rows, read_sequence_info


def test_a_written_row_is_read_back(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text(format_row(3, 7, np.array([1.5, 2.25, 11.5, 22.25]), 0.5))
    np.testing.assert_allclose(read_rows(path), [[3, 7, 1.5, 2.25, 10, 20, 0.5, -1, -1, -1]])


@pytest.mark.parametrize("text", ["1,2,3,4,5,6\n", "1 2 3 4 5 6\n", "\ufeff1,2,3,4,5,6"])
def test_separators_and_byte_order_marks(tmp_path, text):
    path = tmp_path / "r.txt"
    path.write_text(text, encoding="utf-8")
    assert read_rows(path).tolist() == [[1, 2, 3, 4, 5, 6]]


def test_an_empty_file_is_an_empty_result(tmp_path):
    (tmp_path / "r.txt").write_text("")
    assert read_rows(tmp_path / "r.txt").shape == (0, 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2,3,4,5,6\n1,2,x,4,5,6\n", "line 2 is not numbers"),
        (b"1,2,3,4,5,6\n1,2,3,4,5\n", "line 2 has 5 columns"),
        (b"1,2,3\n", "3 columns"),
        (b"\xff\xfe\x00\x81", "not a text file"),
        (None, "no such file"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, content, message):
    path = tmp_path / "r.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(path)
    assert "r.txt" in str(caught.value)


def test_sequence_info(tmp_path):
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nname=A\nframeRate=7\nseqLength=9\nimWidth=64\nimHeight=48\n")
    info = read_sequence_info(tmp_path)
    assert (info.name, info.frame_rate, info.length, info.image_folder) == ("A", 7.0, 9, tmp_path / "img1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no seqinfo.ini"),
        ("nonsense", "not a MOTChallenge"),
        ("[Sequence]\nframeRate=fast\n", "not a MOTChallenge"),
        ("[Sequence]\nname=A\n", "must both be given"),
    ],
)
def test_bad_sequence_info(tmp_path, text, message):
    if text is not None:
        (tmp_path / "seqinfo.ini").write_text(text)
    with pytest.raises(UserError, match=message):
        read_sequence_info(tmp_path)
