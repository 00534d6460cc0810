"""Commands on runs that are there: reading them, seeing what there is, tidying up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plasticbench.platform.terminal import out, people_errors

RunDir = Annotated[str, typer.Argument(help="Run directory: a path, or a URI such as s3://BUCKET/FOLDER.")]


def export(
    run_dir: RunDir,
    to: Annotated[str, typer.Option(help="csv or parquet.")],
    out_file: Annotated[Path | None, typer.Option("--out", help="A new file; default: records.TO, here.")] = None,
) -> None:
    """Writes all records as one table: trial, task, method, seed, step, name, value."""
    with people_errors():
        from plasticbench.analysis import records_table

        path = out_file or Path(f"records.{to}")
        records_table.export(run_dir, to, path)
        out.print(str(path), highlight=False, soft_wrap=True)
