"""Arguments that several commands share, and the progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from ml_backend import table

if TYPE_CHECKING:
    from ml_backend.steps import Progress as Report

WorkspaceArgument = Annotated[
    Path, typer.Argument(help="The project's folder.", metavar="WORKSPACE")
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write the table to this file too.", metavar="FILE")
]
SeedOption = Annotated[int, typer.Option(help="Same seed, same result.")]


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Show a bar per step on a terminal, a line per step elsewhere; always on stderr."""
    if not table.errors.is_terminal:
        yield _lines()
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=table.errors, transient=True) as bars:
        known: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in known:
                for earlier in known.values():
                    bars.update(earlier, total=1, completed=1)
                known[step] = bars.add_task(step, total=None, count="")
            count = f"{done}/{total}" if total > 1 else ""
            bars.update(known[step], completed=done, total=total or None, count=count)

        yield report


def _lines() -> Report:
    said: set[str] = set()

    def report(step: str, done: int, total: int) -> None:
        if step not in said:
            said.add(step)
            table.errors.print(f"… {step}", highlight=False)

    return report
