"""CoverageSampler: batches that bring every code to its quota of clean EMRs with the least work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from label_config.errors import ConfigError, DataError
from sampler.batch import Batch, plan_size, reasons, shrunk
from sampler.bound import Bound, lower_bound
from sampler.forecast import Forecast, ForecastConfig, forecast
from sampler.keys import random_order
from sampler.labels import Rows, row_numbers
from sampler.policies import POLICIES
from sampler.posterior import Posterior, PosteriorConfig, fit_posterior
from sampler.reported import FREE, PENDING, Reported
from sampler.select import PoolView, scarcity_greedy
from sampler.status import CodeStatus, Contribution, code_status, contributions


class CoverageSampler(Reported):
    """Chooses batches and keeps the counts; its state is a function of what was reported to it.

    Every EMR is free, pending (with a coder), clean (annotated) or excluded (skipped). Reporting
    the annotations, the pending and the excluded EMRs in any order rebuilds the same state, so
    nothing needs saving.
    """

    def __init__(
        self,
        noisy: sp.csr_matrix,
        target: int | Sequence[int] | NDArray[Any],
        *,
        category: Sequence[int] | NDArray[Any] | None = None,
        minutes: Sequence[float] | NDArray[Any] | None = None,
        min_yield: float = 0.2,
        floor: int = 0,
        seed: int = 0,
        row_keys: Sequence[Any] | NDArray[Any] | None = None,
        group: Sequence[int] | NDArray[Any] | None = None,
        random_share: float = 0.0,
        suggested: sp.csr_matrix | None = None,
        policy: str = "priced greedy",
        share_left: float = 1.0,
        posterior: PosteriorConfig | None = None,
    ) -> None:
        """Take a pool of N EMRs and K codes.

        Args:
            noisy: (N, K), confidence in (0, 1] of each noisy code; absent means not listed.
            target: Clean EMRs wanted per code, the quota s; one number or (K,).
            category: (K,) parent category per code, so that siblings are looked behind.
            minutes: (N,) expected minutes per EMR. Given, minutes are minimised; else EMRs.
            min_yield: The effort dial: an EMR expected to add fewer needed labels than this is
                never chosen (0.2: at most five EMRs for one label).
            floor: Target given to codes that the pool cannot fill.
            seed: Another seed breaks ties otherwise; the same calls choose the same EMRs.
            row_keys: (N,) distinct `emr_id`s; ties then do not depend on the order of rows.
            group: (N,) copies share a number, as a hash of their text gives it; of a group one EMR
                at most is in a batch or with coders.
            random_share: Share of each batch drawn at random from the free EMRs, 0 to 1.
            suggested: (N, K) the model's probabilities; see `suggest`.
            policy: One of `sampler.policies.POLICIES`.
            share_left: A batch takes at most this share of the EMRs that are expected to be still
                needed, 0 to 1: with 0.25 batches shrink towards the end (to FEWEST at least), and
                fewer EMRs are needed in all, 1 to 2 % at a quota of 35, more at smaller ones. 1
                leaves batches as they are asked for.
            posterior: Priors of the learned error rates.

        Raises:
            DataError: Confidences outside (0, 1], or arrays of other lengths than N and K.
            ConfigError: A setting that no run can use.
        """
        self.noisy_NK = sp.csr_matrix(noisy, dtype=np.float32)
        self.noisy_NK.sum_duplicates()
        values, (n_emrs, n_codes) = self.noisy_NK.data, self.noisy_NK.shape
        super().__init__(n_emrs, n_codes, target)
        if values.size and not (values.min() > 0 and values.max() <= 1):
            raise DataError(f"confidence must lie in (0, 1], got {values.min()}..{values.max()}")
        if not (0 <= random_share <= 1 and min_yield > 0 and floor >= 0 and 0 < share_left <= 1):
            raise ConfigError(
                "needed 0 <= random_share <= 1, min_yield > 0, floor >= 0 and 0 < share_left <= 1, "
                f"got {random_share:g}, {min_yield:g}, {floor} and {share_left:g}"
            )
        if policy not in POLICIES:
            raise ConfigError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
        self.min_yield, self.floor, self.random_share = min_yield, float(floor), random_share
        self.policy, self.share_left = POLICIES[policy], share_left
        self.config = posterior or PosteriorConfig()
        self.category = (
            None if category is None else _sized(category, n_codes, "category", np.int64)
        )
        self.group = None if group is None else _sized(group, n_emrs, "group", np.int64)
        self.minutes = None if minutes is None else _sized(minutes, n_emrs, "minutes", np.float64)
        if self.minutes is not None and n_emrs and self.minutes.min() <= 0:
            raise DataError(f"minutes must be above 0, got {self.minutes.min():g}")
        keys = np.arange(n_emrs) if row_keys is None else _sized(row_keys, n_emrs, "row_keys")
        self.tie_N, self.draw_N = random_order(keys, 2 * seed), random_order(keys, 2 * seed + 1)
        self._posterior: Posterior | None = None
        self._probs: sp.csr_matrix | None = None
        self.suggest(suggested)

    # -- the loop -----------------------------------------------------------------------------

    def query(
        self,
        batch_size: int,
        at_most: int | None = None,
        *,
        uncertainty: NDArray[Any] | None = None,
        uncertainty_weight: float = 0.0,
    ) -> Batch:
        """Choose up to `batch_size` EMRs and mark them pending; empty when nothing is worth it.

        Args:
            batch_size: EMRs wanted, at least 1.
            at_most: Counts at most this need per code; 2 gives a coder's first patch in the
                paper's sense, every code twice.
            uncertainty: (N,) how unsure the model is of each EMR, 0 to 1.
            uncertainty_weight: w; gains are multiplied by 1 + w x uncertainty.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        if uncertainty_weight < 0:
            raise ConfigError(
                f"uncertainty_weight must not be negative, got {uncertainty_weight:g}"
            )
        status = self.status()
        view = self._view(status, at_most)
        if uncertainty is not None:
            unsure = _sized(uncertainty, self.state_N.size, "uncertainty", np.float64)
            view = replace(view, cost=view.cost / (1 + uncertainty_weight * unsure))
        batch_size = self._shrunk(batch_size, view)
        n_random = round(self.random_share * batch_size)
        chosen = self.policy(view, batch_size - n_random)
        # An empty choice ends the project: nothing is then drawn for checking either.
        drawn = self._draw(n_random if chosen.rows.size else 0, chosen.rows)
        rows = np.concatenate([chosen.rows, drawn])
        self.state_N[rows] = PENDING
        served = reasons(view.probs, chosen.rows, status)
        return Batch(
            rows=rows,
            gain=np.concatenate([chosen.gain, np.zeros(drawn.size)]),
            minutes=np.ones(rows.size) if self.minutes is None else self.minutes[rows],
            reasons=served + ((),) * drawn.size,
            random=np.arange(rows.size) >= chosen.rows.size,
        )

    def suggest(self, suggested: sp.csr_matrix | None) -> None:
        """Take the model's probabilities as a second witness beside the noisy codes.

        How far they can be trusted is learned from the annotated EMRs, so a model should speak of
        those as it did before it was trained on them.

        Args:
            suggested: (N, K), 0 to 1; a code without an entry is not suggested, and of an EMR
                without entries the model was not asked. None for no model.
        """
        if suggested is not None:
            suggested = sp.csr_matrix(suggested, dtype=np.float32)
            suggested.sum_duplicates()
            values = suggested.data
            if suggested.shape != self.noisy_NK.shape:
                raise DataError(
                    f"suggested needs shape {self.noisy_NK.shape}, got {suggested.shape}"
                )
            if values.size and not (values.min() >= 0 and values.max() <= 1):
                raise DataError(f"suggested must lie in 0 to 1, got {values.min()}..{values.max()}")
        self.suggested_NK = suggested
        self._forget()

    # -- asking -------------------------------------------------------------------------------

    def status(self) -> CodeStatus:
        """Where each code stands now."""
        return code_status(
            self.probabilities(),
            free_N=self.state_N == FREE,
            pending=self.pending,
            clean_K=self.clean.counts(),
            target_K=self.target_K,
            floor=self.floor,
            min_yield=self.min_yield,
            habit_variance=self.posterior().habit_variance(),
        )

    def explain(self, row: int) -> list[Contribution]:
        """What an EMR is worth to each code that still needs EMRs, weightiest first."""
        number = int(row_numbers([row], self.state_N.size)[0])
        return contributions(self.probabilities(), number, self.status())

    @property
    def done(self) -> bool:
        """True when nothing is pending and no EMR is worth choosing."""
        if self.pending.size:
            return False
        return not self.policy(self._view(self.status()), 1).rows.size

    def forecast(self, *, config: ForecastConfig | None = None, seed: int = 0) -> Forecast:
        """EMRs and minutes to go, with 80 % intervals, over all codes and for each one."""
        status = self.status()
        return forecast(
            self._view(status),
            self.posterior(),
            status,
            minutes_N=self.minutes,
            pending=self.pending,
            share_left=self.share_left,
            config=config,
            seed=seed,
        )

    def bound(self) -> Bound:
        """Least EMRs (or minutes, in average EMRs) still needed, certified, and the plan's own.

        Rests on the probabilities learned so far; pending EMRs are not counted.
        """
        view = self._view(self.status())
        return lower_bound(view, unlisted_K=self.posterior().unlisted, plan=True)

    def posterior(self) -> Posterior:
        """How far noisy codes can be trusted, as learned so far."""
        if self._posterior is None:
            self._posterior = fit_posterior(
                self.noisy_NK,
                self.clean,
                category=self.category,
                order=np.argsort(self.tie_N[self.clean.rows]),
                suggested_NK=self.suggested_NK,
                config=self.config,
            )
        return self._posterior

    def probabilities(self) -> sp.csr_matrix:
        """P(clean has code), (N, K), as learned so far."""
        if self._probs is None:
            self._probs = self.posterior().probabilities(self.noisy_NK, self.suggested_NK)
        return self._probs

    # -- steps --------------------------------------------------------------------------------

    def _view(self, status: CodeStatus, at_most: int | None = None) -> PoolView:
        needed = status.needed if at_most is None else np.minimum(status.needed, at_most)
        minutes = np.ones(self.state_N.size) if self.minutes is None else self.minutes
        return PoolView(
            probs=self.probabilities(),
            noisy=self.noisy_NK,
            free=self._choosable(),
            needed=needed,
            scarcity=status.scarcity,
            order=self.tie_N,
            cost=minutes / minutes.mean() if minutes.size else minutes,
            min_yield=self.min_yield,
            suggested=self.suggested_NK,
            unlisted=self.posterior().unlisted,
            group=self.group,
        )

    def _shrunk(self, batch_size: int, view: PoolView) -> int:
        """The batch, cut to its share of what the plan expects to be still needed."""
        enough = plan_size(batch_size, self.share_left)
        # An EMR adds at most one label to a code.
        if self.share_left == 1 or view.needed.max(initial=0.0) >= enough:
            return batch_size
        planned = scarcity_greedy(view, enough).rows.size
        return shrunk(batch_size, planned, self.share_left)

    def _choosable(self) -> NDArray[np.bool_]:
        """(N,) free, and no copy of an EMR that is with a coder."""
        free: NDArray[np.bool_] = self.state_N == FREE
        if self.group is not None:
            free &= ~np.isin(self.group, self.group[self.pending])
        return free

    def _draw(self, count: int, chosen: Rows) -> Rows:
        """EMRs at random among the free ones that are not chosen already."""
        if not count:
            return np.zeros(0, np.int64)
        free = self._choosable()
        free[chosen] = False
        if self.group is not None:
            free &= ~np.isin(self.group, self.group[chosen])
        rows = np.flatnonzero(free)
        rows = rows[np.argsort(self.draw_N[rows])]
        if self.group is not None:
            rows = rows[np.sort(np.unique(self.group[rows], return_index=True)[1])]
        return rows[:count]

    def _forget(self) -> None:
        """Drop what was learned from labels that have changed since."""
        self._posterior = self._probs = None


def _sized(values: Any, size: int, name: str, dtype: type | None = None) -> NDArray[Any]:
    array = np.asarray(values, dtype=dtype)
    if array.shape != (size,):
        raise DataError(f"{name} needs {size} values, got shape {array.shape}")
    return array
