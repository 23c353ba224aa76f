"""Commands that look back: feedback, replay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from label_config.errors import DataError
from label_config.files import write_json
from ml_backend import table
from ml_backend.commands.options import JsonOption, WorkspaceArgument, progress_bar
from ml_backend.commands.project import client

if TYPE_CHECKING:
    from ml_backend.dashboard.work import Corrections
    from ml_backend.workspace import Workspace

ExportOption = Annotated[
    Path | None,
    typer.Option(help="Label Studio's JSON export or snapshot.", metavar="FILE"),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("feedback", rich_help_panel="Models")(feedback)
    app.command("replay", rich_help_panel="Models")(replay)


def feedback(
    workspace: WorkspaceArgument,
    export: ExportOption = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask Label Studio instead of reading an export.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Show what coders kept, took out and added: per code, and with an export or --live per member.

    Acceptance is the share of suggestions that were kept, correction the share of all decisions
    that a coder changed. The lead's page shows the members' figures from then on.
    """
    from ml_backend.acceptance import corrections_by_member
    from ml_backend.dashboard.figures import MEMBERS_FILE
    from ml_backend.dashboard.work import corrections_by_code
    from ml_backend.workspace import Workspace

    opened = Workspace(workspace)
    by_code = corrections_by_code(opened.read_clean())
    codes = [{"code": code, **_figures(by_code[code])} for code in sorted(by_code)]
    table.show("what became of the suggestions, by code", codes)
    members: list[dict[str, Any]] = []
    member_codes: list[dict[str, Any]] = []
    if export is not None or live:
        for found in corrections_by_member(tasks_of(opened, export)):
            members.append({"member": found.member, **_figures(found.total)})
            for code, each in found.codes.items():
                member_codes.append({"member": found.member, "code": code, **_figures(each)})
        table.show("by member: what it said, whatever the others did", members)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(opened.folder / MEMBERS_FILE, {"at": now, "rows": members})
    if json_file is not None:
        values = {"codes": codes, "members": members, "members_and_codes": member_codes}
        write_json(json_file, values)


def replay(
    workspace: WorkspaceArgument,
    emrs: Annotated[
        list[str] | None, typer.Argument(help="EMRs; all of them if none is named.", metavar="EMR")
    ] = None,
    export: ExportOption = None,
    version: Annotated[str, typer.Option(help="Only this version's predictions.")] = "",
    json_file: JsonOption = None,
) -> None:
    """Make stored predictions again with the version that each names, and compare.

    Reads an export (a snapshot holds most), or else Label Studio. Exit code 1 if one differs.
    """
    from ml_backend import replay as again
    from ml_backend.registry import Registry
    from ml_backend.workspace import Workspace

    opened = Workspace(workspace)
    registry = Registry(opened.models_folder)
    if version:
        registry[version]  # says which there are
    with progress_bar() as progress:
        progress("reading predictions", 0, 0)
        tasks = tasks_of(opened, export)
        stored = list(again.stored_predictions(tasks, version=version, emr_ids=emrs or ()))
        found = again.replay(opened, stored, progress=progress)
    used = {replayed.version for replayed in found}
    versions = [again.provenance(v) for v in registry.versions() if v.version in used]
    rows = [_replayed(replayed) for replayed in found]
    differs = sum(row["outcome"] == again.DIFFERS for row in rows)
    table.show("the versions", versions)
    table.show(f"{len(rows)} stored predictions, {differs} differ", rows)
    if json_file is not None:
        write_json(json_file, {"versions": versions, "rows": rows})
    if differs:
        raise DataError(f"{differs} of {len(rows)} stored predictions came out otherwise")


def tasks_of(workspace: Workspace, export: Path | None) -> Iterable[Mapping[str, Any]]:
    """The tasks of an export, or else of Label Studio, one at a time."""
    from label_config.export_file import stream_tasks
    from label_config.interface import CONTROLS
    from ml_backend import steps

    if export is not None:
        return (task for task in stream_tasks(export, CONTROLS) if isinstance(task, dict))
    return client().tasks(steps.project_id(workspace))


def _figures(found: Corrections) -> dict[str, Any]:
    return {
        "suggested": found.suggested,
        "kept": found.accepted,
        "removed": found.removed,
        "added": found.added,
        "acceptance": None if found.acceptance is None else round(found.acceptance, 3),
        "correction": None if found.correction is None else round(found.correction, 3),
    }


def _replayed(replayed: Any) -> dict[str, Any]:
    values = dataclasses.asdict(replayed)
    return {k: ", ".join(v) if isinstance(v, tuple) else v for k, v in values.items()}
