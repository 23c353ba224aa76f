"""kNN over the clean EMRs: their codes vote, and they are shown as similar cases (eq. 11-13).

Shapes: N queries, M stored EMRs, K codes, D the readout's width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from label_config.errors import CheckpointError, ConfigError, DataError
from label_config.files import read_codings, read_emrs, write_json, write_records
from label_config.record import EMR, Coding
from label_config.suggestion import SimilarCase
from training.checkpoint import load_tensors, save_tensors
from training.shared_words import WordRarity, content_words, excerpt

NEIGHBOURS = 3
"""k of the paper."""
SHARED_WORDS = 8
QUERIES_PER_STEP = 1_024
SPARE = 16
"""Candidates beyond k whose distance is measured exactly."""
_TINY = 1e-6


class Datastore:
    """Exact search in L2-normalised readouts. One entry per EMR; adding it again replaces it."""

    def __init__(self, codes: Sequence[str], *, dim: int) -> None:
        """Start empty, for a code set and a readout width D."""
        self.codes = tuple(codes)
        self.tau = 1.0
        """Scale of a distance in eq. 11: the median distance to the k-th other neighbour."""
        self._column = {code: column for column, code in enumerate(self.codes)}
        self._z_MD = torch.zeros(0, dim)
        self._targets_MK = torch.zeros(0, len(self.codes))
        self._emrs: list[EMR] = []
        self._codings: list[Coding] = []
        self._row: dict[str, int] = {}
        self._rarity = WordRarity()

    @classmethod
    def build(
        cls,
        network_embeddings_ND: NDArray[np.float32],
        emrs: Sequence[EMR],
        codings: Sequence[Coding],
        codes: Sequence[str],
    ) -> Datastore:
        """Fill a datastore and set its `tau` from the distances in it."""
        store = cls(codes, dim=network_embeddings_ND.shape[1])
        store.add(network_embeddings_ND, emrs, codings)
        store.tau = store.typical_distance()
        return store

    def __len__(self) -> int:
        return len(self._emrs)

    def __contains__(self, emr_id: object) -> bool:
        return emr_id in self._row

    def add(
        self,
        embeddings_ND: NDArray[np.float32],
        emrs: Sequence[EMR],
        codings: Sequence[Coding],
    ) -> None:
        """Add EMRs with their clean codes, at once usable; codes outside the set are left out.

        Raises DataError if an EMR and its coding do not belong together.
        """
        if not len(embeddings_ND) == len(emrs) == len(codings):
            raise DataError(
                "datastore needs one embedding and one coding per EMR, "
                f"got {len(embeddings_ND)}, {len(codings)} for {len(emrs)}"
            )
        for emr, coding in zip(emrs, codings, strict=True):
            if emr.emr_id != coding.emr_id:
                raise DataError(f"EMR {emr.emr_id} came with the coding of {coding.emr_id}")
        if len({emr.emr_id for emr in emrs}) < len(emrs):
            raise DataError("datastore needs each EMR once, got one twice")
        for row in self._put(_unit(embeddings_ND), emrs, codings):
            self._rarity.add(content_words(self._emrs[row].long_text))

    def _put(self, z_ND: torch.Tensor, emrs: Sequence[EMR], codings: Sequence[Coding]) -> list[int]:
        """Place entries in new rows, or in the rows of the EMRs that they replace."""
        rows = []
        for emr, coding in zip(emrs, codings, strict=True):
            row = self._row.setdefault(emr.emr_id, len(self._emrs))
            if row == len(self._emrs):
                self._emrs.append(emr)
                self._codings.append(coding)
            else:
                self._rarity.remove(content_words(self._emrs[row].long_text))
                self._emrs[row], self._codings[row] = emr, coding
            rows.append(row)
        grown = len(self._emrs) - len(self._z_MD)
        self._z_MD = torch.cat([self._z_MD, torch.zeros(grown, self._z_MD.shape[1])])
        self._targets_MK = torch.cat([self._targets_MK, torch.zeros(grown, len(self.codes))])
        self._z_MD[rows] = z_ND
        for row in rows:
            known = [self._column[c] for c in self._codings[row].codes if c in self._column]
            self._targets_MK[row] = 0.0
            self._targets_MK[row, known] = 1.0
        return rows

    def typical_distance(self, k: int = NEIGHBOURS, *, at_most: int = 2_000) -> float:
        """The median distance to the k-th other neighbour; 1 for a store too small to tell."""
        if len(self) < 2:
            return 1.0
        step = -(-len(self) // at_most)
        rows = list(range(0, len(self), step))
        distances, _ = self._nearest(
            self._z_MD[rows], min(k, len(self) - 1), [self._emrs[row].emr_id for row in rows]
        )
        return max(float(distances[:, -1].median()), _TINY)

    def knn_probs(
        self,
        z_ND: NDArray[np.float32],
        k: int = NEIGHBOURS,
        tau: float | None = None,
        *,
        emr_ids: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """Eq. 11-12: the k nearest EMRs vote with weight exp(-distance / tau); shape (N, K).

        `tau` defaults to the store's own. With `emr_ids` no EMR votes on itself. All zero for an
        empty store.
        """
        return self.votes(z_ND, k, tau, emr_ids=emr_ids)[0]

    def votes(
        self,
        z_ND: NDArray[np.float32],
        k: int = NEIGHBOURS,
        tau: float | None = None,
        *,
        emr_ids: Sequence[str] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return `knn_probs`, and how near the voters stand, shape (N,).

        Nearness is the mean of exp(1 - distance / tau) over the voters: about 1 as far from them as
        the stored EMRs are from each other, more if nearer, 0 without any.
        """
        if k < 1 or (tau is not None and tau <= 0):
            raise ConfigError(f"kNN needs k >= 1 and tau > 0, got {k} and {tau}")
        tau = self.tau if tau is None else tau
        z = _unit(z_ND)
        probs_NK, near_N = torch.zeros(len(z), len(self.codes)), torch.zeros(len(z))
        for start in range(0, len(z) if len(self) else 0, QUERIES_PER_STEP):
            part = slice(start, start + QUERIES_PER_STEP)
            own = None if emr_ids is None else emr_ids[part]
            distances_Nk, rows_Nk = self._nearest(z[part], k, own)
            # a neighbour at infinite distance is the EMR itself, left out
            weights_Nk = torch.softmax(-distances_Nk / tau, dim=1).nan_to_num(0.0)
            probs_NK[part] = (weights_Nk[..., None] * self._targets_MK[rows_Nk]).sum(1)
            voters_N = distances_Nk.isfinite().sum(1).clamp_min(1)
            near_N[part] = torch.exp(1.0 - distances_Nk / tau).sum(1) / voters_N
        return probs_NK.clamp(0.0, 1.0).numpy(), near_N.numpy()

    def similar(
        self, z_D: NDArray[np.float32], k: int = NEIGHBOURS, *, emr: EMR | None = None
    ) -> list[SimilarCase]:
        """Return the k nearest clean EMRs, nearest first.

        With the `emr` at hand, it is left out itself, and each case names the words shared with it
        (most telling first) and an excerpt around them.
        """
        if not len(self) or k < 1:
            return []
        own = None if emr is None else [emr.emr_id]
        distances, rows = self._nearest(_unit(z_D[None]), k, own)
        words = set() if emr is None else content_words(emr.long_text)
        cases = []
        for distance, row in zip(distances[0].tolist(), rows[0].tolist(), strict=True):
            if distance == float("inf"):
                continue
            other = self._emrs[row]
            shared = self._rarity.top(words & content_words(other.long_text), SHARED_WORDS)
            cases.append(
                SimilarCase(
                    emr_id=other.emr_id,
                    similarity=max(-1.0, 1.0 - distance**2 / 2.0),
                    codes=self._codings[row].codes,
                    excerpt=excerpt(other, shared, self._rarity),
                    shared_words=shared,
                )
            )
        return cases

    def save(self, folder: Path) -> None:
        """Write the store's files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(folder / "embeddings.safetensors", {"z_MD": self._z_MD})
        write_records(folder / "emrs.parquet", self._emrs, EMR)
        write_records(folder / "codings.parquet", self._codings, Coding)
        write_json(folder / "datastore.json", {"tau": self.tau, "rarity": self._rarity.to_dict()})

    @classmethod
    def load(cls, folder: Path, codes: Sequence[str]) -> Datastore:
        """Read what `save` wrote. Raises CheckpointError where a file is missing or foreign."""
        z_MD = load_tensors(folder / "embeddings.safetensors").get("z_MD")
        if z_MD is None or z_MD.ndim != 2:
            raise CheckpointError(f"{folder} holds no embeddings of a datastore")
        try:
            emrs = read_emrs(folder / "emrs.parquet").records
            codings = read_codings(folder / "codings.parquet").records
        except DataError as error:
            raise CheckpointError(f"{folder} is not a datastore: {error}") from error
        if not [e.emr_id for e in emrs] == [c.emr_id for c in codings] or len(emrs) != len(z_MD):
            raise CheckpointError(f"{folder} is not a datastore: its files do not belong together")
        store = cls(codes, dim=z_MD.shape[1])
        store._put(z_MD, emrs, codings)
        store.tau, store._rarity = _read_settings(folder / "datastore.json")
        return store

    def _nearest(
        self, z_ND: torch.Tensor, k: int, emr_ids: Sequence[str] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances and rows of the k nearest, both (N, at most k), nearest first."""
        cosine_NM = z_ND @ self._z_MD.T
        if emr_ids is not None:
            for query, emr_id in enumerate(emr_ids):
                if emr_id in self._row:
                    cosine_NM[query, self._row[emr_id]] = -torch.inf
        # a cosine near 1 keeps half the digits of the distance: a few more than k are measured
        cosine_NC, rows_NC = cosine_NM.topk(min(k + SPARE, len(self)), dim=1)
        distances_NC = torch.linalg.vector_norm(z_ND[:, None] - self._z_MD[rows_NC], dim=2)
        distances_NC.masked_fill_(cosine_NC.isneginf(), torch.inf)
        distances_Nk, order_Nk = distances_NC.topk(min(k, len(self)), dim=1, largest=False)
        return distances_Nk, rows_NC.gather(1, order_Nk)


def _unit(z_ND: NDArray[np.float32]) -> torch.Tensor:
    z = torch.from_numpy(np.ascontiguousarray(z_ND, np.float32))
    return torch.nn.functional.normalize(z, dim=1)


def _read_settings(path: Path) -> tuple[float, WordRarity]:
    try:
        values = json.loads(path.read_text("utf-8"))
        return float(values["tau"]), WordRarity.from_dict(values["rarity"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} needs tau and word counts") from error
