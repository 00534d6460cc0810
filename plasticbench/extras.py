"""What is installed only where somebody asked for it, and the command that installs it."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

Extra = Literal["bench", "s3", "gcs"]

BENCH_MODULES = frozenset(
    {
        "Box2D",
        "PIL",
        "ale_py",
        "envpool",
        "gymnasium",
        "imageio",
        "jinja2",
        "lz4",
        "matplotlib",
        "minatar",
        "mlflow",
        "mujoco",
        "pandas",
        "psutil",
        "psycopg",
        "pyarrow",
        "pydantic",
        "pygame",
        "ray",
        "rich",
        "safetensors",
        "scipy",
        "sklearn",
        "typer",
        "upath",
        "uvloop",
        "yaml",
    }
)
"""Modules of the packages that the extra ``bench`` brings; the core, without it, needs torch and numpy."""


def install_command(extra: Extra) -> str:
    """The ``pip`` command for an extra, from the wheel, folder or repository that this package was installed from."""
    url, is_editable = _origin()
    if url.startswith("file:"):
        source = f"{url2pathname(urlsplit(url).path)}[{extra}]"
        return shlex.join(["pip", "install", *(["-e"] if is_editable else []), source])
    return shlex.join(["pip", "install", f"plasticbench[{extra}] @ {url}"])


def _origin() -> tuple[str, bool]:
    """Where pip installed this from (PEP 610), or the folder of the source, and whether the installation follows it."""
    try:
        recorded = json.loads(metadata.distribution("plasticbench").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        recorded = {}
    source = Path(__file__).parents[1]
    if "vcs_info" in recorded:
        return f"{recorded['vcs_info']['vcs']}+{recorded['url']}", False
    return recorded.get("url", source.as_uri()), recorded.get("dir_info", {}).get("editable", "url" not in recorded)
