"""Benchmark files that come with the package: ``plasticbench run quickstart`` needs no file of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from plasticbench.plugins import did_you_mean
from plasticbench.uris import shown

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
FOLDER = Path(__file__).parents[1] / "configs"


def names() -> list[str]:
    """All of them, by file name."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def text(name: str) -> str:
    """A file as it stands. Raises ``BenchmarkError`` with the nearest name."""
    if name not in names():
        from plasticbench.platform.definition.parsing import BenchmarkError  # which takes pydantic

        raise BenchmarkError(f"no benchmark file {name!r} comes with the package. {did_you_mean(name, names())}")
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def summary(name: str) -> str:
    """What the file says about itself."""
    import yaml

    return str(yaml.safe_load(text(name))["description"])


def resolved(given: str) -> Path:
    """A file of this path, or else the shipped benchmark of this name. Raises for what could only be a name."""
    if _URI.match(given):
        raise typer.BadParameter(
            f"must be a file on this machine, or the name of a shipped benchmark, got {shown(given)!r}. Fetch it first"
        )
    path = Path(given)
    if path.is_file() or path.name != given or path.suffix:
        return path
    if given not in names():
        raise typer.BadParameter(f"{given!r} is no file and no shipped benchmark. {did_you_mean(given, names())}")
    return FOLDER / f"{given}.yaml"


def start_new(path: Path, name: str) -> None:
    """Writes a copy to begin from. Raises ``BenchmarkError`` rather than writing over a file."""
    content = text(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        from plasticbench.platform.definition.parsing import BenchmarkError

        raise BenchmarkError(f"{path}: is there already; choose another name, or remove it first") from None
