"""Common tests of all published extractors: shapes, minibatch mates, learning, seeds, refusals."""

import numpy as np
import pytest
import torch

from label_config.errors import ConfigError, DataError
from training.rival_batch import CodeFacts, word_batch
from training.rival_models import RIVALS, JointLaat, RivalConfig
from training.rivals import Examples, fit, tuned
from training.words import RecordFeatures

WIDTH, CODES = 12, 4
FACTS = CodeFacts(np.array([0, 0, 1, 2]), np.eye(CODES, 2 * WIDTH, dtype=np.float32))
SMALL = {"embed": 16, "hidden": 12, "attention": 12, "kernel": 3, "dropout": 0.0}


def record(rng, codes, n_words):
    """A record in which the word of each code stands somewhere between other words."""
    words = rng.normal(size=(CODES + 8, WIDTH)).astype(np.float32) * 0.1
    words[:CODES] = 3 * np.eye(CODES, WIDTH)
    nodes = rng.integers(CODES, CODES + 8, n_words)
    nodes[rng.permutation(n_words)[: len(codes)]] = codes
    present, nodes_W = np.unique(nodes, return_inverse=True)
    states = np.concatenate([words[present], words[present]], axis=1).astype(np.float16)
    mean = words[nodes].mean(0)
    return RecordFeatures(
        states_VD=states,
        nodes_W=nodes_W.astype(np.int32),
        sections_W=np.zeros(n_words, np.int32),
        spans_W2=np.zeros((n_words, 2), np.int32),
        sections=("text",),
        cls_D=mean,
        mean_D=mean,
    )


def examples(n, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.random((n, CODES)) < 0.4
    records = [record(rng, np.flatnonzero(row), int(rng.integers(5, 20))) for row in targets]
    return Examples(records, targets)


def untrained(name, **changed):
    torch.manual_seed(0)
    config = RivalConfig(**{"model": name, **SMALL, **changed})
    return RIVALS[name](config, node=2 * WIDTH, summary=2 * WIDTH, facts=FACTS).eval()


@pytest.fixture(params=RIVALS)
def name(request):
    return request.param


def test_every_record_gets_one_logit_per_code(name):
    assert untrained(name)(word_batch(examples(3).features)).shape == (3, CODES)


def test_minibatch_mates_change_nothing(name):
    model, records = untrained(name), examples(6).features
    together = model(word_batch(records))
    alone = torch.cat([model(word_batch([one])) for one in records])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_record_without_words_is_read_as_one_empty_word(name):
    full = examples(2).features[0]
    none = np.zeros(0, np.int32)
    empty = RecordFeatures(
        np.zeros((1, 2 * WIDTH), np.float16), none, none, np.zeros((0, 2), np.int32), (),
        np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32),
    )  # fmt: skip
    assert untrained(name)(word_batch([empty, full])).isfinite().all()


def test_a_record_is_reversed_within_its_own_length():
    batch = word_batch(examples(5).features)
    values = torch.arange(batch.mask_BW.numel()).view(5, -1, 1).float() + 1
    turned = batch.reverse(values)
    for row, length in enumerate(batch.mask_BW.sum(1).tolist()):
        assert torch.equal(turned[row, :length], values[row, :length].flip(0))
        assert torch.equal(turned[row, length:], values[row, length:])
    assert torch.equal(batch.reverse(turned), values)


def test_a_planted_rule_is_learned_from_sixty_records(name):
    config = RivalConfig(name, **SMALL, lr=2e-2, epochs=15, patience=15)
    train, unseen = examples(60), examples(40, seed=1)
    fitted = fit(train, config, FACTS)
    right = (fitted.predict(unseen.features) >= 0.5) == unseen.targets_NK
    assert right.mean() > 0.9 > (~unseen.targets_NK).mean()


def test_the_same_seed_gives_the_same_probabilities(name):
    config = RivalConfig(name, **{**SMALL, "dropout": 0.2}, epochs=2, seed=5)
    train, unseen = examples(20), examples(5, seed=1)
    torch.manual_seed(1)
    once = fit(train, config, FACTS).predict(unseen.features)
    torch.manual_seed(2)
    assert (once == fit(train, config, FACTS).predict(unseen.features)).all()


def test_training_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit(examples(8), RivalConfig("BERT", **SMALL, epochs=1), FACTS)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "JointLAAT"])
def test_a_cell_of_weight_zero_teaches_nothing(name):
    train, config = examples(24), RivalConfig(name, **SMALL, epochs=2)
    held = examples(10, seed=2)
    lying = train.targets_NK.copy()
    lying[:, 0] = ~lying[:, 0]
    weights = np.ones(lying.shape)
    weights[:, 0] = 0.0
    probs = []
    for targets in (train.targets_NK, lying):
        model = fit(Examples(train.features, targets, weights), config, FACTS, held_back=held).model
        model.bias_K.data[0] = 0.0  # it starts from how often a code is given
        probs.append(model(word_batch(held.features)).detach()[:, 2:])
    torch.testing.assert_close(probs[0], probs[1])


def test_a_category_is_given_by_any_of_its_codes():
    model = untrained("JointLAAT")
    assert isinstance(model, JointLaat)
    batch = word_batch(examples(1).features)
    with torch.no_grad():
        model.bias_C.copy_(torch.tensor([50.0, -50.0, -50.0]))
    one, ones = torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.ones(1, CODES)
    other = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    assert model.loss(batch, other, ones) > model.loss(batch, one, ones) + 20


def test_a_category_of_doubtful_codes_counts_as_little_as_they_do():
    model = untrained("JointLAAT")
    batch, given = word_batch(examples(1).features), torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    losses = []
    for weight in (1e-6, 0.0):
        weights = torch.tensor([[1.0, weight, 1.0, 1.0]])
        losses.append(model.loss(batch, given, weights).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_queries_start_at_the_codes_names():
    model = untrained("PLM-CA")
    names = torch.from_numpy(FACTS.names_KD)
    torch.testing.assert_close(model.codes.query_KA, model.key(names - names.mean(0)))


def test_tuning_keeps_the_setting_that_ranks_best():
    train, held = examples(40), examples(20, seed=4)
    configs = [RivalConfig("BERT", **SMALL, lr=lr, epochs=15) for lr in (1e-6, 1e-2)]
    best = tuned(train, configs, FACTS, held_back=held)
    assert best.config.lr == 1e-2
    with pytest.raises(ConfigError, match="at least one"):
        tuned(train, [], FACTS)


def test_what_no_run_can_use_is_refused():
    for wrong in ({"model": "GRU"}, {"kernel": 4}, {"lr": 0.0}, {"dropout": 1.0}, {"batch": 0}):
        with pytest.raises(ConfigError):
            RivalConfig(**wrong)
    few = examples(1)
    with pytest.raises(DataError, match="two EMRs"):
        fit(few, RivalConfig(), FACTS)
    with pytest.raises(DataError, match="as many targets"):
        Examples(few.features, np.zeros((2, CODES), bool))
    with pytest.raises(DataError, match="shape"):
        Examples(few.features, few.targets_NK, np.ones((1, 2)))
