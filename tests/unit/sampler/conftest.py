import pytest

from sampler.synthetic import PoolConfig, SyntheticPool, make_pool


@pytest.fixture(scope="session")
def pool() -> SyntheticPool:
    """600 EMRs over 20 codes in 5 categories, 30 % noise."""
    return make_pool(PoolConfig(n_emrs=600, n_codes=20, codes_per_emr=3.0), seed=7)
