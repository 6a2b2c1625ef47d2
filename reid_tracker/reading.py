"""Text that the user names.

What is read here can be written again: JSON and YAML can spell halves of a UTF-16 pair, which no text file holds.
"""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import yaml

from reid_tracker.errors import UserError


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises
    ------
    UserError
        If it cannot be read, or is none.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8.") from error


NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_table(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a CSV file whose first line names the columns.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    table = csv.DictReader(io.StringIO(read_text(path)), skipinitialspace=True)
    try:
        return list(table.fieldnames or ()), list(table)
    except csv.Error as error:
        raise UserError(f"{path}: line {table.reader.line_num} is not of a table ({error}).") from error


_HALF = re.compile("[\ud800-\udfff]")
_SPELT_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """What a text in JSON holds, with "?" for halves of a pair.

    Raises
    ------
    ValueError
        If it is not JSON, or is nested too deeply; its message says why in a few words.
    """
    try:
        found = json.loads(text)
        if _SPELT_HALF.search(text):
            found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
        return found
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class _Once(yaml.SafeLoader):
    """PyYAML's safe loader; of a name that stands twice it would silently take the last.

    Dates and times of day stay the text that they are: no setting is a date, and 1:30 is not the number 90.
    """

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """A node's tag."""
        tag = super().resolve(kind, value, implicit)
        is_time = tag == "tag:yaml.org,2002:timestamp" or (":" in str(value) and tag in NUMBERS)
        return self.DEFAULT_SCALAR_TAG if is_time else tag

    def construct_scalar(self, node: Any) -> Any:
        """A text; settings may be names of files, so that one with half of a pair is refused."""
        value = super().construct_scalar(node)
        if _HALF.search(value):
            raise yaml.MarkedYAMLError(problem=f"{value!r} holds half of a letter", problem_mark=node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping's contents."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """What a text in YAML holds.

    Raises
    ------
    ValueError
        If it is not YAML, is nested too deeply, or names something twice; its message says why in a few words.
    """
    try:
        return yaml.load(text, _Once)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{error.problem or error.context}{where}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
