"""What is known of a phrase at its place, as numbers: counts, rivals, covers, context.

A row is one place of a phrase with one of its codes. With folds the counts leave out the fold of
the EMR at hand, as if it had never been coded; entries that only the fold taught make no row then.
A model trained on such rows sees the same doubt that unseen EMRs will bring. (One EMR at a time
would not do: what is missing from the counts would tell its answer.)

Shapes: R rows, F features, M places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from label_config.record import Coding
from training.context import Context
from training.phrases import Found, PhraseTable, Reading

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_DOUBTS: tuple[Context, ...] = ("listed", "uncertain", "history", "family", "negated")
FEATURES = (
    *("logit share", "logit share of wording", "log seen", "seen once", "log marked"),
    *("share times seen", "log wording seen", "wording new", "rival", "beats rivals"),
    *("longer same code", "longer other code", "inside same", "inside other"),
    *("log letters", "one word", "two words", "more words", "named"),
    *("log code marked", "position", "log places"),
    *_DOUBTS,
)
_NONE = (0.0, 0.0, 0.0)
_WORDING_WEIGHT = 2.0
"""How many EMRs the phrase's share is worth against those of its wording."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Places of several EMRs with their codes; `found[place_R]` is the place of a row."""

    found: list[tuple[int, Found]]
    """(EMR, place)."""
    emr_R: Ints
    place_R: Ints
    entry_R: Ints
    code_R: Ints
    x_RF: Floats
    true_R: npt.NDArray[np.bool_]
    """Whether the place stands for the code; all False where it is not known."""


def make_rows(
    readings: Sequence[Reading],
    table: PhraseTable,
    *,
    codings: Sequence[Coding] | None = None,
    folds_N: Ints | None = None,
) -> Rows:
    """Rows of all EMRs, judged by `codings`, counted without the EMR's own fold."""
    ids = [reading.emr.emr_id for reading in readings]
    hidden: dict[int, dict[tuple[int, str], tuple[float, float, float]]] = {}
    if folds_N is not None:
        for fold in np.unique(folds_N).tolist():
            hidden[fold] = table.said_by(ids[n] for n in np.flatnonzero(folds_N == fold))
    found: list[tuple[int, Found]] = []
    cells: list[tuple[int, int, int, bool]] = []
    counts: list[tuple[float, ...]] = []
    for n, reading in enumerate(readings):
        own = {} if folds_N is None else hidden[int(folds_N[n])]
        judged = _unjudged(reading, table) if codings is None else table.judged(reading, codings[n])
        for at, entry, stands in judged:
            if not found or found[-1] != (n, at):
                found.append((n, at))
            less, worded_less = own.get((entry, ""), _NONE), own.get((entry, at.wording), _NONE)
            worded = table.wordings.get((entry, at.wording), _NONE)
            cells.append((n, len(found) - 1, entry, stands))
            counts.append((*less, worded[0] - worded_less[0], worded[1] - worded_less[1]))
    cells_R4 = np.array(cells, dtype=np.int64).reshape(-1, 4)
    counts_RC = np.array(counts, dtype=float).reshape(-1, 5)
    entry_R = cells_R4[:, 2]
    for column, total in enumerate((table.seen, table.accepted, table.marked)):
        counts_RC[:, column] = np.asarray(total, float)[entry_R] - counts_RC[:, column]
    known = (counts_RC[:, 2] > 0.5) | np.asarray(table.named, bool)[entry_R]
    emr_R, place_R, entry_R, true_R = cells_R4[known].T
    code_R = np.asarray(table.code, dtype=np.int64)[entry_R]
    rows = Rows(found, emr_R, place_R, entry_R, code_R, counts_RC[known], true_R.astype(bool))
    return _with_features(rows, readings, table)


def _unjudged(reading: Reading, table: PhraseTable) -> Iterable[tuple[Found, int, bool]]:
    return ((at, e, False) for at in table.find(reading) for e in table.entries[at.phrase])


def _with_features(rows: Rows, readings: Sequence[Reading], table: PhraseTable) -> Rows:
    seen, accepted, marked, worded, worded_yes = rows.x_RF.T
    M, K = len(rows.found), len(table.codes)
    share = (accepted + 0.5) / (seen + 1.0)
    of_wording = (worded_yes + _WORDING_WEIGHT * share) / (worded + _WORDING_WEIGHT)
    best_M, rival_R = _rivals(rows.place_R, share, M)
    same_R, other_R, inside_same, inside_other = _covers(rows, best_M, share, K)
    letters, words, position, doubts = _places(rows, readings, table)
    code_marks = np.bincount(table.code, table.marked, K) if table.code else np.zeros(K)
    code_marks = np.maximum(code_marks[rows.code_R], 0)
    _, at, places = np.unique(rows.emr_R * K + rows.code_R, return_inverse=True, return_counts=True)
    x_RF = np.stack(
        [
            _logit(share),
            _logit(of_wording),
            np.log1p(seen),
            seen < 1.5,
            np.log1p(marked),
            _logit(share) * np.log1p(seen),
            np.log1p(worded),
            worded < 0.5,
            rival_R,
            share >= rival_R,
            same_R,
            other_R,
            inside_same,
            inside_other,
            np.log(letters),
            words == 1,
            words == 2,
            words > 2,
            np.asarray(table.named, bool)[rows.entry_R],
            np.log1p(code_marks),
            position,
            np.log(places[at]),
            *doubts,
        ],
        axis=1,
    ).astype(np.float64)
    return Rows(rows.found, rows.emr_R, rows.place_R, rows.entry_R, rows.code_R, x_RF, rows.true_R)


def _rivals(place_R: Ints, share_R: Floats, places: int) -> tuple[Floats, Floats]:
    """The best share at each place (M,), and the best of the other codes per row (R,)."""
    best_M, second_M = np.zeros(places), np.zeros(places)
    order = np.lexsort((-share_R, place_R))
    starts = np.flatnonzero(np.diff(place_R[order], prepend=-1))
    first = order[starts]
    best_M[place_R[first]] = share_R[first]
    seconds = starts + 1
    seconds = seconds[seconds < len(order)]
    seconds = seconds[place_R[order[seconds]] == place_R[order[seconds - 1]]]
    second_M[place_R[order[seconds]]] = share_R[order[seconds]]
    rival_R = best_M[place_R]
    rival_R[first] = second_M[place_R[first]]
    return best_M, rival_R


def _covers(
    rows: Rows, best_M: Floats, share_R: Floats, codes: int
) -> tuple[Floats, Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Per row the best share among longer phrases around its place: of its code, of any."""
    inner, outer = _nested(rows.found)
    known = best_M[outer] > 0
    inner, outer = inner[known], outer[known]
    other_M = np.zeros(len(best_M))
    np.maximum.at(other_M, inner, best_M[outer])
    same_R = np.zeros(len(rows.place_R))
    if len(inner):
        keys = rows.place_R * codes + rows.code_R
        order = np.argsort(keys)
        first = np.searchsorted(rows.place_R, np.arange(len(best_M) + 1))
        sizes = np.diff(first)[inner]
        row = np.repeat(first[inner], sizes) + _ranges(sizes)
        wanted = np.repeat(outer, sizes) * codes + rows.code_R[row]
        at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        hit = keys[order][at] == wanted
        np.maximum.at(same_R, row[hit], share_R[order[at[hit]]])
    other_R = other_M[rows.place_R]
    return same_R, other_R, same_R > 0, other_R > same_R


def _nested(found: Sequence[tuple[int, Found]]) -> tuple[Ints, Ints]:
    """Pairs (inner, outer) of places, the outer one longer."""
    inner, outer = [], []
    by_text: dict[tuple[int, int], list[int]] = {}
    for place, (n, at) in enumerate(found):
        by_text.setdefault((n, at.section), []).append(place)
    for places in by_text.values():
        longer = [p for p in places if found[p][1].last > found[p][1].first]
        starts: dict[int, list[int]] = {}
        for p in longer:
            for word in range(found[p][1].first, found[p][1].last + 1):
                starts.setdefault(word, []).append(p)
        for p in places:
            at = found[p][1]
            for q in starts.get(at.first, ()):
                around = found[q][1]
                if at.last <= around.last and around.last - around.first > at.last - at.first:
                    inner.append(p)
                    outer.append(q)
    return np.array(inner, dtype=np.int64), np.array(outer, dtype=np.int64)


def _places(
    rows: Rows, readings: Sequence[Reading], table: PhraseTable
) -> tuple[Floats, Ints, Floats, list[npt.NDArray[np.bool_]]]:
    """Letters, words, relative position, and one column per context."""
    letters = np.array([max(1, len(table.keys[at.phrase])) for _, at in rows.found], dtype=float)
    words = np.array([at.last - at.first + 1 for _, at in rows.found], dtype=np.int64)
    position = np.array(
        [at.first / max(1, len(readings[n].texts[at.section].words)) for n, at in rows.found],
        dtype=float,
    )
    context = np.array(
        [readings[n].context(at.section, at.first, at.last) for n, at in rows.found], dtype=object
    )
    p = rows.place_R
    return letters[p], words[p], position[p], [context[p] == doubt for doubt in _DOUBTS]


def _ranges(sizes: Ints) -> Ints:
    """0..size-1 for every size, one after another."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)


def _logit(p: Floats) -> Floats:
    p = np.clip(p, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(p / (1 - p)))
