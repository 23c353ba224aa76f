"""The English pack, loaded once, and a small hospital over it."""

import pytest

from simulator.hospital import Hospital
from simulator.knowledge import Pack, load_pack


@pytest.fixture(scope="session")
def pack() -> Pack:
    return load_pack("en")


@pytest.fixture(scope="session")
def hospital(pack: Pack) -> Hospital:
    return Hospital(pack, codes=50, seed=3)
