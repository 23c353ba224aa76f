"""How commands answer: a table for people, JSON for programs."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from label_config.files import write_json

WIDTH_IN_FILES = 140
"""Columns of a table that goes to a file or a pipe, which has no width of its own."""

MOST_COLUMNS = 3
"""Rows that are printed as columns where they are too wide."""

console = Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILES)
errors = Console(stderr=True)

Row = Mapping[str, Any]


def show(title: str, rows: Sequence[Row], json_file: Path | None = None) -> None:
    """Print rows as a table, columns in the order of the first row, and write them as JSON.

    Few rows that are too wide for the screen are printed as columns.
    """
    table = _table(title, rows)
    if 0 < len(rows) <= MOST_COLUMNS and _width(table) > console.width:
        table = _turned(title, rows)
    console.print(table)
    if json_file is not None:
        write_json(json_file, {"title": title, "rows": [dict(row) for row in rows]})


def say(text: str) -> None:
    """Print a sentence as it stands, whatever brackets a path in it has."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print an error on stderr as it stands."""
    errors.print(f"[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    columns = _names(rows)
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(escape(_cell(row.get(name))) for name in columns))
    return table


def _turned(title: str, rows: Sequence[Row]) -> Table:
    """Every row as a column, named by its first cell."""
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    first, *others = _names(rows)
    table.add_column(first.replace("_", " "))
    for row in rows:
        table.add_column(escape(_cell(row.get(first))), justify="right")
    for name in others:
        table.add_row(name.replace("_", " "), *(escape(_cell(row.get(name))) for row in rows))
    return table


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _width(table: Table) -> int:
    """Columns of the screen that it takes without breaking a line."""
    return Measurement.get(console, console.options.update(max_width=sys.maxsize), table).maximum


def over_repeats(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row per setting: the median over its seeds or repeats, and the range of what differs.

    A setting is what stands before "seed" or "repeat" in a row, and every text after it. Rows
    without either stay as they are. What some seeds could not measure (nan) is left out of them.
    """
    number = next((name for name in ("seed", "repeat") if all(name in row for row in rows)), None)
    if number is None:
        return [dict(row) for row in rows]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        names = list(row)
        settings = names[: names.index(number)]
        key = tuple((n, row[n]) for n in names if n in settings or isinstance(row[n], str))
        groups.setdefault(key, []).append(row)
    return [
        {**dict(key), **_medians(group, {**dict(key), number: None})}
        for key, group in groups.items()
    ]


def _medians(rows: Sequence[Row], setting: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in rows[0]:
        values = [r[name] for r in rows if isinstance(r.get(name), int | float)]
        if name in setting or not values:
            continue
        values = [value for value in values if value == value] or [float("nan")]
        middle, low, high = statistics.median(values), min(values), max(values)
        same = low == high or len(values) == 1
        found[name] = middle if same else f"{_cell(middle)} ({_cell(low)}-{_cell(high)})"
    return found


def experiment_json(
    name: str,
    command: str,
    rows: Sequence[Row],
    goals: Sequence[Row],
    *,
    seeds: Sequence[int],
    data_hash: str,
    findings: Sequence[str] = (),
) -> dict[str, Any]:
    """The record of one experiment or benchmark: what was run, where, and what came out."""
    return {
        "name": name,
        "command": command,
        "commit": _commit(),
        "data_hash": data_hash,
        "seeds": list(seeds),
        "machine": machine(),
        "rows": [dict(row) for row in rows],
        "goals": [dict(goal) for goal in goals],
        "findings": list(findings),
    }


def markdown(record: Mapping[str, Any], rows: Sequence[Row], *, figure: str = "") -> str:
    """The report of an experiment's record: goals first, then `rows`, a summary of its own.

    `figure`: the name of an image that stands beside it.
    """
    about, findings = record["machine"], record.get("findings", ())
    return (
        "\n\n".join(
            (
                f"# {record['name']}",
                f"`{record['command']}` at commit {record['commit']}, seeds "
                f"{', '.join(map(str, record['seeds']))}, data {record['data_hash']}; "
                f"{about['cores']} cores, Python {about['python']}, torch {about['torch']}.",
                "Rows are medians over seeds or repeats, with the range in brackets. Goals are "
                "means where an interval stands beside them, medians where a range does, else what "
                "`goals` of the experiment's module says.",
                *(["\n".join(f"- {said}" for said in findings)] if findings else []),
                _pipes(record["goals"]),
                *([f"![{record['name']}]({figure})"] if figure else []),
                _pipes(rows),
            )
        )
        + "\n"
    )


def _pipes(rows: Sequence[Row]) -> str:
    columns = _names(rows)
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(name)).replace("|", "\\|") for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> dict[str, Any]:
    """What a reader needs to judge a timing; no host name."""
    import torch  # slow to import, and only experiments come here

    return {
        "processor": platform.machine(),
        "cores": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _commit() -> str | None:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None  # installed from a wheel
    return found.stdout.strip()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if value == value else "-"
    return str(value)
