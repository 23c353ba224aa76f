"""Stored predictions made again: the same version, the same record, the same codes and highlights.

A prediction names its version; the version's folder holds the members' weights, the threshold and
the hash of what it was trained on. Label Studio keeps predictions that were pushed, which come from
the model as it was trained, and those that the backend answered, which also know what coders had
decided since, or come from the quick members alone where time was short.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_config.errors import DataError
from label_config.files import read_json
from label_config.record import EMR
from label_config.suggestion import SuggestionSet
from label_config.task import build_prediction, candidate_codes, read_emr
from label_config.validate import keep_valid
from ml_backend.feedback import Journal
from ml_backend.quick import suggest_quickly
from ml_backend.registry import ModelVersion, Registry
from ml_backend.retrain import load_model
from ml_backend.serving import decided_since, records_of
from ml_backend.workspace import Workspace

Task = Mapping[str, Any]
Suggest = Callable[[Sequence[EMR]], Sequence[SuggestionSet]]
Progress = Callable[[str, int, int], None]
TOLERANCE = 0.002
"""Between two scores: sums run in another order in another batch."""
GONE = "version is gone"
DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Stored:
    """A prediction as Label Studio holds it."""

    task: Task
    version: str
    result: list[Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one stored prediction."""

    emr_id: str
    version: str
    outcome: str
    """Which way of asking the version gives the same: "as trained", "with later decisions", "in a
    hurry"; or `DIFFERS`, or `GONE`."""
    only_stored: tuple[str, ...] = ()
    """Codes ticked, and other items by their control, that the replay does not have."""
    only_replayed: tuple[str, ...] = ()
    score_difference: float = 0.0
    """The largest one between items that both have."""


def stored_predictions(
    tasks: Iterable[Task], *, version: str = "", emr_ids: Collection[str] = ()
) -> Iterator[Stored]:
    """Each different prediction of our tasks: the tasks' own, and the annotations' copies."""
    for task in tasks:
        try:
            emr_id = read_emr(task).emr_id
        except DataError:
            continue
        if emr_ids and emr_id not in emr_ids:
            continue
        holders = [p for p in task.get("predictions") or () if isinstance(p, Mapping)]
        holders += [a.get("prediction") for a in task.get("annotations") or ()]
        seen = set[str]()
        for prediction in holders:
            if not isinstance(prediction, Mapping) or not isinstance(
                prediction.get("result"), list
            ):
                continue
            name = str(prediction.get("model_version"))
            key = json.dumps([name, prediction["result"]], sort_keys=True, default=str)
            if key not in seen and version in ("", name):
                seen.add(key)
                yield Stored(task, name, prediction["result"])


def replay(workspace: Workspace, stored: Sequence[Stored], *, progress: Progress) -> list[Replayed]:
    """Run each prediction's version again and compare, in the order given."""
    found: dict[int, Replayed] = {}
    registry = Registry(workspace.models_folder)
    known = {version.version: version for version in registry.versions()}
    for name in dict.fromkeys(s.version for s in stored):
        places = [n for n, s in enumerate(stored) if s.version == name]
        if name not in known or not known[name].folder.exists():
            found |= {n: Replayed(_emr_id(stored[n]), name, GONE) for n in places}
            continue
        for outcome, suggest in _ways(workspace, known[name].folder):
            open_ = [n for n in places if n not in found or found[n].outcome == DIFFERS]
            for done, n in enumerate(open_):
                progress(f"replaying {name} {outcome}", done, len(open_))
                again = _compare(workspace, stored[n], suggest, outcome)
                if n not in found or again.outcome != DIFFERS:
                    found[n] = again
            if not any(found[n].outcome == DIFFERS for n in places):
                break
    return [found[n] for n in range(len(stored))]


def provenance(version: ModelVersion) -> dict[str, Any]:
    """What a version's predictions come from: threshold, members' weights, hash of the data."""
    config = read_json(version.folder / "config.json", dict)
    fusion = config["fusion"]
    whole = next((f for f in fusion["fits"] if f["members"] == fusion["members"]), None)
    names = [*fusion["members"], "any"]
    weights = dict(zip(names, whole["weights"], strict=True)) if whole else {}
    return {
        "version": version.version,
        "made": version.made,
        "data": version.made_from,
        "threshold": round(config["threshold"], 4),
        **{f"weight_{name}": round(weight, 3) for name, weight in weights.items()},
    }


def _ways(workspace: Workspace, folder: Path) -> Iterator[tuple[str, Suggest]]:
    """The ways in which a version may have answered, the usual one first."""
    model = load_model(folder)
    yield "as trained", model.suggest
    yield "in a hurry", lambda emrs: suggest_quickly(model, emrs)
    later = records_of(workspace, decided_since(model, workspace, Journal(workspace.folder)))
    if later:
        taught = load_model(folder)
        for emr, coding in later:
            taught.learn(emr, coding)
        yield "with later decisions", taught.suggest


def _compare(workspace: Workspace, stored: Stored, suggest: Suggest, outcome: str) -> Replayed:
    emr = read_emr(stored.task)
    [suggested] = suggest([emr])
    made = build_prediction(
        emr, suggested, workspace.taxonomy, candidates=candidate_codes(stored.task)
    )
    good, _ = keep_valid(made["result"], stored.task["data"])
    before, now = _items(stored.result), _items(good)
    apart = max((abs(before[key] - now[key]) for key in before.keys() & now.keys()), default=0.0)
    missing, extra = (sorted({key[0] for key in a.keys() - b.keys()}) for a, b in
                      ((before, now), (now, before)))  # fmt: skip
    same = not missing and not extra and apart <= TOLERANCE
    return Replayed(
        emr.emr_id,
        stored.version,
        outcome if same else DIFFERS,
        tuple(missing),
        tuple(extra),
        round(apart, 4),
    )


def _items(result: Sequence[Any]) -> dict[tuple[str, str], float]:
    """What a result says, item by item, with its score; ids and the filter's radio say nothing."""
    found: dict[tuple[str, str], float] = {}
    for item in result:
        if not isinstance(item, Mapping) or item.get("from_name") == "show":
            continue
        value = item.get("value")
        if not isinstance(value, Mapping):
            continue
        score = item.get("score")
        score = float(score) if isinstance(score, int | float) else 1.0
        if item.get("from_name") == "codes":  # ticked one by one
            for code in value.get("choices") or ():
                found[str(code), "codes"] = score
        else:
            name = f"{item.get('from_name')} {_codes(value)}"
            found[name, json.dumps(dict(value), sort_keys=True, default=str)] = score
    return found


def _codes(value: Mapping[str, Any]) -> str:
    """The codes that an item names; never its text."""
    paths = value.get("taxonomy") or ()
    ends = [path[-1] for path in paths if isinstance(path, list) and path]
    return " ".join(map(str, [*(value.get("labels") or value.get("choices") or ()), *ends]))


def _emr_id(stored: Stored) -> str:
    return read_emr(stored.task).emr_id
