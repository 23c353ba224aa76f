"""The command on exports of Label Studio: import-export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from label_config.files import write_json
from ml_backend import table
from ml_backend.commands.options import JsonOption, progress_bar

MOST_SHOWN = 20


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("import-export", rich_help_panel="Data")(import_export)


def import_export(
    file: Annotated[
        Path, typer.Argument(help="Label Studio's export: JSON, JSON_MIN, .csv or .tsv.")
    ],
    into: Annotated[
        Path | None, typer.Option(help="A workspace that gets them.", metavar="WORKSPACE")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for emrs.parquet and clean.parquet instead.")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML: which fields and controls of another interface hold what."),
    ] = None,
    taxonomy: Annotated[
        Path | None, typer.Option(help="CSV of another code set, with --out; else ICD-10-CM.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Take EMRs and coders' codes out of an export, of our interface or by --mapping of another.

    Of an EMR's annotations the starred or else the latest one counts; each that cannot be read is
    named by its number, and the rest goes in. JSON and snapshots hold most: JSON_MIN and CSV say
    neither what was suggested nor who drew a highlight.
    """
    from label_config.mapping import ExportMapping
    from label_config.taxonomy import Taxonomy
    from ml_backend.exports import export_to_files, export_to_workspace
    from ml_backend.workspace import Workspace

    if (into is None) == (out is None):
        raise typer.BadParameter("needed --into WORKSPACE or --out FOLDER, one of them")
    fields = None if mapping is None else ExportMapping.from_yaml(mapping)
    with progress_bar() as progress:
        progress("reading annotations", 0, 0)
        if into is not None:
            found = export_to_workspace(file, Workspace(into), fields, progress=progress)
        else:
            assert out is not None  # noqa: S101 - one of them by the check above
            tree = Taxonomy.icd10cm() if taxonomy is None else Taxonomy.from_csv(taxonomy)
            found = export_to_files(file, out, tree, fields, progress=progress)
    rows = [{"where": p.where, "reason": p.reason} for p in found.problems]
    if rows:
        title = f"{len(rows)} things left out of {file}"
        more = len(rows) - MOST_SHOWN
        table.show(title + (f", the first {MOST_SHOWN}" if more > 0 else ""), rows[:MOST_SHOWN])
    if json_file is not None:
        write_json(json_file, {"title": f"left out of {file}", "rows": rows})
    table.say(f"{found.codings} coded EMRs of {found.tasks} tasks, {found.new_emrs} new")
    if into is not None and found.new_emrs:
        table.say("next: `clinicoco auto-label`, then `clinicoco train`")
