"""Commands on runs that are there: reading them, seeing what there is, tidying up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plasticbench.platform.runs.options import AsJson
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
        from plasticbench.platform.runs.running import sound_location

        sound_location(run_dir)
        path = out_file or Path(f"records.{to}")
        records_table.export(run_dir, to, path)
        out.print(str(path), highlight=False, soft_wrap=True)


def power(
    run_dir: RunDir,
    difference: Annotated[float, typer.Option(help="Of mean final scores, for which seeds are counted.")] = 0.1,
    as_json: AsJson = False,
) -> None:
    """Says of each task how well its methods are told apart, and how many seeds a difference needs."""
    with people_errors():
        import json

        from plasticbench.analysis import power as powers
        from plasticbench.platform.runs.running import sound_location

        found = powers.power(sound_location(run_dir), difference)
        typer.echo(json.dumps(powers.to_json(found), indent=2) if as_json else powers.to_text(found))


def clean(
    run_dir: RunDir,
    keep: Annotated[str, typer.Option(help="records, weights or all.")] = "weights",
    everything: Annotated[bool, typer.Option("--all", help="Remove the whole run, with its records.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Shows what a run takes on disk and removes what is not needed any more, by default the checkpoints."""
    with people_errors():
        from plasticbench.platform.runs import cleaning
        from plasticbench.platform.runs.listing import size
        from plasticbench.platform.runs.running import directory_of

        if keep not in cleaning.KEPT:
            raise ValueError(f"--keep: must be one of {', '.join(cleaning.KEPT)}, got {keep!r}")
        directory = directory_of(run_dir)
        directory.require()
        with directory.lock():
            planned = cleaning.plan_cleaning(directory, keep, everything)
            for part, num_bytes in planned.sizes.items():
                goes = f"  removes {size(planned.freed[part])}" if part in planned.freed else ""
                out.print(f"{part:<18}{size(num_bytes):>14}{goes}", highlight=False)
            if planned.num_unfinished and not everything and keep != "all":
                out.print(
                    f"{planned.num_unfinished} populations are not over: their checkpoints stay.", highlight=False
                )
            if not planned.files or dry_run:
                return
            what = "everything, with all records" if everything else "this"
            if yes or typer.confirm(f"Remove {what}?"):
                cleaning.clean(directory, planned)
                out.print(f"Removed {size(sum(planned.freed.values()))}.", highlight=False)


def list_runs(folder: str, as_json: bool) -> None:
    """One line a run."""
    from plasticbench.platform.runs import listing

    found = listing.list_runs(folder)
    if as_json:
        typer.echo(listing.to_json(found))
        return
    for line in listing.to_text(found) if found else [f"There are no runs in {folder}."]:
        out.print(line, highlight=False, markup=False, soft_wrap=True)
