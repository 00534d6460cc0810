"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plasticbench.platform import shipped
from plasticbench.uris import URI_VARIABLE

Config = Annotated[
    Path,
    typer.Argument(
        parser=shipped.resolved, metavar="CONFIG", help="Benchmark file (YAML), or the name of a shipped one."
    ),
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: dotted.key=value. Repeatable.")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster to join; default: RAY_ADDRESS, else a Ray of its own on this machine.")
]
_URI_HELP = "MLflow store or server; default: "
Uri = Annotated[str | None, typer.Option(envvar=URI_VARIABLE, help=f"{_URI_HELP}mlflow.db in the run directory.")]
SameUri = Annotated[str | None, typer.Option(envvar=URI_VARIABLE, help=f"{_URI_HELP}the one that the run began with.")]
UriToo = Annotated[str | None, typer.Option(help="Also bring this MLflow store or server up to date; default: none.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Repair = Annotated[
    bool, typer.Option("--repair", help="Go back to the last commit before damage to record files, and train on.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
