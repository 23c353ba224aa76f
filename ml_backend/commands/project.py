"""Commands on the Label Studio project: set-up, select, push, pull, coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend import table
from ml_backend.commands.options import JsonOption, WorkspaceArgument, progress_bar

if TYPE_CHECKING:
    from ml_backend.label_studio import LabelStudioClient


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for name, command in (
        ("set-up", set_up), ("select", select), ("push", push), ("pull", pull),
        ("refresh", refresh),
    ):  # fmt: skip
        app.command(name, rich_help_panel="Labelling")(command)


def client() -> LabelStudioClient:
    """The client for the Label Studio that the environment names."""
    from ml_backend.label_studio import LabelStudioClient
    from ml_backend.settings import settings

    return LabelStudioClient(
        settings().label_studio_url, settings().label_studio_token.get_secret_value()
    )


def set_up(
    workspace: WorkspaceArgument,
    interface: Annotated[
        str, typer.Option(help="Screen: coding, choices (small code sets) or evidence (review).")
    ] = "",
    overlap: Annotated[
        int | None,
        typer.Option(min=1, help="How many coders see each EMR; from 2 on to measure agreement."),
    ] = None,
) -> None:
    """Create the project in Label Studio, or repair it, and connect the running backend.

    Addresses and credentials come from the environment: CLINICOCO_LABEL_STUDIO_URL,
    CLINICOCO_LABEL_STUDIO_TOKEN, CLINICOCO_BACKEND_URL, CLINICOCO_BROWSER_URL,
    CLINICOCO_BACKEND_USER, CLINICOCO_BACKEND_PASSWORD.
    """
    from ml_backend.steps import set_up_project
    from ml_backend.workspace import Workspace

    opened = Workspace(workspace)
    if interface:
        opened.configure(interface=interface)
    if overlap is not None:
        opened.configure(overlap=overlap)
    url = set_up_project(opened, client())
    table.say(f"ready: {url}")


def select(
    workspace: WorkspaceArgument,
    size: Annotated[int, typer.Option(min=1, help="EMRs in the batch.")] = 25,
    json_file: JsonOption = None,
) -> None:
    """Choose the EMRs that coders should see next, each with its reason."""
    from ml_backend import steps
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        progress("choosing EMRs", 0, 0)
        batch = steps.select(Workspace(workspace), size, progress=progress)
    if batch is None:
        table.show("nothing left worth annotating: see `clinicoco coverage`", [], json_file)
        return
    rows = [
        {"order": i, "emr_id": emr_id, "reason": reason}
        for i, (emr_id, reason) in enumerate(zip(batch.emr_ids, batch.reasons, strict=True), 1)
    ]
    table.show(f"batch {batch.name}", rows, json_file)


def push(workspace: WorkspaceArgument) -> None:
    """Send every chosen EMR that is not there yet to Label Studio, with its suggestions."""
    from ml_backend import steps
    from ml_backend.workspace import Workspace

    opened, sent = Workspace(workspace), 0
    with progress_bar() as progress:
        for batch in opened.batches():
            sent += steps.push(opened, client(), batch, progress=progress)
    table.say(f"pushed {sent} new tasks of {len(opened.batches())} batches")


def refresh(workspace: WorkspaceArgument) -> None:
    """Give tasks that no coder has touched the suggestions of the live model."""
    from ml_backend import steps
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        count = steps.refresh(Workspace(workspace), client(), progress=progress)
    table.say(f"refreshed {count} tasks")


def pull(
    workspace: WorkspaceArgument,
    anew: Annotated[
        bool, typer.Option("--anew", help="Read every annotation, not only what changed.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Bring the coders' codes and evidence back."""
    from ml_backend import steps
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        progress("reading annotations", 0, 0)
        count, problems = steps.pull(Workspace(workspace), client(), anew=anew)
    rows = [{"where": p.where, "reason": p.reason} for p in problems]
    if rows or json_file:
        table.show(f"{len(rows)} annotations left out", rows, json_file)
    table.say(f"{count} clean EMRs")
