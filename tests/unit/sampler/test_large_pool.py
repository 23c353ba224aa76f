import numpy as np
import pytest

from label_config.errors import ConfigError
from sampler import CoverageSampler, large_pool
from sampler.confusion import present
from sampler.large_pool import LargePool
from sampler.synthetic import PoolConfig

CONFIG = PoolConfig(n_emrs=2_500, n_codes=40, codes_per_emr=4.0, noise=0.4)


@pytest.fixture
def made(tmp_path, monkeypatch) -> LargePool:
    monkeypatch.setattr(large_pool, "EMRS_AT_ONCE", 1_000)
    return LargePool.make(CONFIG, 3, tmp_path)


def test_a_pool_made_in_parts_has_every_emr_and_lies_in_files(made, tmp_path):
    assert made.noisy.shape == made.clean.shape == (2_500, 40)
    assert made.category.tolist() == [k // 4 for k in range(40)]
    assert np.diff(made.clean.indptr).min() >= 1
    assert made.clean.nnz / 2_500 == pytest.approx(4.0, rel=0.1)
    assert (tmp_path / "noisy.values").stat().st_size == 4 * made.noisy.nnz


def test_what_its_mapper_lists_is_right_about_as_often_as_the_noise_says(made):
    assert 0.65 < present(made.noisy, made.clean).mean() < 0.85


def test_its_rows_are_sorted_and_hold_each_code_once(made):
    for matrix in (made.noisy, made.clean):
        copy = matrix.copy()
        copy.has_canonical_format = False
        copy.sum_duplicates()
        assert copy.nnz == matrix.nnz
        assert (copy.indices == matrix.indices).all()


def test_the_same_seed_draws_the_same_pool(made, tmp_path):
    (tmp_path / "again").mkdir()
    again = LargePool.make(CONFIG, 3, tmp_path / "again")
    assert (again.noisy != made.noisy).nnz == (again.clean != made.clean).nnz == 0


def test_a_sampler_works_on_the_files_without_writing_to_them(made):
    sampler = CoverageSampler(made.noisy, 5, category=made.category)
    assert np.shares_memory(sampler.noisy_NK.data, made.noisy.data)
    batch = sampler.query(50)
    sampler.update(batch.rows, made.clean[batch.rows])
    assert sampler.status().clean.sum() == made.clean[batch.rows].nnz
    assert len(sampler.query(50)) > 0


def test_habits_of_the_mapper_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="chance only"):
        LargePool.make(PoolConfig(n_emrs=10, systematic=0.1), 0, tmp_path)
