"""Settings from YAML files and to them."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from reid_tracker.config.groups import Settings
from reid_tracker.errors import UserError
from reid_tracker.reading import parse_yaml, read_text

S = TypeVar("S", bound="Settings")

MOST_BYTES = 1 << 20  # of a file of settings


def load(model: type[S], path: str | Path | None = None, overrides: dict[str, Any] | None = None) -> S:
    """Settings of class ``model``: defaults, then the YAML file, then ``overrides``.

    Parameters
    ----------
    model : type
        A `Settings` class.
    path : path, optional
        YAML file; keys it does not name keep their defaults.
    overrides : dict, optional
        Dotted names (``"tracker.lost_seconds"``) to values, as command-line flags give them; None is skipped.

    Raises
    ------
    UserError
        For a missing or unreadable file, an unknown key (naming the nearest) or an impossible value.
    """
    values: dict[str, Any] = {}
    where = "settings"
    if path is not None:
        where = str(path)
        try:
            if Path(path).exists() and (not Path(path).is_file() or Path(path).stat().st_size > MOST_BYTES):
                raise UserError(f"{path}: no file of settings; write one with reid-tracker config.")
            values = parse_yaml(read_text(Path(path))) or {}
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise UserError(f"{path}: not YAML ({error}); write a fresh file with reid-tracker config.") from error
        if not isinstance(values, dict):
            raise UserError(f"{path}: settings are 'name: value' lines; write a fresh file with reid-tracker config.")
    for name, value in (overrides or {}).items():
        if value is not None:
            *groups, leaf = name.split(".")
            target = values
            for group in groups:
                if target.get(group) is None:
                    target[group] = {}
                target = target[group]
                if not isinstance(target, dict):
                    raise UserError(f"{where}: {group} holds a group of settings, not a single value.")
            target[leaf] = value
    try:
        settings = model.model_validate(values)
        settings._file = None if path is None else Path(path)
        return settings
    except ValidationError as error:
        text = "; ".join(_complaint(model, each) for each in error.errors())
        raise UserError(f"{where}: {text}" + ("" if text.endswith("?") else ".")) from error


def _complaint(model: type[Settings], error: Any) -> str:
    """One of pydantic's errors in a user's words."""
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        group: Any = model
        for part in location[:-1]:
            group = group.model_fields[part].annotation
        known = list(group.model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.6)
        if near:
            return f"there is no setting {name}; did you mean {'.'.join([*location[:-1], *near])}?"
        return f"there is no setting {name}; {'.'.join(location[:-1]) or 'on top'} has {', '.join(known)}"
    message = str(error["msg"])
    return f"{name} cannot be {error['input']!r}: {message[0].lower()}{message[1:]}"


def write_yaml(settings: Settings) -> str:
    """Settings as YAML with each one's description as a comment above it."""
    lines: list[str] = []
    _write_group(settings, lines, indent=0)
    return "\n".join(lines) + "\n"


def _write_group(settings: Settings, lines: list[str], indent: int) -> None:
    pad = " " * indent
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            lines += ["", f"{pad}# {field.description}", f"{pad}{name}:"]
            _write_group(value, lines, indent + 2)
        else:
            text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
            lines += [f"{pad}# {field.description}", f"{pad}{name}: {text}"]
