"""Commands on training jobs: jobs list, jobs cancel."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ml_backend import table
from ml_backend.commands.options import JsonOption, WorkspaceArgument

jobs = typer.Typer(help="List and cancel training jobs.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(jobs, name="jobs", rich_help_panel="Models")


@jobs.command("list")
def list_jobs(workspace: WorkspaceArgument, json_file: JsonOption = None) -> None:
    """Show every training job of a project, newest first: where it stands or how it ended."""
    from ml_backend.jobs import job_status
    from ml_backend.workspace import Workspace

    rows = [_row(status) for status in job_status(Workspace(workspace).folder)]
    table.show("training jobs", rows, json_file)


@jobs.command()
def cancel(
    workspace: WorkspaceArgument, job: Annotated[str, typer.Argument(help="A job's id.")]
) -> None:
    """Let a job that waits never begin, and one that runs end at its next step.

    What the coders' next training needs is kept: nothing of the workspace is changed.
    """
    from ml_backend.jobs import cancel as cancel_job
    from ml_backend.workspace import Workspace

    status = cancel_job(Workspace(workspace).folder, job)
    said = "cancelled" if status["state"] == "cancelled" else "ends at its next step"
    table.say(f"{job}: {said}")


def _row(status: dict[str, Any]) -> dict[str, Any]:
    names = ("job", "state", "step", "done", "total", "version", "promoted", "error", "updated")
    return {name: status.get(name) for name in names}
