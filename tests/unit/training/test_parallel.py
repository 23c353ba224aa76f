import torch

from training.checkpoint import load_tensors
from training.parallel import Workers


def test_two_processes_train_the_same_network_as_one_with_twice_the_minibatch(trainer, tmp_path):
    trainer.start(tmp_path / "one", "codes only")
    assert trainer.ended() == 0
    trainer.start(tmp_path / "two", "codes only, halves", processes=2)
    assert trainer.ended() == 0
    one, first, second = (
        load_tensors(tmp_path / name / "model.safetensors") for name in ("one", "two0", "two1")
    )
    for name, weights in one.items():
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
        torch.testing.assert_close(first[name], weights, rtol=1e-3, atol=1e-4)


def test_every_minibatch_is_somebodys_and_all_take_as_many_steps():
    shares = [Workers(rank, 3).share(list(range(7))) for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]
    assert Workers(1, 2).share([9]) == [9]


def test_a_process_alone_exchanges_nothing():
    workers = Workers.of_environment()
    assert workers == Workers(0, 1)
    assert workers.share([3, 1, 2]) == [3, 1, 2]
    assert workers.mean(0.5, torch.device("cpu")) == 0.5
    assert workers.first_alone(lambda: "done") == "done"
