"""Commands that measure: experiment, bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from label_config.errors import ConfigError
from ml_backend import table
from ml_backend.commands.options import JsonOption, progress_bar

QuickOption = Annotated[bool, typer.Option("--quick", help="A small version, for a first look.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("experiment", rich_help_panel="Measuring")(experiment)
    app.command("bench", rich_help_panel="Measuring")(bench)


def experiment(
    name: Annotated[str, typer.Argument(help="Which one; an unknown name lists them.")],
    quick: QuickOption = False,
    data: Annotated[Path | None, typer.Option(help="Folder of a real corpus, if needed.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Run an experiment: a question about quality, answered over several seeds."""
    from simulator.experiment import EXPERIMENTS

    _run("experiment", EXPERIMENTS, name, quick, data, json_file)


def bench(
    name: Annotated[str, typer.Argument(help="Which one; an unknown name lists them.")],
    quick: QuickOption = False,
    json_file: JsonOption = None,
) -> None:
    """Run a benchmark: time and memory, as ratios to a baseline of the same run."""
    from simulator.experiment import BENCHMARKS

    _run("bench", BENCHMARKS, name, quick, None, json_file)


def _run(
    kind: str,
    known: dict[str, Any],
    name: str,
    quick: bool,
    data: Path | None,
    json_file: Path | None,
) -> None:
    if name not in known:
        raise ConfigError(f"no {kind} {name!r}; there are: {', '.join(sorted(known))}")
    with progress_bar() as progress:
        result = known[name](quick=quick, data=data, progress=progress)
    table.show(f"{kind} {name}", result.rows)
    table.show("goals", result.goals)
    if json_file is not None:
        from label_config.files import write_json

        command = " ".join(["clinicoco", *sys.argv[1:]])
        write_json(
            json_file,
            table.experiment_json(
                name, command, result.rows, result.goals,
                seeds=result.seeds, data_hash=result.data_hash,
            ),
        )  # fmt: skip
