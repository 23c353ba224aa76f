"""Commands on records: init, import, simulate, simulate-check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from label_config.errors import ConfigError
from label_config.files import write_json
from label_config.taxonomy import Taxonomy
from ml_backend import table
from ml_backend.commands.options import JsonOption, SeedOption, WorkspaceArgument, progress_bar


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("init", rich_help_panel="Data")(init)
    app.command("import", rich_help_panel="Data")(import_)
    app.command("simulate", rich_help_panel="Data")(simulate)
    app.command("simulate-check", rich_help_panel="Data")(simulate_check)


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
    """Make a workspace: the folder that holds one project. Nothing changes where it is there."""
    from ml_backend.workspace import ProjectConfig, Workspace

    tree = Taxonomy.icd10cm() if taxonomy is None else Taxonomy.from_csv(taxonomy)
    config = ProjectConfig(
        title=title,
        codes=read_code_list(codes, tree),
        quota=quota,
        taxonomy="icd10cm" if taxonomy is None else "taxonomy.csv",
    )
    Workspace.create(workspace, config, None if taxonomy is None else tree)
    table.say(f"{workspace}: {len(config.codes)} codes, quota {quota}")


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
    """Add EMRs to the pool; broken records are named, the rest goes in.

    A new text under a known emr_id takes the place of the old one, unless coders have that one.
    """
    from ml_backend.steps import import_pool
    from ml_backend.workspace import Workspace

    with progress_bar() as progress:
        progress("reading records", 0, 0)
        count, problems = import_pool(Workspace(workspace), file)
    if problems:
        rows = [{"where": p.where, "reason": p.reason} for p in problems]
        table.show(f"{len(problems)} records of {file} left out", rows, json_file)
    elif json_file is not None:
        table.show(f"no records of {file} left out", [], json_file)
    table.say(f"imported {count} EMRs, {len(problems)} left out")


def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    dataset: Annotated[
        str,
        typer.Option(help="A: complete EMRs, 25 % clean and 75 % noisy; B: raw, incomplete ones."),
    ] = "A",
    emrs: Annotated[int, typer.Option(min=1, help="How many EMRs.")] = 10_000,
    profile: Annotated[str, typer.Option(help="Kind of hospital: hph or aph.")] = "hph",
    codes: Annotated[int, typer.Option(min=1, help="The most frequent codes.")] = 50,
    noise: Annotated[
        str, typer.Option(help="Preset of name errors: clean, nhc2020, omits18, adds15, careless.")
    ] = "nhc2020",
    bank: Annotated[str, typer.Option(help="Wording: A, or B for another hospital.")] = "A",
    language: Annotated[str, typer.Option(help="Knowledge pack: en or zh.")] = "en",
    clean: Annotated[
        float | None, typer.Option(help="Share of EMRs with clean codes, if not the dataset's.")
    ] = None,
    raw: Annotated[
        float | None, typer.Option(help="Share without diagnosis names, if not the dataset's.")
    ] = None,
    train: Annotated[float, typer.Option(help="Share of patients for training.")] = 0.6,
    validation: Annotated[float, typer.Option(help="Share for validation; the rest tests.")] = 0.2,
    seed: SeedOption = 0,
    processes: Annotated[int, typer.Option(min=1, help="Same bytes for any number.")] = 1,
) -> None:
    """Write a simulated hospital: EMRs, gold codes, errors and splits as Parquet, with a card."""
    from simulator.card import write_card
    from simulator.dataset import DATASETS, write_dataset
    from simulator.quality import PRESETS

    if noise not in PRESETS:
        raise ConfigError(f"no noise preset {noise!r}; there are: {', '.join(PRESETS)}")
    if dataset not in DATASETS:
        raise ConfigError(f"no dataset {dataset!r}; there are: {', '.join(DATASETS)}")
    if profile not in ("hph", "aph") or bank not in ("A", "B"):
        raise ConfigError(f"profile must be hph or aph and bank A or B, got {profile} and {bank}")
    shares = {k: v for k, v in (("clean", clean), ("raw", raw)) if v is not None}
    config = replace(
        DATASETS[dataset], emrs=emrs, profile=cast(Any, profile), codes=codes,
        noise=PRESETS[noise], bank=cast(Any, bank), language=language, train=train,
        validation=validation, seed=seed, **cast(Any, shares),
    )  # fmt: skip
    with progress_bar() as progress:
        report = write_dataset(
            out, config, processes=processes,
            progress=lambda done, total: progress("simulating", done, total),
        )  # fmt: skip
        progress("drawing the card", 0, 0)
        card = write_card(out)
    table.say(
        f"{report.folder}: {report.emrs} EMRs of {report.patients} patients, "
        f"{report.errors} errors in their diagnosis names; {card.name} tells more"
    )


def simulate_check(
    folder: Annotated[Path, typer.Argument(help="What `simulate` wrote.")],
    baselines: Annotated[bool, typer.Option(help="Also the models' bands (minutes).")] = True,
    json_file: JsonOption = None,
) -> None:
    """Compare a simulated hospital with what was measured on real records; exit 1 if one is off.

    The rows go into the dataset's card too.
    """
    from simulator.card import write_card
    from simulator.check import check_dataset

    with progress_bar() as progress:
        rows = check_dataset(folder, baselines=baselines, progress=progress)
        progress("drawing the card", 0, 0)
        write_card(folder, rows)
    shown = [
        {
            "": row.id,
            "real": row.target,
            "band": row.band or "reported only",
            "here": row.value,
            "met": "not measured" if row.met is None else "yes" if row.met else "NO",
        }
        for row in rows
    ]
    table.show("simulated against real", shown)
    if json_file is not None:
        write_json(json_file, {"rows": [row.as_dict() for row in rows]})
    off = [row.id for row in rows if row.met is False]
    if off:
        table.complain(f"outside their band: {'; '.join(off)}")
        raise typer.Exit(1)
