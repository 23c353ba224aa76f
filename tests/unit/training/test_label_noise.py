from dataclasses import replace

import numpy as np
import pytest

from label_config.errors import ConfigError
from label_config.record import EMR, Coding
from label_config.taxonomy import Taxonomy
from training.auditor import AuditConfig, audit
from training.label_noise import FlipRates, NoiseConfig, mend
from training.out_of_fold import targets

SIGNS = {"E11.9": "thirst", "I10": "raised pressure", "J18.9": "crackles", "K35.8": "belly pain"}
CODES = list(SIGNS)


def clinic(n: int = 300) -> tuple[list[EMR], list[Coding]]:
    """EMRs with any of four signs among chance words, and their true codes."""
    rng = np.random.default_rng(0)
    emrs, codings = [], []
    for i in range(n):
        codes = [code for code in CODES if rng.random() < 0.4]
        chance = [f"word{rng.integers(30)}" for _ in range(12)]
        for code in codes:
            chance.insert(int(rng.integers(len(chance))), SIGNS[code])
        emrs.append(EMR(f"e{i}", {"Illness": " ".join(chance)}))
        codings.append(Coding(f"e{i}", tuple(codes), "clean"))
    return emrs, codings


def spoil(codings: list[Coding]) -> list[Coding]:
    """Every fifth code is left out."""
    rng = np.random.default_rng(1)
    return [replace(c, codes=tuple(x for x in c.codes if rng.random() > 0.2)) for c in codings]


def test_rates_are_read_where_the_text_leaves_no_doubt() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((400, 20)) < 0.1
    given = (true & (rng.random(true.shape) < 0.7)) | (rng.random(true.shape) < 0.01)
    p = np.where(true, 0.7, 0.01)
    rates = FlipRates.estimate(p + rng.normal(0, 0.001, p.shape), given)
    assert rates.miss == pytest.approx(0.3, abs=0.04)
    assert rates.add == pytest.approx(0.01, abs=0.005)


def test_what_was_given_is_more_probable_than_what_was_not() -> None:
    rates = FlipRates(miss=0.3, add=0.01)
    p = np.array([[0.05, 0.4, 0.65]])
    given = rates.posterior(p, np.ones((1, 3), dtype=bool))
    absent = rates.posterior(p, np.zeros((1, 3), dtype=bool))
    assert (given > absent).all()
    assert (np.diff(given) > 0).all() and (np.diff(absent) > 0).all()


def test_mending_brings_missing_codes_back(four_codes: Taxonomy) -> None:
    emrs, gold = clinic()
    given, true = spoil(gold), targets(gold, CODES)
    mended = mend(emrs, given, codes=CODES, taxonomy=four_codes)
    before = (targets(given, CODES) != true).sum()
    assert (mended.targets_NK != true).sum() < before / 2
    assert (targets(mended.codings, CODES) == mended.targets_NK).all()
    assert mended.rates.miss == pytest.approx(0.2, abs=0.08)


def test_mending_leaves_clean_codings_as_they_are(four_codes: Taxonomy) -> None:
    emrs, gold = clinic()
    mended = mend(emrs, gold, codes=CODES, taxonomy=four_codes)
    assert (mended.targets_NK == targets(gold, CODES)).all()


def test_the_auditor_shows_the_text_of_what_is_missing(four_codes: Taxonomy) -> None:
    emrs, gold = clinic()
    steps: list[tuple[str, int, int]] = []
    found = audit(emrs, spoil(gold), taxonomy=four_codes, progress=lambda *s: steps.append(s))
    missing = [f for f in found if f.kind == "missing" and f.score > 0.8]
    true, texts = {c.emr_id: c.codes for c in gold}, {emr.emr_id: emr for emr in emrs}
    assert len(missing) > 20 and steps
    assert all(f.code in true[f.emr_id] for f in missing)
    for finding in missing:
        span, text = finding.evidence[0], texts[finding.emr_id].sections["Illness"]
        assert span.code == finding.code
        assert text[span.start : span.end] in SIGNS[finding.code]
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)


def test_codings_without_emrs_and_few_emrs_are_refused(
    ward: tuple[list[EMR], list[Coding]], four_codes: Taxonomy
) -> None:
    emrs, gold = ward
    with pytest.raises(ConfigError, match="two EMRs"):
        audit(emrs, gold[:1], taxonomy=four_codes)
    with pytest.raises(ConfigError, match="drop_below"):
        NoiseConfig(drop_below=0.8)
    with pytest.raises(ConfigError, match="least"):
        AuditConfig(least=2.0)
