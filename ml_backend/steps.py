"""The steps of the loop on one workspace: import, auto-label, select, push, pull, train.

Each reads the workspace's files and writes them; `select`, `push` and `pull` may be repeated
without harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from label_config.errors import DataError
from label_config.files import Problem, read_codings, read_emrs, write_records
from label_config.record import EMR, Coding
from label_config.task import build_prediction, build_task, candidate_codes, read_emr
from ml_backend.dashboard import history
from ml_backend.label_studio import LabelStudioClient
from ml_backend.locks import locked
from ml_backend.migrate import translated
from ml_backend.notes import PushNote
from ml_backend.registry import Registry
from ml_backend.retrain import Progress as Progress
from ml_backend.retrain import load_encoder, load_model
from ml_backend.retrain import train_model as train_model
from ml_backend.sampling import coverage
from ml_backend.workspace import Batch, Workspace
from sampler import reason_text
from training.held_back import figures_of
from training.similarity import NameMapper
from training.suggest import Suggester

PREDICT_CHUNK = 64


def import_pool(workspace: Workspace, path: Path) -> tuple[int, list[Problem]]:
    """Add the EMRs of `path` (.jsonl or .parquet) to the pool; return how many, and the problems.

    One that the pool holds is replaced, unless coders have it with another text: their highlights
    point into that one. Raises DataError when not one record can be used.
    """
    report = read_emrs(path)
    if not report.records:
        first = f"; the first: {report.problems[0]}" if report.problems else ""
        raise DataError(f"{path} holds no usable EMR, {len(report.problems)} broken{first}")
    new = {emr.emr_id: emr for emr in report.records}
    with locked(workspace.folder / ".import.lock"):
        held = workspace.read_pool() if workspace.pool_path.exists() else []
        known = {emr.emr_id: emr for emr in held}
        for emr_id in sorted(_with_coders(workspace) & set(new) & set(known)):
            if not new[emr_id].same_text(known[emr_id]):
                reason = "coders have it with another text, which stays"
                report.problems.append(Problem(f"EMR {emr_id}", reason))
                del new[emr_id]
        write_records(workspace.pool_path, (known | new).values(), EMR)
    workspace.reload()
    return len(new), report.problems


def _with_coders(workspace: Workspace) -> set[str]:
    """The EMRs that were chosen for coders or have their codes."""
    chosen = {emr_id for batch in workspace.batches() for emr_id in batch.emr_ids}
    return chosen | {coding.emr_id for coding in workspace.read_clean()}


def auto_label(workspace: Workspace, *, progress: Progress) -> list[Coding]:
    """Map every diagnosis name of the pool to a code (the paper's automatic noisy labels)."""
    encoder = load_encoder()
    with locked(workspace.folder / ".import.lock"):
        workspace.reload()
        emrs = workspace.read_pool()
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


def select(
    workspace: Workspace, size: int, *, progress: Progress = lambda *_: None
) -> Batch | None:
    """Choose the next batch and write it down; None when nothing is left worth asking for."""
    with locked(workspace.folder / ".select.lock"):
        sampler = coverage(workspace, progress=progress)
        chosen = sampler.query(size)
        if not len(chosen.rows):
            return None
        ids = [coding.emr_id for coding in workspace.read_noisy()]
        reasons = [reason_text(reason, workspace.config.codes) for reason in chosen.reasons]
        return workspace.add_batch([ids[row] for row in chosen.rows], reasons)


def push(
    workspace: Workspace, client: LabelStudioClient, batch: Batch, *, progress: Progress
) -> int:
    """Send a batch with its suggestions to Label Studio; EMRs that are there stay as they are.

    A push that was killed while it sent is settled first, so that nothing arrives twice.
    """
    with locked(workspace.folder / ".push.lock"):
        note = PushNote(workspace.folder)
        was_cut = note.is_open
        if was_cut:
            client.settle(project_id(workspace), note.emr_ids, sent_at=note.sent_at)
            note.close()
        model = live_model(workspace)
        count = _push(workspace, client, batch, model, note, progress)
        if was_cut:
            client.show_version(project_id(workspace), model.version)
        return count


def _push(
    workspace: Workspace,
    client: LabelStudioClient,
    batch: Batch,
    model: Suggester,
    note: PushNote,
    progress: Progress,
) -> int:
    found = workspace.pool.get(batch.emr_ids)
    reason_of = zip(batch.emr_ids, batch.reasons, strict=True)
    chosen = [(found[i], reason) for i, reason in reason_of if i in found]
    suggestions = suggest(model, [emr for emr, _ in chosen], progress=progress)
    rules, config = workspace.rules, workspace.config
    tasks = [
        build_task(
            emr,
            suggestion,
            workspace.taxonomy,
            batch=batch.name,
            order=order,
            reason=reason,
            rules=rules,
            always=config.codes if config.interface == "choices" else (),
        )
        for order, ((emr, reason), suggestion) in enumerate(
            zip(chosen, suggestions, strict=True), start=1
        )
    ]
    return client.push(project_id(workspace), tasks, note=note)


def refresh(workspace: Workspace, client: LabelStudioClient, *, progress: Progress) -> int:
    """Give the tasks that no coder has touched the live model's suggestions."""
    model = live_model(workspace)
    tasks = waiting(workspace, client)
    has_it = [i for i, task in tasks.items() if _shows(task, model.version)]
    shown = {i: read_emr(task) for i, task in tasks.items() if i not in has_it}
    predictions = {
        s.emr_id: build_prediction(
            shown[s.emr_id], s, workspace.taxonomy, candidates=candidate_codes(tasks[s.emr_id])
        )
        for s in suggest(model, list(shown.values()), progress=progress)
    }
    count = client.refresh_predictions(project_id(workspace), predictions)
    if has_it and not count:  # an earlier refresh may have been cut short before its last step
        client.show_version(project_id(workspace), model.version)
    return count


def pull(
    workspace: Workspace, client: LabelStudioClient, *, anew: bool = False
) -> tuple[int, list[Problem]]:
    """Bring clean codes back: what changed since the last pull, or `anew` everything.

    Idempotent: of an EMR's annotations the starred or else the newest one counts. Returns how many
    EMRs are coded, and what could not be read in the tasks that were looked at.
    """
    with locked(workspace.folder / ".pull.lock"):
        workspace.reload()
        found = client.pull(project_id(workspace), None if anew else workspace.read_mark())
        codings, skipped = translated(workspace, found.codings), found.skipped
        if found.read is not None:
            kept = [c for c in workspace.read_pulled() if c.emr_id not in found.read]
            codings = [*kept, *codings]
            skipped = [i for i in workspace.read_skipped() if i not in found.read] + skipped
        workspace.write_clean(codings)
        workspace.write_skipped(skipped)
        workspace.write_mark(found.mark)
        clean = workspace.read_clean()
        history.note(workspace, clean)
    return len(clean), found.problems


def evaluate_model(
    workspace: Workspace,
    emrs: Path,
    gold: Path,
    version: str = "",
    *,
    explained: int = 0,
    progress: Progress,
) -> dict[str, Any]:
    """Scores of a version (the live one if empty) on EMRs whose true codes are known.

    `explained`: of how many ticked codes to judge how far highlights carry the probability.
    """
    registry = Registry(workspace.models_folder)
    model = load_model(registry[version].folder) if version else live_model(workspace)
    records, truth = read_emrs(emrs), read_codings(gold)
    for problem in (*records.problems, *truth.problems):
        raise DataError(f"held-back EMRs are damaged at {problem}")
    coding_of = {coding.emr_id: coding for coding in truth.records}
    missing = [emr.emr_id for emr in records.records if emr.emr_id not in coding_of]
    if missing:
        raise DataError(f"{gold} has no codes for EMR {missing[0]}")
    scores = figures_of(
        model,
        records.records,
        coding_of,
        workspace.taxonomy,
        explained=explained,
        progress=progress,
    )
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
        screen=workspace.config.interface,
        maximum_annotations=workspace.config.overlap,
        backend_url=chosen.backend_url,
        taxonomy_url=tree_address(workspace),
        webhook_secret=chosen.webhook_secret.get_secret_value(),
        backend_user=chosen.backend_user,
        backend_password=chosen.backend_password.get_secret_value(),
        on_project=lambda project_id: workspace.configure(
            project_id=project_id, label_studio_url=chosen.label_studio_url
        ),
    )
    return project.url


def tree_address(workspace: Workspace) -> str:
    """Where browsers fetch this project's code tree, with the key that opens nothing else."""
    from ml_backend.security import Credentials
    from ml_backend.settings import settings

    chosen, code_set = settings(), workspace.code_set
    address = f"{chosen.browser_url or chosen.backend_url}/taxonomy.json?set={code_set}"
    credentials = Credentials(
        password=chosen.backend_password.get_secret_value(),
        token=chosen.backend_token.get_secret_value(),
    )
    return f"{address}&key={credentials.key_of(code_set)}" if credentials.are_needed else address


def live_model(workspace: Workspace) -> Suggester:
    """Load the version that serves. Raises DataError when nothing was trained yet."""
    live = Registry(workspace.models_folder).live()
    if live is None:
        raise DataError(f"{workspace.folder} has no model yet: run `clinicoco train` first")
    return load_model(live.folder)


def suggest(model: Suggester, emrs: Sequence[EMR], *, progress: Progress) -> list[Any]:
    """Suggest codes in chunks, so that progress can be shown."""
    suggestions = []
    for start in range(0, len(emrs), PREDICT_CHUNK):
        progress("suggesting codes", start, len(emrs))
        suggestions.extend(model.suggest(emrs[start : start + PREDICT_CHUNK]))
    progress("suggesting codes", len(emrs), len(emrs))
    return suggestions


def _shows(task: dict[str, Any], version: str) -> bool:
    return any(p.get("model_version") == version for p in task.get("predictions") or ())


def project_id(workspace: Workspace) -> int:
    """The Label Studio project. Raises DataError before set-up."""
    if workspace.config.project_id is None:
        raise DataError(f"{workspace.folder} is linked to no project: run `clinicoco set-up` first")
    return workspace.config.project_id


def code_counts(codings: Sequence[Coding]) -> Counter[str]:
    """In how many codings each code stands."""
    return Counter(code for coding in codings for code in coding.codes)
