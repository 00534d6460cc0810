"""``plasticbench jobs``: benchmarks that were submitted to a Ray cluster."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from plasticbench.platform.terminal import out, people_errors

Dashboard = Annotated[
    str | None, typer.Option("--address", help="http://HOST:8265 of the cluster; default: RAY_ADDRESS.")
]
Job = Annotated[str, typer.Argument(help="Id that `submit` printed.")]

jobs_app = typer.Typer(no_args_is_help=True, help="Benchmarks that were submitted to a Ray cluster.")


def follow_job(address: str | None, job_id: str) -> None:
    """Prints a job's output until it ends, and exits with its code."""
    from plasticbench.platform.cluster import jobs

    with people_errors(), jobs.job_server(address) as client:
        try:
            code = jobs.follow(client, job_id, lambda text: typer.echo(text, nl=False))
        except KeyboardInterrupt:
            out.print("\nThe job goes on without you.")
            say_how_to_follow(address, job_id)
            raise
    raise typer.Exit(code)


def say_how_to_follow(address: str | None, job_id: str) -> None:
    """The commands for it."""
    option = f" --address {shlex.quote(address)}" if address else ""
    for verb, command in (("Follow", "logs --follow"), ("Stop", "stop")):
        out.print(f"{verb} it: plasticbench jobs {command} {job_id}{option}", highlight=False, soft_wrap=True)


@jobs_app.command("list")
def list_jobs(address: Dashboard = None) -> None:
    """Lists all jobs of a cluster, the newest first."""
    from plasticbench.platform.cluster import jobs

    with people_errors(), jobs.job_server(address) as client:
        for job in sorted(client.list_jobs(), key=lambda job: job.start_time or 0, reverse=True):
            typer.echo(jobs.describe(job))


@jobs_app.command("status")
def job_status(job_id: Job, address: Dashboard = None) -> None:
    """Says where a job stands."""
    from plasticbench.platform.cluster import jobs

    with people_errors(), jobs.job_server(address) as client:
        job = client.get_job_info(job_id)
        typer.echo(f"{jobs.describe(job)}\n{job.message or ''}")


@jobs_app.command()
def logs(
    job_id: Job,
    address: Dashboard = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends; exit with its code.")] = False,
) -> None:
    """Prints a job's output."""
    if follow:
        follow_job(address, job_id)
    from plasticbench.platform.cluster import jobs

    with people_errors(), jobs.job_server(address) as client:
        typer.echo(client.get_job_logs(job_id), nl=False)


@jobs_app.command()
def stop(job_id: Job, address: Dashboard = None) -> None:
    """Makes a job commit what it has and end."""
    from plasticbench.platform.cluster import jobs

    with people_errors(), jobs.job_server(address) as client:
        stopped = client.stop_job(job_id)
    typer.echo("Stopping: every population commits first." if stopped else "It had ended already.")
