"""A record's sentences as rows of stems, with their places."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from label_config.record import EMR
from training.stems import StemText, stem_text


class Sentence(NamedTuple):
    """The words `first` to before `end` of a section's text."""

    section: str
    text: StemText
    first: int
    end: int

    @property
    def stems(self) -> list[str]:
        """Its content words."""
        return self.text.stems[self.first : self.end]

    @property
    def key(self) -> str:
        """The same as `stems.stem_key` would write them."""
        return " ".join(self.stems)


def sentences(emr: EMR) -> Iterator[Sentence]:
    """Every sentence that has a content word, in reading order."""
    for section, text in emr.texts():
        read = stem_text(text)
        edges = [0, *(np.flatnonzero(np.diff(read.sentences)) + 1).tolist(), len(read.stems)]
        for first, end in pairwise(edges):
            if first < end:
                yield Sentence(section, read, first, end)
