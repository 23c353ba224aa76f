"""Which of an experiment's places and rows are made: all, or those that somebody asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from label_config.errors import ConfigError

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Names of places and rows; no names choose them all."""

    places: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    def of_places(self, known: Mapping[str, Value]) -> dict[str, Value]:
        """The chosen places in their own order. Raises ConfigError for one that is not known."""
        return _those("place", self.places, known)

    def of_rows(self, known: Mapping[str, Value], *, always: int = 1) -> dict[str, Value]:
        """The chosen rows in their own order, and the first ones, which all are compared with.

        Raises ConfigError for one that is not known.
        """
        first = list(known)[:always] if self.rows else []
        return _those("row", (*first, *self.rows), known)


EVERYTHING = Chosen()


def _those(kind: str, names: Iterable[str], known: Mapping[str, Value]) -> dict[str, Value]:
    wanted = set(names)
    unknown = sorted(wanted - set(known))
    if unknown:
        raise ConfigError(f"no {kind} {unknown[0]!r}; there are: {'; '.join(known)}")
    return {name: value for name, value in known.items() if not wanted or name in wanted}
