"""The steps of the loop on one workspace: import, auto-label, select, push, pull, train.

Each reads the workspace's files and writes them; `select`, `push` and `pull` may be repeated
without harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from label_config.errors import DataError
from label_config.files import Problem, data_hash, read_codings, read_emrs, write_records
from label_config.record import EMR, Coding
from label_config.task import build_prediction, build_task, candidate_codes, read_emr
from ml_backend.dashboard import history
from ml_backend.label_studio import LabelStudioClient
from ml_backend.registry import ModelVersion, Registry
from ml_backend.workspace import Batch, Workspace
from sampler import CoverageSampler, reason_text
from training.encoder import DEFAULT_ENCODER, Encoder
from training.evaluate import evaluate
from training.similarity import NameMapper
from training.stages import StagesConfig
from training.suggest import Suggester, SuggesterConfig

Progress = Callable[[str, int, int], None]
"""Called with the name of a step, how much of it is done, and how much there is."""

PREDICT_CHUNK = 64
WORSE_BY = 0.02
"""A new version that validates this much below the live one is kept, but does not serve."""


def import_pool(workspace: Workspace, path: Path) -> tuple[int, list[Problem]]:
    """Make `path` (.jsonl or .parquet) the workspace's pool; return how many, and the problems.

    Raises DataError when not one record can be used.
    """
    report = read_emrs(path)
    if not report.records:
        first = f"; the first: {report.problems[0]}" if report.problems else ""
        raise DataError(f"{path} holds no usable EMR, {len(report.problems)} broken{first}")
    write_records(workspace.pool_path, report.records, EMR)
    return len(report.records), report.problems


def auto_label(workspace: Workspace, *, progress: Progress) -> list[Coding]:
    """Map every diagnosis name of the pool to a code (the paper's automatic noisy labels)."""
    emrs = workspace.read_pool()
    encoder = load_encoder()
    progress("reading names", 0, 1)
    names = sorted({d.name for emr in emrs for d in emr.diagnoses})
    progress("learning names", 0, 1)
    mapper = NameMapper.fit(names, workspace.taxonomy, workspace.config.codes, encoder)
    progress("mapping names", 0, 1)
    codings = mapper.auto_label(emrs)
    workspace.write_noisy(codings)
    mapper.save(workspace.names_folder)
    progress("mapping names", 1, 1)
    return codings


def coverage(workspace: Workspace) -> CoverageSampler:
    """The sampler, replayed from the files: noisy codes, clean codes, and what is with coders."""
    config, noisy = workspace.config, workspace.read_noisy()
    number = {code: k for k, code in enumerate(config.codes)}
    rows = {coding.emr_id: row for row, coding in enumerate(noisy)}
    taxonomy = workspace.taxonomy
    categories = {c: i for i, c in enumerate(dict.fromkeys(map(taxonomy.category, config.codes)))}
    sampler = CoverageSampler(
        _confidence_matrix(noisy, number),
        config.quota,
        category=np.array([categories[taxonomy.category(c)] for c in config.codes]),
        row_keys=[coding.emr_id for coding in noisy],
    )
    clean = [c for c in workspace.read_clean() if c.emr_id in rows]
    usable = [c for c in clean if c.quality == "clean"]
    sampler.update(
        [rows[c.emr_id] for c in usable],
        [[number[code] for code in c.codes if code in number] for c in usable],
    )
    done = {c.emr_id for c in clean}
    sent = [i for batch in workspace.batches() for i in batch.emr_ids if i in rows]
    sampler.hold([rows[i] for i in sent if i not in done])
    unusable = [rows[c.emr_id] for c in clean if c.quality != "clean"]
    unusable += [rows[i] for i in workspace.read_skipped() if i in rows]
    sampler.hold(unusable)
    sampler.release(unusable, exclude=True)
    return sampler


def select(workspace: Workspace, size: int) -> Batch | None:
    """Choose the next batch and write it down; None when nothing is left worth asking for."""
    sampler = coverage(workspace)
    chosen = sampler.query(size)
    if not len(chosen.rows):
        return None
    ids = [coding.emr_id for coding in workspace.read_noisy()]
    reasons = [reason_text(reason, workspace.config.codes) for reason in chosen.reasons]
    return workspace.add_batch([ids[row] for row in chosen.rows], reasons)


def push(
    workspace: Workspace, client: LabelStudioClient, batch: Batch, *, progress: Progress
) -> int:
    """Send a batch with its suggestions to Label Studio; EMRs that are there stay as they are."""
    model = live_model(workspace)
    found = workspace.pool.get(batch.emr_ids)
    emrs = [found[i] for i in batch.emr_ids if i in found]
    suggestions = dict(zip(found, [None] * len(found), strict=True))
    suggestions |= {s.emr_id: s for s in suggest(model, emrs, progress=progress)}
    tasks = [
        build_task(
            emr,
            suggestions[emr.emr_id],
            workspace.taxonomy,
            batch=batch.name,
            order=order,
            reason=reason,
        )
        for order, (emr, reason) in enumerate(zip(emrs, batch.reasons, strict=True), start=1)
    ]
    return client.push(project_id(workspace), tasks)


def refresh(workspace: Workspace, client: LabelStudioClient, *, progress: Progress) -> int:
    """Give the tasks that no coder has touched the live model's suggestions."""
    model = live_model(workspace)
    tasks = waiting(workspace, client)
    shown = {emr_id: read_emr(task) for emr_id, task in tasks.items()}
    predictions = {
        s.emr_id: build_prediction(
            shown[s.emr_id], s, workspace.taxonomy, candidates=candidate_codes(tasks[s.emr_id])
        )
        for s in suggest(model, list(shown.values()), progress=progress)
    }
    return client.refresh_predictions(project_id(workspace), predictions)


def pull(workspace: Workspace, client: LabelStudioClient) -> tuple[int, list[Problem]]:
    """Bring clean codes back. Idempotent: the newest annotation of an EMR replaces older ones."""
    codings, problems, skipped = client.pull(project_id(workspace))
    workspace.write_clean(codings)
    workspace.write_skipped(skipped)
    history.note(workspace, codings)
    return len(codings), problems


@dataclass(frozen=True, slots=True)
class Trained:
    """A new model version, and whether it serves."""

    version: ModelVersion
    promoted: bool


def train_model(
    workspace: Workspace, *, config: SuggesterConfig | None = None, progress: Progress
) -> Trained:
    """Train a new version on everything the workspace holds; let it serve if it passes.

    Without clean EMRs this is the cold start: names, titles and noisy codes.
    """
    registry = Registry(workspace.models_folder)
    emrs, noisy = workspace.read_pool(), workspace.read_noisy()
    clean = [c for c in workspace.read_clean() if c.quality == "clean"]
    encoder = load_encoder()
    names = NameMapper.load(workspace.names_folder, encoder)
    model = Suggester.train(
        emrs,
        noisy,
        clean,
        codes=workspace.config.codes,
        taxonomy=workspace.taxonomy,
        encoder=encoder,
        names=names if tuple(names.codes) == workspace.config.codes else None,
        raw=emrs,
        config=config or suggester_config(workspace, has_clean=bool(clean)),
        progress=progress,
    )
    version = f"v{registry.next_number()}-{data_hash([*noisy, *clean])[:8]}"
    folder = workspace.models_folder / version
    model.save(folder, version=version)
    added = registry.add(folder, version, model.validation)
    live = registry.live()
    passed = live is None or _not_worse(added.validation, live.validation)
    if passed:
        registry.promote(version)
    return Trained(added, passed)


def suggester_config(workspace: Workspace, *, has_clean: bool) -> SuggesterConfig:
    """The members that the workspace asks for; the cold start does without the network."""
    presets = {"quick": StagesConfig.quick, "best": StagesConfig.best, "paper": StagesConfig.paper}
    preset = presets.get(workspace.config.network) if has_clean else None
    return SuggesterConfig(network=preset() if preset else None)


def evaluate_model(
    workspace: Workspace, emrs: Path, gold: Path, version: str = "", *, progress: Progress
) -> dict[str, Any]:
    """Scores of a version (the live one if empty) on EMRs whose true codes are known."""
    registry = Registry(workspace.models_folder)
    model = Suggester.load(registry[version].folder) if version else live_model(workspace)
    records, truth = read_emrs(emrs), read_codings(gold)
    for problem in (*records.problems, *truth.problems):
        raise DataError(f"held-back EMRs are damaged at {problem}")
    codes_of = {coding.emr_id: coding.codes for coding in truth.records}
    missing = [emr.emr_id for emr in records.records if emr.emr_id not in codes_of]
    if missing:
        raise DataError(f"{gold} has no codes for EMR {missing[0]}")
    probs_NK = model.predict(records.records, progress=progress)
    targets_NK = np.array(
        [[code in codes_of[emr.emr_id] for code in model.codes] for emr in records.records]
    )
    scores = evaluate(probs_NK, targets_NK, threshold=model.threshold)
    return {"version": model.version, "emrs": len(records.records), **scores}


def coverage_rows(workspace: Workspace) -> list[dict[str, Any]]:
    """One row per code: clean, pending, still needed, expected supply, state; scarcest first."""
    from ml_backend.dashboard.coverage import code_rows  # which counts by this module

    return code_rows(workspace, coverage(workspace).status())


def waiting(workspace: Workspace, client: LabelStudioClient) -> dict[str, dict[str, Any]]:
    """The tasks without an annotation, in Label Studio's order, by `emr_id`."""
    return client.waiting(project_id(workspace))


def set_up_project(workspace: Workspace, client: LabelStudioClient) -> str:
    """Create or repair the project in Label Studio and link the workspace; return its address."""
    from ml_backend.settings import settings

    chosen = settings()
    project = client.set_up(
        workspace.config.title,
        backend_url=chosen.backend_url,
        backend_user=chosen.backend_user,
        backend_password=chosen.backend_password.get_secret_value(),
        on_project=lambda project_id: workspace.configure(
            project_id=project_id, label_studio_url=chosen.label_studio_url
        ),
    )
    return project.url


def live_model(workspace: Workspace) -> Suggester:
    """Load the version that serves. Raises DataError when nothing was trained yet."""
    live = Registry(workspace.models_folder).live()
    if live is None:
        raise DataError(f"{workspace.folder} has no model yet: run `clinicoco train` first")
    return Suggester.load(live.folder)


def suggest(model: Suggester, emrs: Sequence[EMR], *, progress: Progress) -> list[Any]:
    """Suggest codes in chunks, so that progress can be shown."""
    suggestions = []
    for start in range(0, len(emrs), PREDICT_CHUNK):
        progress("suggesting codes", start, len(emrs))
        suggestions.extend(model.suggest(emrs[start : start + PREDICT_CHUNK]))
    progress("suggesting codes", len(emrs), len(emrs))
    return suggestions


def project_id(workspace: Workspace) -> int:
    """The Label Studio project. Raises DataError before set-up."""
    if workspace.config.project_id is None:
        raise DataError(f"{workspace.folder} is linked to no project: run `clinicoco set-up` first")
    return workspace.config.project_id


def load_encoder() -> Encoder:
    """The encoder that the environment names, or the default."""
    from ml_backend.settings import settings

    return Encoder.load(settings().encoder or DEFAULT_ENCODER)


def code_counts(codings: Sequence[Coding]) -> Counter[str]:
    """In how many codings each code stands."""
    return Counter(code for coding in codings for code in coding.codes)


def _confidence_matrix(codings: Sequence[Coding], number: dict[str, int]) -> sp.csr_matrix:
    entries = [
        (row, number[code], max(float(confidence), 1e-3))
        for row, coding in enumerate(codings)
        for code, confidence in zip(
            coding.codes, coding.confidence or (1.0,) * len(coding.codes), strict=True
        )
        if code in number
    ]
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    shape = (len(codings), len(number))
    return sp.csr_matrix((np.array(values, np.float32), (rows, columns)), shape=shape)


def _not_worse(new: dict[str, float], old: dict[str, float]) -> bool:
    if "micro_f1" not in new or "micro_f1" not in old:
        return True
    return new["micro_f1"] >= old["micro_f1"] - WORSE_BY
