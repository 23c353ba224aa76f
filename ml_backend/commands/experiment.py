"""Commands that measure: experiment, bench."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version as release
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from label_config.errors import ConfigError
from label_config.files import atomic_path, write_json
from label_config.measured import Measured
from ml_backend import table
from ml_backend.commands.options import JsonOption, progress_bar
from ml_backend.locks import locked

if TYPE_CHECKING:
    from simulator.experiments.chosen import Chosen
    from simulator.experiments.kept import Kept

ReportOption = Annotated[
    Path | None, typer.Option(help="Write a Markdown report to this file.", metavar="FILE")
]
QuickOption = Annotated[bool, typer.Option("--quick", help="A small version, for a first look.")]

EXPERIMENTS = {
    "codiesp": "simulator.experiments.codiesp",
    "forecast": "simulator.experiments.forecast",
    "names": "simulator.experiments.names",
    "noise": "simulator.experiments.noise",
    "rules": "simulator.experiments.rules",
    "sampler": "simulator.experiments.sampler",
    "curves": "simulator.experiments.curves",
    "table2": "simulator.experiments.network_table2",
    "table3": "simulator.experiments.network_table3",
    "table4": "simulator.experiments.network_table4",
    "fig6": "simulator.experiments.network_fig6",
    "transfer": "simulator.experiments.network_transfer",
    "parts": "simulator.experiments.network_parts",
    "amounts": "simulator.experiments.network_amounts",
    "fusion": "simulator.experiments.network_fusion",
}
"""Name -> module with `run(quick, seeds, progress=None, data=None, kept=NOTHING) -> Measured`.

Where single places and rows can be asked for, it takes `chosen` too.
"""
BENCHMARKS = {
    "sampler": "sampler.benchmark",
    "simulate": "simulator.benchmark",
    "train": "simulator.experiments.network_speed",
    "predict": "simulator.experiments.network_predict",
    "server": "ml_backend.bench_server",
    "pull": "ml_backend.bench_pull",
    "kills": "ml_backend.chaos",
}
"""Name -> module with `run(quick, progress=None) -> Measured`."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("experiment", rich_help_panel="Measuring")(experiment)
    app.command("bench", rich_help_panel="Measuring")(bench)


def experiment(
    name: Annotated[str, typer.Argument(help="Which one; an unknown name lists them.")],
    quick: QuickOption = False,
    seeds: Annotated[int, typer.Option(min=1, help="How many repeats.")] = 5,
    first_seed: Annotated[
        int, typer.Option(min=0, help="Seeds below 100 were looked at while tuning.")
    ] = 100,
    data: Annotated[
        Path | None, typer.Option(help="A real corpus to add, if it takes one.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Finished rows are kept in FILE; begun again, the run goes on from there.",
            metavar="FILE",
        ),
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(help="Only this hospital or corpus; repeatable.", metavar="NAME"),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this row, beside the one that all are compared with; repeatable.",
            metavar="NAME",
        ),
    ] = None,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Run an experiment: a question about quality, answered over several seeds."""
    _refuse_unknown("experiment", EXPERIMENTS, name)
    options: dict[str, Any] = {"quick": quick, "seeds": range(first_seed, first_seed + seeds)}
    if data is not None:
        options["data"] = data
    if place or row:
        options["chosen"] = _chosen(name, place or (), row or ())
    if keep is None:
        _run("experiment", EXPERIMENTS, name, json_file, report, **options)
        return
    with _kept(keep, name, quick=quick) as kept:
        _run("experiment", EXPERIMENTS, name, json_file, report, **options, kept=kept)


def _chosen(name: str, places: Sequence[str], rows: Sequence[str]) -> Chosen:
    from simulator.experiments.chosen import Chosen

    if "chosen" not in inspect.signature(import_module(EXPERIMENTS[name]).run).parameters:
        raise ConfigError(f"experiment {name} is made whole: it takes neither --place nor --row")
    return Chosen(tuple(places), tuple(rows))


@contextmanager
def _kept(path: Path, name: str, *, quick: bool) -> Iterator[Kept]:
    """The rows of the file; its first line holds what the record says of all rows alike."""
    from simulator.experiments.kept import KeptInFile, content_hash  # numpy is slow to import

    record = table.experiment_json(name, "", [], [], seeds=(), data_hash="")
    commit = record["commit"] and record["commit"].removesuffix("-dirty")
    about = {"experiment": name, "quick": quick, "version": release("clinicoco"), "commit": commit}
    with locked(path, wait=False) as is_ours:
        if not is_ours:
            raise ConfigError(f"needed {path} for this run alone, but another run is writing to it")
        yield KeptInFile(path, about | {"code": content_hash()} | record["machine"])


def bench(
    name: Annotated[str, typer.Argument(help="Which one; an unknown name lists them.")],
    quick: QuickOption = False,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Run a benchmark: time and memory, as ratios to a baseline of the same run."""
    _refuse_unknown("bench", BENCHMARKS, name)
    _run("bench", BENCHMARKS, name, json_file, report, quick=quick)


def _refuse_unknown(kind: str, known: Mapping[str, str], name: str) -> None:
    if name not in known:
        raise ConfigError(f"no {kind} {name!r}; there are: {', '.join(sorted(known))}")


def _run(
    kind: str,
    known: Mapping[str, str],
    name: str,
    json_file: Path | None,
    report: Path | None,
    **options: Any,
) -> None:
    with progress_bar() as progress:
        result: Measured = import_module(known[name]).run(
            **options, progress=lambda done, total: progress(f"{kind} {name}", done, total)
        )
    summary = [
        {k: v for k, v in row.items() if not result.shown or k in result.shown}
        for row in table.over_repeats(result.rows)
    ]
    table.show(f"{kind} {name}, median (range)", summary)
    table.show("goals", result.goals)
    record = table.experiment_json(
        name,
        shlex.join(["clinicoco", *sys.argv[1:]]),
        result.rows,
        result.goals,
        seeds=result.seeds,
        data_hash=result.data_hash,
        findings=result.findings,
    )
    for said in result.findings:
        typer.echo(said)
    if json_file is not None:
        write_json(json_file, record)
    if report is not None:
        image = report.with_suffix(".png")
        if result.figure is not None:
            result.figure(image)
        text = table.markdown(record, summary, figure=image.name if result.figure else "")
        with atomic_path(report) as path:
            path.write_text(text, "utf-8")
