"""A program for the tests: for every line that it is sent, processes of their own train a network.

A line is a JSON object with the arguments of `train` and the number of `processes`. It answers
with the number of the first process at once, and with its exit code when all have ended, so that a
test can kill it in between. The libraries are imported once, before the processes are forked off.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

import torch

from label_config.files import read_codings, read_emrs
from label_config.taxonomy import CodeEntry, Taxonomy
from training.adapt import AdaptConfig
from training.encoder import Encoder
from training.extractor import ExtractorConfig
from training.resume import RunFolder
from training.stages import CleanConfig, NoisyConfig, RawConfig, StagesConfig, train_network

EVERYTHING = dataclasses.replace(
    StagesConfig.best(),
    extractor=ExtractorConfig(hidden=8, attention=8, attend="words", static=True, dropout=0.2),
    raw=RawConfig(epochs=3),
    noisy=NoisyConfig(epochs=6, contrastive=0.1, codes=1.0),
    clean=CleanConfig(epochs=8, gamma=0.1, evidence=0.1),
    batch=4,
    held_back=0.5,
    patience=5,
)
CODES_ONLY = dataclasses.replace(
    StagesConfig.paper(),
    extractor=ExtractorConfig(hidden=8, attention=8),
    raw=RawConfig(epochs=0),
    noisy=NoisyConfig(epochs=2, contrastive=0.0, codes=1.0),
    clean=CleanConfig(epochs=3, gamma=0.0, delta=0.0),
    batch=8,
)
"""The mean over a minibatch is the mean over its halves."""
CONFIGS = {
    "everything": EVERYTHING,
    "codes only": CODES_ONLY,
    "codes only, halves": dataclasses.replace(CODES_ONLY, batch=4),
    "adapted": dataclasses.replace(CODES_ONLY, adapt=AdaptConfig(layers=1, rank=2, epochs=1)),
}


def train(data: str, model: str, config: str, run_folder: str | None = None) -> None:
    torch.set_num_threads(1)
    emrs = read_emrs(Path(data) / "emrs.parquet").records
    codings = read_codings(Path(data) / "codings.parquet").records
    codes = sorted({code for coding in codings for code in coding.codes})
    network = train_network(
        emrs[:8],
        emrs[8:32],
        codings[8:32],
        emrs[32:],
        codings[32:],
        codes=codes,
        taxonomy=Taxonomy("codes", [CodeEntry(code, code, None, "category") for code in codes]),
        encoder=Encoder.load(str(Path(data) / "encoder"), precision="float32"),
        config=CONFIGS[config],
        cache=None if run_folder is None else Path(run_folder) / "features",
        run_folder=None if run_folder is None else Path(run_folder),
    )
    network.save(Path(model + os.environ.get("RANK", "")))


def fork(rank: int, processes: int, arguments: dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        if processes > 1:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
        train(**arguments)
        os._exit(0)
    return pid


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    RunFolder.__init__.__kwdefaults__["seconds"] = 0.0  # a state after every minibatch
    for line in sys.stdin:
        arguments = json.loads(line)
        processes = arguments.pop("processes", 1)
        pids = [fork(rank, processes, arguments) for rank in range(processes)]
        answer(pids[0])
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        answer(min(codes) or max(codes))
