"""Checks a dataset: its rates against real records', and two baselines against their bands.

A simulated hospital is worth training on when names alone do not code it, plain regression codes
it neither perfectly nor hardly at all, and rare codes stay hard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from label_config.errors import DataError
from simulator.baselines import Regression, Texts, closed_world_accuracy, keyword_f1
from simulator.hospital import WIDE, Hospital
from simulator.knowledge import load_pack
from simulator.pack import Pack
from simulator.rates import Row, noise_rows, rate_rows
from simulator.reader import Dataset, read_dataset

AT_MOST = 10_000
"""EMRs that a check reads."""
TRAINING_EMRS = 6_000
"""EMRs that the regression of the published bands learns from."""
HELD_OUT = 1_000
"""EMRs of the wide code set that choose its threshold; twice as many test it."""
FULL_CODES = 600
LOWEST, HIGHEST = 0.0, 1.0
"""A band that only reports."""
Progress = Callable[[str, int, int], None]
"""Called with (step, codes done, codes in all); 0 and 0 where there is nothing to count."""


def check_dataset(
    folder: Path, *, baselines: bool = True, progress: Progress | None = None
) -> list[Row]:
    """Every row for a dataset that `write_dataset` made.

    `baselines` adds the models' bands, which take minutes.
    """

    def tell(step: str, done: int = 0, total: int = 0) -> None:
        if progress is not None:
            progress(step, done, total)

    tell("rates")
    dataset = read_dataset(folder, at_most=AT_MOST)
    pack = load_pack(dataset.settings["language"])
    codes = pack.codes[: dataset.settings["codes"]]
    rows = [*rate_rows(dataset, pack, codes), *noise_rows(dataset)]
    if baselines:
        rows += baseline_rows(dataset, pack, codes, tell)
        if len(codes) < min(FULL_CODES, len(pack.codes)):
            rows += wide_rows(dataset, pack, tell)
    return rows


def baseline_rows(
    dataset: Dataset, pack: Pack, codes: Sequence[str], tell: Callable[..., None]
) -> list[Row]:
    """Name keywords and TF-IDF regression on clean codes, at home and in the other hospital's
    words; closed-world accuracy of the diagnosis names.
    """
    train, validation, test = (_texts(dataset, s) for s in ("train", "validation", "test"))
    if len(train[0]) < 200 or len(validation[0]) < 50 or len(test[0]) < 50:
        raise DataError(
            "the baselines need at least 200 EMRs to train, 50 to validate and 50 to test, got "
            f"{len(train[0])}, {len(validation[0])} and {len(test[0])}"
        )
    model = _fitted(pack, codes, train, validation, tell)
    micro, macro = model.f1(test)
    settings = dataset.settings
    other = "B" if settings["bank"] == "A" else "A"
    away, _ = model.f1(_fresh(pack, settings, settings["codes"], other, max(400, len(test[0]))))
    few = len(codes) <= WIDE
    learnt, mapped = ((0.65, 0.85), (0.45, 0.70)) if few else ((LOWEST, HIGHEST),) * 2
    accuracy = closed_world_accuracy(dataset, pack, codes)
    return [
        Row(
            "name keywords: micro-F1",
            None,
            0.0,
            round(micro - 0.10, 4),
            keyword_f1(*test, pack, codes),
        ),
        Row("TF-IDF regression: micro-F1", None, *learnt, micro),
        Row("TF-IDF regression: macro-F1", None, LOWEST, _highest_macro(codes), macro),
        Row("closed-world name accuracy", None, *mapped, accuracy),
        Row(
            f"drop from hospital {settings['bank']} to {other}",
            None,
            -HIGHEST,
            HIGHEST,
            round(micro - away, 4),
        ),
    ]


def wide_rows(dataset: Dataset, pack: Pack, tell: Callable[..., None]) -> list[Row]:
    """The regression over the full code set, on EMRs of its own: rare codes must stay hard."""
    codes, settings = pack.codes[:FULL_CODES], dataset.settings
    tell(f"writing EMRs over {len(codes)} codes")
    wide = _fresh(pack, settings, len(codes), settings["bank"], TRAINING_EMRS + 3 * HELD_OUT)
    cuts = (TRAINING_EMRS, TRAINING_EMRS + HELD_OUT)
    train, validation, test = (
        (wide[0][part], wide[1][part])
        for part in (slice(cuts[0]), slice(*cuts), slice(cuts[1], None))
    )
    micro, macro = _fitted(pack, codes, train, validation, tell).f1(test)
    name = f"{len(codes)} codes: regression"
    return [
        Row(f"{name} micro-F1", None, LOWEST, HIGHEST, micro),
        Row(f"{name} macro-F1", None, LOWEST, _highest_macro(codes), macro),
    ]


def _fitted(
    pack: Pack, codes: Sequence[str], train: Texts, validation: Texts, tell: Callable[..., None]
) -> Regression:
    step = f"regression, {len(codes)} codes"
    tell(step)
    model = Regression(
        codes, unit=pack.wording.unit, report=lambda done, total: tell(step, done, total)
    )
    return model.fit(train, validation)


def _highest_macro(codes: Sequence[str]) -> float:
    return 0.45 if len(codes) >= FULL_CODES else HIGHEST


def _fresh(pack: Pack, settings: dict[str, Any], codes: int, bank: Any, n: int) -> Texts:
    """EMRs of a hospital with the next seed."""
    hospital = Hospital(
        pack, profile=settings["profile"], codes=codes, seed=settings["seed"] + 1, bank=bank
    )
    simulated = list(hospital.emrs(n))
    return [s.emr.long_text for s in simulated], [set(s.gold.codes) for s in simulated]


def _texts(dataset: Dataset, split: str) -> Texts:
    most = TRAINING_EMRS if split == "train" else 2 * HELD_OUT
    places = dataset.of(split=split)[:most]
    texts = [dataset.emrs[i].long_text for i in places]
    return texts, [set(dataset.gold[i].codes) for i in places]
