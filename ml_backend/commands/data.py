"""Commands on records: init, import, simulate, simulate-check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from label_config.errors import ConfigError
from label_config.taxonomy import Taxonomy
from ml_backend import table
from ml_backend.commands.options import JsonOption, WorkspaceArgument, progress_bar


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("init", rich_help_panel="Data")(init)
    app.command("import", rich_help_panel="Data")(import_)


def init(
    workspace: WorkspaceArgument,
    codes: Annotated[
        Path, typer.Option(help="Text file with one code a line: the project's code set.")
    ],
    title: Annotated[str, typer.Option(help="Shown in Label Studio.")] = "ICD coding",
    quota: Annotated[int, typer.Option(min=1, help="Clean EMRs wanted per code.")] = 5,
    taxonomy: Annotated[
        Path | None,
        typer.Option(help="CSV of another code set (code, title, parent, synonyms)."),
    ] = None,
) -> None:
    """Make a workspace: the folder that holds one project."""
    from ml_backend.workspace import ProjectConfig, Workspace

    tree = Taxonomy.icd10cm() if taxonomy is None else Taxonomy.from_csv(taxonomy)
    config = ProjectConfig(
        title=title,
        codes=read_code_list(codes, tree),
        quota=quota,
        taxonomy="icd10cm" if taxonomy is None else "taxonomy.csv",
    )
    Workspace.create(workspace, config)
    if taxonomy is not None:
        tree.to_csv(workspace / "taxonomy.csv")
    table.console.print(f"{workspace}: {len(config.codes)} codes, quota {quota}")


def read_code_list(path: Path, tree: Taxonomy) -> tuple[str, ...]:
    """Read one code a line, spelled with or without its dot. Raises UnknownCode, ConfigError."""
    try:
        lines = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"cannot read the code list {path}") from None
    return tuple(dict.fromkeys(tree.normalise(line) for line in lines))


def import_(
    workspace: WorkspaceArgument,
    file: Annotated[Path, typer.Argument(help="EMRs as .jsonl or .parquet.")],
    json_file: JsonOption = None,
) -> None:
    """Take EMRs into the pool; broken records are named, the rest goes in."""
    from ml_backend.steps import import_pool
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        progress("reading records", 0, 0)
        count, problems = import_pool(Workspace(workspace), file)
    if problems:
        rows = [{"where": p.where, "reason": p.reason} for p in problems]
        table.show(f"{len(problems)} broken records in {file}", rows, json_file)
    elif json_file is not None:
        table.show(f"no broken records in {file}", [], json_file)
    table.console.print(f"imported {count} EMRs, {len(problems)} left out")
