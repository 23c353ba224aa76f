"""Commands on coverage: coverage, forecast, audit-coverage, disputes, run."""

from __future__ import annotations

import dataclasses
import signal
import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from label_config.errors import DataError
from label_config.files import atomic_path, write_json
from ml_backend import table
from ml_backend.commands.options import JsonOption, WorkspaceArgument, progress_bar
from ml_backend.commands.project import client
from ml_backend.commands.review import tasks_of

if TYPE_CHECKING:
    from ml_backend.dashboard.audit import Audit
    from ml_backend.dashboard.estimate import Estimate
    from ml_backend.dashboard.figures import Figures
    from ml_backend.workspace import Workspace


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for name, command in (
        ("coverage", coverage), ("forecast", forecast), ("audit-coverage", audit_coverage),
        ("disputes", disputes), ("run", run),
    ):  # fmt: skip
        app.command(name, rich_help_panel="Labelling")(command)


def coverage(
    workspace: WorkspaceArgument,
    json_file: JsonOption = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write the lead's page, one file, instead of the table.", metavar="FILE"),
    ] = None,
    only_open: Annotated[
        bool, typer.Option("--open", help="Leave out codes that are met.")
    ] = False,
) -> None:
    """Show how many clean EMRs each code has, needs and can still get."""
    from ml_backend.workspace import Workspace

    opened = Workspace(workspace)
    rows = _rows(opened) if html is None else _write_page(opened, html)
    shown = [row for row in rows if row["state"] != "met"] if only_open else rows
    title = f"coverage of {opened.config.title}, quota {opened.config.quota}"
    if html is None:
        table.show(title, shown, json_file)
    elif json_file is not None:
        write_json(json_file, {"title": title, "rows": shown})
    table.say(_summary(rows))


def forecast(workspace: WorkspaceArgument, json_file: JsonOption = None) -> None:
    """Show how many EMRs, coder hours and days are to go, in all and until each code is met.

    Low and high hold four futures in five. Hours need five timed EMRs; days are calendar days at
    the pace of the last two weeks.
    """
    from ml_backend.dashboard.figures import read_figures
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        progress("playing futures", 0, 0)
        figures = read_figures(Workspace(workspace))
    overall, codes = _overall_rows(figures), _code_rows(figures)
    table.show(f"to go, {figures.title}", overall)
    table.show("EMRs to go until each open code is met", codes)
    found = figures.coverage
    table.say(
        f"{found.with_coders} EMRs are with coders; beyond them no rule blind to the answers can "
        f"be expected to need fewer than {found.bound:.0f}, this plan needs {found.planned:.0f}"
    )
    if json_file is not None:
        write_json(
            json_file,
            {
                "title": figures.title,
                "overall": overall,
                "codes": codes,
                "with_coders": found.with_coders,
                "bound": round(found.bound, 1),
                "planned": round(found.planned, 1),
                "emrs_per_day": figures.emrs_per_day,
            },
        )


def audit_coverage(
    workspace: WorkspaceArgument,
    export: Annotated[
        Path | None,
        typer.Option(help="Label Studio's JSON export: measures agreement.", metavar="FILE"),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask Label Studio for every annotation instead.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Recount everything by hand, and measure agreement where two coders coded one EMR.

    Exit code 1 if the sampler counts otherwise.
    """
    from ml_backend.dashboard.agreement import measure
    from ml_backend.dashboard.audit import audit
    from ml_backend.workspace import Workspace

    opened = Workspace(workspace)
    found = audit(opened)
    report: dict[str, Any] = dataclasses.asdict(found)
    _show_audit(found)
    if export is not None or live:
        agreement = measure(opened, tasks_of(opened, export))
        report["agreement"] = dataclasses.asdict(agreement)
        rows = [dataclasses.asdict(code) for code in agreement.codes]
        alpha = "not defined" if agreement.alpha is None else f"{agreement.alpha:.3f}"
        table.show(f"agreement on {agreement.shared} EMRs coded by two or more", rows)
        table.say(f"Krippendorff's alpha {alpha}, {len(agreement.disputes)} codes are disputed")
    if json_file is not None:
        write_json(json_file, report)
    if found.mismatches:
        raise DataError(f"{len(found.mismatches)} counts differ from the recount")


def disputes(workspace: WorkspaceArgument, json_file: JsonOption = None) -> None:
    """List the codes that coders of one EMR disagree on, and give Label Studio a tab with them.

    There an adjudicator compares the annotations, corrects one and stars it; `pull` takes it.
    """
    from ml_backend.disputes import TAB, push_back
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        progress("reading annotations", 0, 0)
        found = push_back(Workspace(workspace), client())
    rows = [
        {
            "emr_id": dispute.emr_id,
            "code": dispute.code,
            "given_by": ", ".join(dispute.given_by),
            "not_given_by": ", ".join(dispute.not_given_by),
        }
        for dispute in found.disputes
    ]
    table.show(f"{len(rows)} codes in dispute on {found.shared} shared EMRs", rows, json_file)
    if rows:
        table.say(f'Label Studio lists these EMRs in the tab "{TAB}"')


def run(
    workspace: WorkspaceArgument,
    batch: Annotated[int, typer.Option(min=1, help="EMRs of a batch.")] = 25,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 30.0,
    nearly_done: Annotated[
        float,
        typer.Option(min=0, max=1, help="Push when this share of a batch is left."),
    ] = 0.2,
    once: Annotated[bool, typer.Option("--once", help="Look once, then exit.")] = False,
) -> None:
    """Keep coders supplied: pull, refresh after a training, push the next batch; until done.

    Ctrl-C stops it; started again, it goes on where the files and Label Studio stand.
    """
    from ml_backend.loop import Loop, LoopConfig
    from ml_backend.workspace import Workspace

    config = LoopConfig(batch=batch, every=every, nearly_done=nearly_done)
    loop = Loop(Workspace(workspace), client(), config, say=_say)
    if once:
        loop.turn()
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # docker stop ends it as Ctrl-C does
    try:
        loop.run(threading.Event())
    except KeyboardInterrupt:
        _say("stopped; nothing is lost")


def _say(line: str) -> None:
    now = datetime.now().astimezone()
    table.say(f"{now:%H:%M:%S} {line}")


def _summary(rows: list[dict[str, Any]]) -> str:
    states = [row["state"] for row in rows]
    words = f"{states.count('met')} of {len(rows)} codes met, {states.count('open')} open"
    unreachable = [row["code"] for row in rows if row["state"] == "unreachable"]
    if unreachable:
        words += f"; the pool cannot fill {', '.join(unreachable)}"
    return words


def _rows(workspace: Workspace) -> list[dict[str, Any]]:
    from ml_backend import sampling
    from ml_backend.dashboard.coverage import code_rows

    return code_rows(workspace, sampling.coverage(workspace).status())


def _write_page(workspace: Workspace, html: Path) -> list[dict[str, Any]]:
    """Write the page and return the rows that `_rows` would."""
    from ml_backend.dashboard.figures import read_figures
    from ml_backend.dashboard.page import render

    with progress_bar() as progress:
        progress("playing futures", 0, 0)
        figures = read_figures(workspace)
    with atomic_path(html) as path:
        path.write_text(render(figures), "utf-8")
    return [code.row() for code in figures.coverage.codes]


def _overall_rows(figures: Figures) -> list[dict[str, Any]]:
    rows = [{"what": "EMRs", **_ends(figures.coverage.emrs_to_go, 0)}]
    for what, estimate in (("hours", figures.hours_to_go), ("days", figures.days_to_go)):
        rows.append({"what": what, **_ends(estimate, 1)})
    return rows


def _code_rows(figures: Figures) -> list[dict[str, Any]]:
    return [
        {"code": c.code, "clean": c.clean, "quota": c.quota, **_ends(c.emrs_to_go, 0)}
        for c in figures.coverage.codes
        if c.state == "open"
    ]


def _ends(estimate: Estimate | None, digits: int) -> dict[str, float | None]:
    if estimate is None:
        return {"median": None, "low": None, "high": None}
    return {
        name: round(getattr(estimate, name), digits or None) for name in ("median", "low", "high")
    }


def _show_audit(found: Audit) -> None:
    table.show("EMRs", [{"what": what, "emrs": n} for what, n in found.counts.items()])
    if found.unreachable:
        rows = [dataclasses.asdict(code) for code in found.unreachable]
        table.show("codes that the pool cannot fill", rows)
    if found.mismatches:
        table.show("counts that differ", [dataclasses.asdict(m) for m in found.mismatches])
    for count, words in (
        (len(found.outside_pool), "coded EMRs are not in the pool"),
        (len(found.outside_set), "codes outside the code set were given"),
        (len(found.chosen_twice), "EMRs stand in two batches"),
    ):
        if count:
            table.say(f"{count} {words}")
    if not found.mismatches:
        table.say("every count equals the recount")
