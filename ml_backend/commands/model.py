"""Commands on models: auto-label, train, evaluate, audit-codes, models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ml_backend import table
from ml_backend.commands.options import JsonOption, WorkspaceArgument, progress_bar

models = typer.Typer(
    help="List, compare, promote and roll back model versions.", no_args_is_help=True
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("auto-label", rich_help_panel="Models")(auto_label)
    app.command("train", rich_help_panel="Models")(train)
    app.command("evaluate", rich_help_panel="Models")(evaluate)
    app.command("audit-codes", rich_help_panel="Models")(audit_codes)
    app.add_typer(models, name="models", rich_help_panel="Models")


def auto_label(workspace: WorkspaceArgument, json_file: JsonOption = None) -> None:
    """Map every diagnosis name of the pool to a code, with confidence."""
    from ml_backend import steps
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        codings = steps.auto_label(Workspace(workspace), progress=progress)
    counts = steps.code_counts(codings)
    rows = [{"code": code, "emrs": count} for code, count in counts.most_common()]
    table.show(f"noisy codes of {len(codings)} EMRs", rows, json_file)


def train(
    workspace: WorkspaceArgument,
    network: Annotated[
        str,
        typer.Option(help="Graph network from now on: none, quick, best or paper (kept)."),
    ] = "",
    fine_tune: Annotated[
        bool | None,
        typer.Option(
            "--fine-tune/--no-fine-tune",
            help="Fine-tune the encoder's top layers for it first (extra lora; kept).",
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Train a new model version on all EMRs, noisy and clean; it serves if it is not worse.

    Without clean EMRs this makes the cold-start model, which has no network.
    """
    from ml_backend import steps
    from ml_backend.workspace import Workspace

    opened = Workspace(workspace)
    asked = {"network": network or None, "fine_tune": fine_tune}
    if changes := {name: value for name, value in asked.items() if value is not None}:
        opened.configure(**changes)
    with progress_bar() as progress:
        trained = steps.train_model(opened, progress=progress)
    row = {"version": trained.version.version, "serves": trained.promoted}
    table.show("trained", [{**row, **trained.version.validation}], json_file)


def audit_codes(
    workspace: WorkspaceArgument,
    noisy: Annotated[
        bool, typer.Option("--noisy", help="Audit the automatic codes instead of the coders'.")
    ] = False,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out findings less sure than this.")
    ] = 0.3,
    most: Annotated[int, typer.Option(min=1, help="Findings at most.")] = 100,
    json_file: JsonOption = None,
) -> None:
    """Rank codes that are probably missing, wrong, vague or extra, each with the text for it.

    Every EMR is judged by members that learned from the others; nothing is changed.
    """
    from ml_backend.workspace import Workspace
    from training.auditor import AuditConfig, audit

    opened = Workspace(workspace)
    emrs = {emr.emr_id: emr for emr in opened.read_pool()}
    with progress_bar() as progress:
        found = audit(
            list(emrs.values()),
            opened.read_noisy() if noisy else opened.read_clean(),
            taxonomy=opened.taxonomy,
            codes=opened.config.codes,
            config=AuditConfig(least=least, most=most),
            progress=progress,
        )
    rows = [
        {
            "emr_id": finding.emr_id,
            "kind": finding.kind,
            "code": finding.code,
            "score": round(finding.score, 3),
            "instead": finding.instead,
            "text": "; ".join(
                emrs[finding.emr_id].text_of(span.section)[span.start : span.end]
                for span in finding.evidence
            ),
        }
        for finding in found
    ]
    table.show(f"{len(rows)} codes to look at", rows, json_file)


def evaluate(
    workspace: WorkspaceArgument,
    emrs: Annotated[Path, typer.Option(help="EMRs that no model has seen.")],
    gold: Annotated[Path, typer.Option(help="Their true codes.")],
    version: Annotated[str, typer.Option(help="Model version; the live one if empty.")] = "",
    explain: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of so many ticked codes, also measure how far the probability falls without the "
            "highlighted text, and without all other text. Takes six predictions per code.",
            metavar="N",
        ),
    ] = 0,
    json_file: JsonOption = None,
) -> None:
    """Measure a model on held-back EMRs with known codes.

    Codes, near misses in the code tree, and highlights where the true codes come with evidence.
    """
    from ml_backend import steps
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        row = steps.evaluate_model(
            Workspace(workspace), emrs, gold, version, explained=explain, progress=progress
        )
    rows = [{"figure": name, "value": value} for name, value in row.items()]
    table.show("held-back EMRs", rows, json_file)


@models.command("list")
def list_models(workspace: WorkspaceArgument, json_file: JsonOption = None) -> None:
    """Show every version, its validation and which one serves."""
    from ml_backend.registry import Registry
    from ml_backend.workspace import Workspace

    registry = Registry(Workspace(workspace).models_folder)
    live = registry.live()
    rows = [
        {"version": v.version, "made": v.made, "serves": v == live, **v.validation}
        for v in registry.versions()
    ]
    table.show("model versions", rows, json_file)


@models.command()
def compare(
    workspace: WorkspaceArgument,
    first: Annotated[str, typer.Argument(help="A version.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    json_file: JsonOption = None,
) -> None:
    """Show two versions' validation side by side; each was measured on its own clean EMRs."""
    from ml_backend.registry import Registry
    from ml_backend.workspace import Workspace

    registry = Registry(Workspace(workspace).models_folder)
    one, two = registry[first], registry[second]
    rows = [
        {"score": name, first: one.validation.get(name), second: two.validation.get(name)}
        for name in dict.fromkeys([*one.validation, *two.validation])
    ]
    table.show(f"{first} and {second}", rows, json_file)


@models.command()
def promote(workspace: WorkspaceArgument, version: Annotated[str, typer.Argument()]) -> None:
    """Let a version serve from now on; one with codes that the project no longer has is refused."""
    from ml_backend.registry import Registry
    from ml_backend.workspace import Workspace

    opened = Workspace(workspace)
    Registry(opened.models_folder).promote(version, opened.config.codes)
    table.say(f"{version} serves")


@models.command()
def rollback(workspace: WorkspaceArgument) -> None:
    """Let the version before the live one serve again."""
    from ml_backend.registry import Registry
    from ml_backend.workspace import Workspace

    opened = Workspace(workspace)
    version = Registry(opened.models_folder).rollback(opened.config.codes)
    table.say(f"{version.version} serves")
