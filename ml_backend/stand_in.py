"""A small trained workspace with a simulated hospital, for benchmarks."""

from __future__ import annotations

import json
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from label_config.files import read_codings, write_records
from label_config.record import EMR, Coding
from label_config.task import build_task
from ml_backend import steps
from ml_backend.workspace import ProjectConfig, Workspace
from simulator.dataset import DatasetConfig, write_dataset
from simulator.reader import read_dataset


@dataclass(frozen=True, slots=True)
class StandIn:
    """How large it is."""

    emrs: int = 120
    codes: int = 20
    clean: int = 0
    """EMRs whose gold codes count as a coder's; with any, the network is trained too."""
    seed: int = 0
    project_id: int | None = 1


def make_stand_in(folder: Path, size: StandIn) -> Workspace:
    """Simulate, label automatically, train; the gold codes stay in `folder`/gold.parquet."""
    dataset = DatasetConfig(emrs=size.emrs, codes=size.codes, seed=size.seed)
    write_dataset(folder / "hospital", dataset)
    written = read_dataset(folder / "hospital")
    write_records(folder / "gold.parquet", written.gold, Coding)
    codes = sorted({code for coding in written.gold for code in coding.codes})
    config = ProjectConfig(
        f"Stand-in {size.seed}",
        tuple(codes),
        network="quick" if size.clean else "none",
        project_id=size.project_id,
    )
    workspace = Workspace.create(folder / "workspace", config)
    write_records(workspace.pool_path, written.emrs, EMR)
    steps.auto_label(workspace, progress=_silently)
    workspace.write_clean(
        Coding(gold.emr_id, gold.codes, "clean", evidence=gold.evidence)
        for gold in written.gold[: size.clean]
    )
    steps.train_model(workspace, progress=_silently)
    return workspace


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that what it has started is stopped too."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def gold_of(folder: Path) -> dict[str, Coding]:
    """The gold codes by `emr_id`."""
    return {coding.emr_id: coding for coding in read_codings(folder / "gold.parquet").records}


def predict_bodies(workspace: Workspace, count: int) -> list[bytes]:
    """Requests for one task each, as Label Studio sends them when a coder opens it."""
    model = steps.live_model(workspace)
    bodies = []
    for number, suggested in enumerate(model.suggest(workspace.read_pool()[:count]), start=1):
        emr = workspace.pool.get([suggested.emr_id])[suggested.emr_id]
        task = build_task(emr, suggested, workspace.taxonomy, batch="b0001", order=number)
        sent = {**task, "id": number, "predictions": [], "annotations": []}
        body = {"tasks": [sent], "project": f"{workspace.config.project_id}.1", "params": {}}
        bodies.append(json.dumps(body).encode())
    return bodies


def _silently(_: str, __: int, ___: int) -> None:
    """Report nothing."""
