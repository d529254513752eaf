"""The trained checkpoints that ship with the package, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fathom.errors import UnknownModel, one_of

__all__ = ["find_checkpoint", "shipped"]


def shipped() -> dict[str, Path]:
    """The shipped checkpoints' files, by name."""
    folder = Path(str(files("fathom.recursive"))) / "checkpoints"
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def find_checkpoint(name_or_path: str) -> Path:
    """The file of a shipped checkpoint, or of one given as a path. Raises ``UnknownModel`` where there is neither."""
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.suffix == ".safetensors" and path.is_file():
        return path
    raise UnknownModel(
        f"{one_of('recursive checkpoint', name_or_path, known)} A file is given by its path ending in .safetensors."
    )
