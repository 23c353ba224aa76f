"""Benchmark: a pull that reads everything against one that reads what changed, as projects grow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from label_config.measured import Measured, Progress, goal
from label_config.record import EMR
from label_config.suggestion import Suggestion, SuggestionSet
from label_config.task import build_result, build_task, candidate_codes
from label_config.taxonomy import Taxonomy
from ml_backend.label_studio import LabelStudioClient
from ml_backend.local_server import LocalLabelStudio

QUICK = (500, 2_000)
FULL = (1_000, 10_000, 100_000)
CHANGED = 20
"""EMRs that coders code between two pulls."""
PER_IMPORT = 1_000
CODES = ("E11.9", "I10", "I63.9")


def run(quick: bool, progress: Progress | None = None) -> Measured:
    """Start a Label Studio, fill it with coded EMRs step by step, and pull at each step.

    `full` and `changed` are seconds; their ratio is what the mark of the last pull saves.
    """
    sizes, tell = (QUICK if quick else FULL), progress or (lambda done, total: None)
    taxonomy, rows = Taxonomy.icd10cm(), list[dict[str, Any]]()
    with (
        tempfile.TemporaryDirectory(prefix="clinicoco-bench-") as folder,
        LocalLabelStudio(Path(folder)) as server,
    ):
        client = LabelStudioClient(server.url, server.token)
        project = client.set_up("bench", taxonomy_url=f"{server.url}/taxonomy.json").id
        for size in sizes:
            start = rows[-1]["annotations"] if rows else 0
            for first in range(start, size, PER_IMPORT):
                ids = [f"e{n}" for n in range(first, min(first + PER_IMPORT, size))]
                tasks = [_coded(emr_id, taxonomy) for emr_id in ids]
                _import(client, project, tasks)
                tell(first, sizes[-1])
            rows.append(_pulls(client, project, size, taxonomy))
    last = rows[-1]
    goals = [
        goal("changed_over_full", "<= 0.1", last["changed"] / last["full"]),
        goal("changed_growth", "<= 3", last["changed"] / rows[0]["changed"]),
    ]
    return Measured(rows, goals, seeds=(0,), data_hash="made by the benchmark")


def _pulls(
    client: LabelStudioClient, project: int, size: int, taxonomy: Taxonomy
) -> dict[str, Any]:
    started = perf_counter()
    everything = client.pull(project)
    full = perf_counter() - started
    new = [_coded(f"n{size}-{n}", taxonomy) for n in range(CHANGED)]
    _import(client, project, new)
    started = perf_counter()
    changed = client.pull(project, everything.mark)
    seconds = perf_counter() - started
    found = {coding.emr_id for coding in changed.codings}
    return {
        "annotations": size,
        "full": round(full, 3),
        "changed": round(seconds, 3),
        "full_over_changed": round(full / seconds, 1),
        "read": -1 if changed.read is None else len(changed.read),
        "all_found": {f"n{size}-{n}" for n in range(CHANGED)} <= found,
    }


def _import(client: LabelStudioClient, project: int, tasks: list[Any]) -> None:
    client._sdk.projects.import_tasks(project, request=tasks)


def _coded(emr_id: str, taxonomy: Taxonomy) -> dict[str, Any]:
    """A task that a coder has answered, as an import takes it."""
    emr = EMR(emr_id, {"History": "Weakness of the right arm since the morning. " * 4})
    codes = list(CODES)
    chosen = tuple(Suggestion(code, 0.9) for code in codes)
    task = build_task(emr, SuggestionSet(emr_id, chosen, "bench"), taxonomy, batch="b", order=1)
    result = build_result(
        emr,
        codes,
        (),
        candidates=candidate_codes(task),
        principal=codes[0],
        quality="clean",
        note="",
        taxonomy=taxonomy,
    )
    task.pop("predictions", None)
    return task | {"annotations": [{"result": result, "lead_time": 60.0}]}
