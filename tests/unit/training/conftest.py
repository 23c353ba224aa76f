import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from label_config.files import write_records
from label_config.record import EMR, Coding, EvidenceSpan
from label_config.taxonomy import CodeEntry, Taxonomy
from training.encoder import Encoder

torch.set_num_threads(1)

TITLES = {
    "E11.9": "Type 2 diabetes mellitus",
    "I10": "Essential hypertension",
    "J18.9": "Pneumonia",
    "K35.8": "Acute appendicitis",
}
SIGNS = {
    "E11.9": "thirst and high glucose, on metformin",
    "I10": "raised blood pressure, on amlodipine",
    "J18.9": "cough and fever with crackles in the chest",
    "K35.8": "pain in the right lower abdomen, vomiting",
}
FILLER = "The patient was admitted to the ward in a stable state."
HAN = "患者因糖尿病和高血压入院治疗胸痛发热"


def make_emr(emr_id: str, codes: Sequence[str]) -> EMR:
    signs = ". ".join(SIGNS[code] for code in codes)
    return EMR(emr_id, {"Complaint": FILLER, "Illness": f"{FILLER} {signs}."})


def make_coding(emr: EMR, codes: Sequence[str], source: str = "clean") -> Coding:
    text = emr.sections["Illness"]
    evidence = tuple(
        EvidenceSpan(code, "Illness", text.index(SIGNS[code]), text.index(SIGNS[code]) + 12)
        for code in codes
    )
    return Coding(emr.emr_id, tuple(codes), source, evidence=evidence)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def encoder_folder(
    tmp_path_factory: pytest.TempPathFactory, write_encoder: Callable[..., None]
) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    texts = [*TITLES.values(), *SIGNS.values(), FILLER, *HAN]
    write_encoder(folder, texts, layers=2, dim=32, longest=66)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(encoder_folder: Path) -> Encoder:
    return Encoder.load(str(encoder_folder), precision="float32")


@pytest.fixture(scope="session")
def four_codes() -> Taxonomy:
    entries = [CodeEntry(code, title, None, "category") for code, title in TITLES.items()]
    return Taxonomy("four codes", entries)


@pytest.fixture(scope="session")
def ward() -> tuple[list[EMR], list[Coding]]:
    """48 EMRs with one or two of four codes each, told apart by their signs."""
    codes = list(TITLES)
    pairs = [
        [codes[i % 4]] if i % 3 else [codes[i % 4], codes[(i + 1 + i // 4 % 3) % 4]]
        for i in range(48)
    ]
    emrs = [make_emr(f"emr-{i}", pair) for i, pair in enumerate(pairs)]
    return emrs, [make_coding(emr, pair) for emr, pair in zip(emrs, pairs, strict=True)]


class Trainer:
    """Starts training processes (see training_process.py) and tells how they ended."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        meeting_place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("training_process.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **meeting_place},
        )

    def start(self, model: Path, config: str, **arguments: str | int) -> int:
        line = {"data": str(self.data), "model": str(model), "config": config, **arguments}
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def ended(self) -> int:
        return int(self.process.stdout.readline())


@pytest.fixture(scope="session")
def trainer(
    ward: tuple[list[EMR], list[Coding]],
    encoder_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Trainer]:
    data = tmp_path_factory.mktemp("data")
    write_records(data / "emrs.parquet", ward[0], EMR)
    write_records(data / "codings.parquet", ward[1], Coding)
    shutil.copytree(encoder_folder, data / "encoder")
    trainer = Trainer(data)
    yield trainer
    trainer.process.stdin.close()
    trainer.process.wait(timeout=60)
