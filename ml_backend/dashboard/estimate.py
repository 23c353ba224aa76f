"""A median with its 80 % interval, and the arithmetic that hours and days need."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_80 = 1.2816
"""Half of an 80 % interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is expected, and the ends between which it falls four times in five."""

    median: float
    low: float
    high: float

    def times(self, factor: float, *, relative_error: float = 0.0) -> Estimate:
        """Multiply by a factor known up to a relative standard error; independent errors."""

        def end(value: float) -> float:
            own = abs(value - self.median) / self.median if self.median else 0.0
            return math.hypot(own, Z_80 * relative_error)

        middle = self.median * factor
        low = max(middle * (1.0 - end(self.low)), 0.0)
        return Estimate(middle, low, middle * (1.0 + end(self.high)))
