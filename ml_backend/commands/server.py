"""Commands that run until interrupted: serve, worker, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ml_backend.commands.options import JsonOption


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("serve", rich_help_panel="Servers")(serve)
    app.command("worker", rich_help_panel="Servers")(worker)
    app.command("demo", rich_help_panel="Servers")(demo)


def serve(
    workspaces: Annotated[
        list[Path], typer.Argument(help="One or more projects.", metavar="WORKSPACE...")
    ],
) -> None:
    """Run the ML backend that Label Studio calls (see CLINICOCO_BACKEND_*)."""
    from ml_backend.settings import settings
    from ml_backend.workers import serve as run

    run(workspaces, settings())


def worker() -> None:
    """Run queued trainings, one after the other."""
    from ml_backend.jobs import run_worker
    from ml_backend.logs import log_json

    log_json()
    run_worker()


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("demo-data"),
    once: Annotated[
        bool, typer.Option("--once", help="Simulated coders do the work; print a table; exit.")
    ] = False,
    emrs: Annotated[int, typer.Option(min=50, help="EMRs of the simulated hospital.")] = 600,
    quota: Annotated[int, typer.Option(min=1, help="Clean EMRs wanted per code.")] = 3,
    batch: Annotated[int, typer.Option(min=1, help="EMRs per batch.")] = 25,
    seed: Annotated[int, typer.Option(help="Same seed, same hospital.")] = 0,
    json_file: JsonOption = None,
) -> None:
    """Show the whole loop on a real Label Studio with a simulated hospital."""
    from ml_backend.demo import DemoConfig, run_demo

    config = DemoConfig(folder=folder, emrs=emrs, quota=quota, batch=batch, seed=seed)
    run_demo(config, once=once, json_file=json_file)
