"""Small random encoders whose tokenizers are the same in every process."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
PIECE = 6


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that cuts words of these texts into runs of PIECE letters.

    The library's trainer breaks ties in another order in every process.
    """
    words = {word for text in texts for word in re.findall(r"[^\W_]+", text.lower())}
    cut = {word[i : i + PIECE] for word in words for i in range(0, len(word), PIECE)}
    pieces = sorted(cut | {letter for word in words for letter in word} | set(".,()-"))
    vocabulary = [*SPECIAL.values(), *pieces, *(f"##{piece}" for piece in pieces)]
    numbers = {piece: number for number, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, numbers[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


@pytest.fixture(scope="session")
def write_encoder() -> Callable[..., None]:
    """Writes a random encoder, and a tokenizer for `texts`, as a Hugging Face folder."""

    def write(folder: Path, texts: Iterable[str], *, layers: int, dim: int, longest: int) -> None:
        tokenizer = make_tokenizer(texts)
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=dim,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=2 * dim,
            max_position_embeddings=longest,
            initializer_range=0.3,
        )
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return write
