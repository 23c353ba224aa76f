"""Which EMRs next: noisy codes with confidence and clean counts in; a batch with reasons out.

Sees arrays and tables only, so that it can be used, tested and timed without a model.
"""

from sampler.batch import Batch, Reason, Serves, reason_text
from sampler.bound import Bound
from sampler.coverage import CoverageSampler
from sampler.forecast import Forecast, ForecastConfig, Interval
from sampler.policies import POLICIES
from sampler.posterior import PosteriorConfig
from sampler.status import CodeStatus, Contribution

__all__ = [
    "POLICIES",
    "Batch",
    "Bound",
    "CodeStatus",
    "Contribution",
    "CoverageSampler",
    "Forecast",
    "ForecastConfig",
    "Interval",
    "PosteriorConfig",
    "Reason",
    "Serves",
    "reason_text",
]
