"""The whole loop on one machine: a stand-in hospital, a real Label Studio, the real backend."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_config.errors import ConfigError, ServerError
from label_config.files import read_codings, write_json, write_records
from label_config.record import EMR, Coding
from ml_backend import steps, table
from ml_backend.commands.options import progress_bar
from ml_backend.jobs import job_status
from ml_backend.label_studio import LabelStudioClient
from ml_backend.local_server import LocalLabelStudio
from ml_backend.loop import Loop, LoopConfig
from ml_backend.processes import free_port, running
from ml_backend.registry import Registry
from ml_backend.settings import settings
from ml_backend.workspace import ProjectConfig, Workspace
from simulator.coder import SimulatedCoder
from simulator.dataset import DatasetConfig, write_dataset
from simulator.quality import PRESETS
from simulator.reader import read_dataset

TITLE = "CliniCoCo demo"
SHOWN = (
    *("version", "emrs", "micro_f1", "macro_f1", "micro_precision", "micro_recall"),
    *("recall@5", "map", "ece", "highlight_top1"),
)
TRAINING_TIMEOUT = 1_800.0
POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What the demo plays."""

    folder: Path = Path("demo-data")
    emrs: int = 600
    """EMRs of the hospital; a fifth of its patients is held back for the evaluation."""
    codes: int = 50
    quota: int = 3
    batch: int = 25
    noise: str = "nhc2020"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.emrs, self.codes, self.quota, self.batch) < 1:
            raise ConfigError("the demo needs at least 1 EMR, code, quota and batch size")


def run_demo(config: DemoConfig, *, once: bool, json_file: Path | None) -> None:
    """Play the loop. With `once` simulated coders do the work and a table is printed."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stopped from outside: clean up too
    with ExitStack() as stack:
        with progress_bar() as progress:
            progress("starting Label Studio (the first start takes a minute)", 0, 0)
            label_studio = stack.enter_context(LocalLabelStudio(config.folder / "label-studio"))
            _environment(config, label_studio)
            workspace = prepare(config, progress)
            stack.enter_context(_backend(config, workspace, progress))
            client = LabelStudioClient(label_studio.url, label_studio.token)
            progress("setting the project up", 0, 0)
            project_url = steps.set_up_project(workspace, client)
            if not once:
                settle = LoopConfig(batch=config.batch)
                Loop(workspace, client, settle, say=_quiet, progress=progress).turn()
            else:
                before = _evaluate(config, workspace, "before", progress)
                rounds = code_until_covered(config, workspace, client, progress)
                train_through_label_studio(workspace, client, progress)
                steps.refresh(workspace, client, progress=progress)
                after = _evaluate(config, workspace, "after", progress)
        if not once:
            _invite(label_studio, project_url)
            _watch(config, workspace, client)
            return
    minutes = (time.monotonic() - started) / 60
    _summary(workspace, rounds, [before, after], minutes, json_file)


def prepare(config: DemoConfig, progress: steps.Progress) -> Workspace:
    """Simulate the hospital, label it automatically and train the cold-start model, once."""
    hospital = config.folder / "hospital"
    if not (hospital / "pool.parquet").exists():
        simulate(config, hospital, progress)
    codes = tuple((hospital / "codes.txt").read_text("utf-8").split())
    project = ProjectConfig(TITLE, codes, quota=config.quota, network="quick")
    workspace = Workspace.create(config.folder / "workspace", project)
    if not workspace.pool_path.exists():
        steps.import_pool(workspace, hospital / "pool.parquet")
    if Registry(workspace.models_folder).live() is None:
        steps.auto_label(workspace, progress=progress)
        steps.train_model(workspace, progress=progress)
    return workspace


def simulate(config: DemoConfig, hospital: Path, progress: steps.Progress) -> None:
    """Write the pool, and aside the EMRs of other patients that only the evaluation sees."""
    dataset = DatasetConfig(
        emrs=config.emrs, codes=config.codes, noise=PRESETS[config.noise], seed=config.seed
    )
    write_dataset(
        hospital, dataset, progress=lambda done, n: progress("simulating the hospital", done, n)
    )
    written = read_dataset(hospital)
    held_back = set(written.of(split="test"))
    emrs = [emr for i, emr in enumerate(written.emrs) if i not in held_back]
    write_records(hospital / "held_back.parquet", [written.emrs[i] for i in held_back], EMR)
    write_records(hospital / "held_back_gold.parquet", [written.gold[i] for i in held_back], Coding)
    codes = Counter(code for coding in written.gold for code in coding.codes)
    (hospital / "codes.txt").write_text("\n".join(c for c, _ in codes.most_common()), "utf-8")
    write_records(hospital / "pool.parquet", emrs, EMR)


def code_until_covered(
    config: DemoConfig, workspace: Workspace, client: LabelStudioClient, progress: steps.Progress
) -> list[dict[str, Any]]:
    """Simulated coders answer batch after batch until nothing needed can be added.

    They work through Label Studio's API and see what a person would: the record and suggestions.
    """
    gold = _gold(config, "gold.parquet")
    coder = SimulatedCoder(seed=config.seed, taxonomy=workspace.taxonomy)
    rounds: list[dict[str, Any]] = []
    while True:
        batch = steps.select(workspace, config.batch, progress=progress)
        if batch is None:
            return rounds
        steps.push(workspace, client, batch, progress=progress)
        waiting = steps.waiting(workspace, client)
        for done, (emr_id, task) in enumerate(waiting.items()):
            progress(f"round {len(rounds) + 1}: coding", done, len(waiting))
            client.annotate(task["id"], coder.annotate(task, gold[emr_id]))
        progress(f"round {len(rounds) + 1}: coding", len(waiting), len(waiting))
        count, problems = steps.pull(workspace, client)
        if problems:
            raise ServerError(f"{len(problems)} annotations came back broken, {problems[0]}")
        states = [row["state"] for row in steps.coverage_rows(workspace)]
        clean = workspace.read_clean()
        rounds.append(
            {
                "round": len(rounds) + 1,
                "emrs_annotated": count,
                "codes_met": states.count("met"),
                "codes_open": states.count("open"),
                "codes_unreachable": states.count("unreachable"),
                "coder_minutes": round(sum(c.seconds or 0 for c in clean) / 60, 1),
            }
        )


def train_through_label_studio(
    workspace: Workspace, client: LabelStudioClient, progress: steps.Progress
) -> None:
    """Press "Start training" in Label Studio and wait until the new version serves."""
    known = {job["job"] for job in job_status(workspace.folder)}
    client.start_training(steps.project_id(workspace))
    deadline = time.monotonic() + TRAINING_TIMEOUT
    while time.monotonic() < deadline:
        time.sleep(1.0)
        started = [job for job in job_status(workspace.folder) if job["job"] not in known]
        job: dict[str, Any] = started[0] if started else {"state": "queued"}
        progress(f"training: {job.get('step', 'queued')}", job.get("done", 0), job.get("total", 0))
        if job["state"] == "failed":
            raise ServerError(f"the training failed: {job['error']}")
        if job["state"] == "done" and _serves_live(workspace, client):
            return
    raise ServerError(f"the training did not end within {TRAINING_TIMEOUT / 60:.0f} minutes")


def _quiet(_: str) -> None:
    """Say nothing."""


def _serves_live(workspace: Workspace, client: LabelStudioClient) -> bool:
    live = Registry(workspace.models_folder).live()
    return live is not None and client.served_version(steps.project_id(workspace)) == live.version


def _environment(config: DemoConfig, label_studio: LocalLabelStudio) -> None:
    """Settings for this process and its children."""
    port = free_port(9090)
    os.environ.update(
        CLINICOCO_LABEL_STUDIO_URL=label_studio.url,
        CLINICOCO_LABEL_STUDIO_TOKEN=label_studio.token,
        CLINICOCO_BACKEND_PORT=str(port),
        CLINICOCO_BACKEND_URL=f"http://127.0.0.1:{port}",
        CLINICOCO_BROWSER_URL="",
        CLINICOCO_BACKEND_PASSWORD=secrets.token_urlsafe(24),
        CLINICOCO_QUEUE_FILE=str((config.folder / "jobs.db").resolve()),
        HF_HUB_OFFLINE="1",
    )
    settings.cache_clear()


@contextmanager
def _backend(config: DemoConfig, workspace: Workspace, progress: steps.Progress) -> Iterator[None]:
    """Run `clinicoco serve` and `clinicoco worker`, as docker/compose.yaml does."""
    command = [sys.executable, "-m", "ml_backend.cli"]
    folder = str(workspace.folder.resolve())
    progress("starting the ML backend", 0, 0)
    with (
        running(
            [*command, "serve", folder],
            log=config.folder / "backend.log",
            ready=f"{settings().backend_url}/health",
        ),
        running([*command, "worker"], log=config.folder / "worker.log"),
    ):
        yield


def _invite(label_studio: LocalLabelStudio, project_url: str) -> None:
    password = settings().backend_password.get_secret_value()
    table.console.print(
        f"\n[bold]Label Studio is ready.[/]\n  project   {project_url}\n"
        f"  user      {label_studio.user}\n  password  {label_studio.password}\n"
        f"  coverage  {settings().backend_url}/dashboard\n"
        f"  user      {settings().backend_user}\n  password  {password}\n\n"
        "Press [bold]Label All Tasks[/] and code. The next batch comes by itself; "
        "Settings > Model > Start training makes the next model.\nCtrl-C stops everything."
    )


def _watch(config: DemoConfig, workspace: Workspace, client: LabelStudioClient) -> None:
    """Keep the coder supplied until Ctrl-C; the page stays up when nothing is left to ask."""
    loop = Loop(
        workspace,
        client,
        LoopConfig(batch=config.batch, every=POLL_SECONDS),
        say=lambda line: table.console.print(line, markup=False),
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # a turn is finished, not cut in two
        signal.signal(number, lambda *_: stop.set())
    loop.run(stop)
    stop.wait()
    table.console.print("stopping")


def _evaluate(
    config: DemoConfig, workspace: Workspace, when: str, progress: steps.Progress
) -> dict[str, Any]:
    hospital = config.folder / "hospital"
    scores = steps.evaluate_model(
        workspace,
        hospital / "held_back.parquet",
        hospital / "held_back_gold.parquet",
        progress=progress,
    )
    return {"when": when, **{name: scores[name] for name in SHOWN}}


def _gold(config: DemoConfig, name: str) -> dict[str, Coding]:
    report = read_codings(config.folder / "hospital" / name)
    return {coding.emr_id: coding for coding in report.records}


def _summary(
    workspace: Workspace,
    rounds: list[dict[str, Any]],
    scores: list[dict[str, Any]],
    minutes: float,
    json_file: Path | None,
) -> None:
    coverage = steps.coverage_rows(workspace)
    reachable = [row for row in coverage if row["state"] != "unreachable"]
    met = [row for row in reachable if row["clean"] >= row["quota"]]
    table.show("rounds", rounds)
    table.show("held-back EMRs (simulated)", scores)
    unreachable = ", ".join(r["code"] for r in coverage if r["state"] == "unreachable") or "none"
    table.console.print(
        f"{len(met)} of {len(reachable)} reachable codes have {workspace.config.quota} clean EMRs; "
        f"codes that the pool cannot fill: {unreachable}; {minutes:.1f} minutes"
    )
    if json_file is not None:
        summary = {"rounds": rounds, "held_back": scores, "coverage": coverage}
        write_json(json_file, {**summary, "minutes": round(minutes, 2)})
    if len(met) < len(reachable):
        raise ServerError(f"{len(reachable) - len(met)} reachable codes stayed below their quota")
