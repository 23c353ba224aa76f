"""The command that moves a project to another release or code set: migrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from label_config.files import write_json
from label_config.taxonomy import Taxonomy
from ml_backend import table
from ml_backend.commands.options import JsonOption, WorkspaceArgument

if TYPE_CHECKING:
    from ml_backend.migrate import Plan

MOST_SHOWN = 40


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("migrate", rich_help_panel="Data")(migrate)


def migrate(
    workspace: WorkspaceArgument,
    table_file: Annotated[
        Path | None,
        typer.Option("--table", help="CSV with columns old and new, a row per pair."),
    ] = None,
    taxonomy: Annotated[
        Path | None, typer.Option(help="CSV of the new code set, if it is another one.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would happen; write nothing.")
    ] = False,
    tab: Annotated[
        bool, typer.Option("--tab", help="List the EMRs to recode in Label Studio.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the last migration.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Finish a migration that was cut short.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Move the code set, noisy and clean codes and highlights by a table of old and new codes.

    A code with several successors, or none that is known, is never guessed: its EMRs are listed,
    count as unsure, and count again once a coder has decided. Run `pull` first; afterwards restart
    the backend, set up the project, auto-label and train.
    """
    from ml_backend import migrate as steps
    from ml_backend.steps import project_id
    from ml_backend.workspace import Workspace

    if sum((table_file is not None, undo, finish, tab)) != 1:
        raise typer.BadParameter("needed one of --table, --tab, --undo and --finish")
    if finish:
        said = "is finished" if steps.go_on(workspace) else "was not cut short: nothing to do"
        table.say(f"the migration of {workspace} {said}")
        return
    if undo:
        backup = steps.go_back(workspace)
        table.say(f"{workspace} is as it was before migration {backup.name}")
        return
    opened = Workspace(workspace)
    if table_file is None:
        from ml_backend.commands.project import client

        count = steps.show_open(opened, client(), project_id(opened))
        table.say(f'{count} EMRs are in the tab "{steps.TAB}"')
        return
    tree = None if taxonomy is None else Taxonomy.from_csv(taxonomy)
    planned = steps.plan(opened, table_file, tree)
    _show(planned, json_file)
    if dry_run:
        table.say("nothing was written: this was a dry run")
        return
    backup = steps.apply(opened, planned, tree)
    table.say(f"moved; the files before are in {backup / 'old'}")
    table.say(
        "next: restart the backend, then `clinicoco set-up`, `clinicoco auto-label`, "
        "`clinicoco train`"
    )


def _show(planned: Plan, json_file: Path | None) -> None:
    moves: list[dict[str, Any]] = [
        {
            "code": move.code,
            "kind": move.kind,
            "new": ", ".join(move.new),
            "clean_emrs": move.clean_emrs,
            "noisy_emrs": move.noisy_emrs,
        }
        for move in planned.moves
    ]
    rows: list[dict[str, Any]] = [
        {"emr_id": one.emr_id, "code": one.code, "candidates": ", ".join(one.candidates)}
        for one in planned.to_recode
    ]
    more = f", the first {MOST_SHOWN}" if len(moves) > MOST_SHOWN else ""
    table.show(f"{len(moves)} codes change{more}", moves[:MOST_SHOWN])
    more = f", the first {MOST_SHOWN}" if len(rows) > MOST_SHOWN else ""
    table.show(f"{len(rows)} codes for coders to decide{more}", rows[:MOST_SHOWN])
    table.say(f"the set has {len(planned.config.codes)} codes then")
    if json_file is not None:
        values = {"codes": list(planned.config.codes), "moves": moves, "to_recode": rows}
        write_json(json_file, values)
