"""What settings are made of."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr


class Settings(BaseModel):
    """A group of settings: unknown names and impossible values are errors, also on assignment."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)
    _file: Path | None = PrivateAttr(None)

    @property
    def file(self) -> Path | None:
        """The file that `load` read them from: an input of the run, which its results must not overwrite."""
        return self._file

    def __eq__(self, other: object) -> bool:
        """Equal settings are equal wherever they were read from."""
        return type(self) is type(other) and self.__dict__ == other.__dict__


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A setting with its comment."""
    return Field(default=default, description=description, **limits)
