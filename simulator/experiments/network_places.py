"""What the network's experiments have in common: seeds, presets, and places with rows to make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from label_config.measured import Progress
from label_config.record import EMR
from simulator.experiments.cells import first_seeds, hash_of
from simulator.experiments.kept import NOTHING, Kept
from simulator.experiments.network_data import HPH, Pool, Site, Ward, load_encoder, pool, ward
from training.encoder import Encoder
from training.features import FeatureStore
from training.stages import StagesConfig

QUICK_SEEDS = 3
Value = TypeVar("Value")


class HasEMRs(Protocol):
    """EMRs and codings, however they are parted."""

    def all_emrs(self) -> list[EMR]:
        """In an order of their own."""

    def hash(self) -> str:
        """Of all that rows depend on."""


Drawn = TypeVar("Drawn", bound=HasEMRs)


@dataclass
class Place(Generic[Drawn]):
    """EMRs of one seed to try settings on; drawn only where one of the rows is not kept."""

    name: str
    seed: int
    draw: Callable[[], Drawn]
    trials: Trials
    cache: Path
    """The folder of the encoder's features."""
    about: str
    """Hash of what the EMRs and their codes are drawn by."""

    @cached_property
    def data(self) -> Drawn:
        """Drawn once, and encoded once.

        All EMRs go through the encoder together: in other minibatches features differ by their last
        bit, and a run that goes on would have others than a run in one go.
        """
        data = self.draw()
        FeatureStore(self.trials.encoder, self.cache).features(data.all_emrs())
        return data

    def row(self, name: str, config: Any, make: Callable[[], Value]) -> Value:
        """One row, or whatever else is made in one go, and a step of the progress.

        `config` is all that it depends on beside the place, with a repr that tells its content.
        """
        found = self.fact(name, make, config)
        self.trials.step()
        return found

    def fact(self, name: str, make: Callable[[], Value], config: Any = None) -> Value:
        """What is kept beside the rows."""
        key = {"place": self.name, "seed": self.seed, "row": name}
        return self.trials.kept.row(key | {"hash": hash_of(self.about, config)}, make)


class Trials:
    """One run: its seeds, its encoder and preset, and how far it has come."""

    def __init__(
        self,
        quick: bool,
        seeds: Sequence[int],
        *,
        progress: Progress | None = None,
        kept: Kept = NOTHING,
        most: int | None = None,
    ) -> None:
        """`most`: seeds of a quick run, QUICK_SEEDS if None."""
        self.quick, self.progress, self.kept = quick, progress, kept
        self.seeds = first_seeds(seeds, quick=quick, most=most or QUICK_SEEDS)
        self.config = StagesConfig.quick() if quick else StagesConfig.best()
        self.encoder: Encoder = load_encoder()
        self.hashes: list[str] = []
        """Of the data of every place so far."""
        self.total = 0
        """Steps; known once the settings are."""
        self._done = 0

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self.progress is not None:
            self.progress(self._done, self.total)

    def ward(
        self, cache: Path, sizes: tuple[int, int, int, int], *, seed: int, site: Site = HPH
    ) -> Place[Ward]:
        """A hospital with raw, noisy, clean and unseen EMRs."""
        draw = partial(ward, sizes, self.encoder, seed=seed, site=site)
        return self.place(str(site), cache, draw, seed, (site, sizes))

    def pool(
        self, cache: Path, sizes: tuple[int, int], *, seed: int, site: Site = HPH
    ) -> Place[Pool]:
        """A hospital whose clean EMRs (of the first number) are still to be chosen."""
        draw = partial(pool, *sizes, self.encoder, seed=seed, site=site)
        return self.place(str(site), cache, draw, seed, (site, sizes))

    def place(
        self, name: str, cache: Path, draw: Callable[[], Drawn], seed: int, about: Any
    ) -> Place[Drawn]:
        """A place and the hash of its data; `about` tells, beside the seed, how it is drawn."""
        place = Place(name, seed, draw, self, cache, about=hash_of(about, self.encoder.fingerprint))
        self.hashes.append(place.fact("data", lambda: place.data.hash()))
        return place
