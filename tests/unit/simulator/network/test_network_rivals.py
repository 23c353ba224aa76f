import dataclasses

import numpy as np
import pytest

from label_config.record import Coding
from simulator.experiments import network_rivals, network_table4
from training.rival_models import RIVALS

CODES = ("E11.9", "E11.6", "I10", "J18.9")


def test_noisy_codes_count_by_their_confidence():
    codings = [Coding("a", ("I10", "Z99.9"), "noisy", (0.4, 0.1)), Coding("b", ("J18.9",), "noisy")]
    assert network_rivals.confidences(codings, CODES).tolist() == [[1, 1, 0.4, 1], [1, 1, 1, 1]]
    matrix = network_table4.confidence_matrix(codings[:1], CODES)
    assert matrix.shape == (1, 4) and matrix[0, 2] == np.float32(0.4) and matrix.nnz == 1


@pytest.mark.parametrize("quick", [True, False])
def test_every_rival_has_the_same_budget(quick):
    tried = [network_rivals.settings(name, seed=3, quick=quick) for name in RIVALS]
    grids = [{dataclasses.replace(one, model="CAML") for one in grid} for grid in tried]
    assert all(grid == grids[0] and len(grid) == len(tried[0]) for grid in grids)
