"""Words as nodes: any script, any way to write an accent, any tokenizer."""

import unicodedata

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from label_config.errors import ConfigError
from training.encoder import Encoder
from training.words import WORD, record_features

TEXT = "Dr. Smith: 患者糖尿病高血压。"


def encoder_of_pieces(**special):
    """Its tokens hold several Chinese characters, or a word with its full stop."""
    pieces = ["▁", "▁Dr.", "▁Smith", ":", "▁患者", "糖尿病", "高血压", "。"]
    vocab = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<pad>", 0.0)]
    made = Tokenizer(models.Unigram(vocab + [(piece, -1.0) for piece in pieces], unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", sep_token="</s>", pad_token="<pad>", **special
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return Encoder(BertModel(config), tokenizer, name="pieces", checksum="0", precision="float32")


def test_a_token_of_several_words_gives_each_of_them_its_state():
    (features,) = record_features(encoder_of_pieces(cls_token="<s>"), [{"Course": TEXT}])
    words = [TEXT[start:end] for start, end in features.spans_W2]
    assert words == ["Dr", "Smith", *"患者糖尿病高血压"]
    state = dict(zip(words, features.states_VD[features.nodes_W], strict=True))
    assert all(np.linalg.norm(vector.astype(float)) > 1 for vector in state.values())
    np.testing.assert_array_equal(state["糖"], state["病"])
    assert not np.array_equal(state["病"], state["高"])


def test_a_tokenizer_without_a_token_for_the_whole_is_refused():
    with pytest.raises(ConfigError, match=r"pieces needs a tokenizer with a \[CLS\] token"):
        encoder_of_pieces()


@pytest.mark.parametrize(
    "text", ["insuficiencia renal crónica", "Ménière 1.5 mg", "रोगी को बुखार है"]
)
def test_a_mark_does_not_cut_a_word(text):
    for form in ("NFC", "NFD"):
        assert WORD.findall(unicodedata.normalize(form, text)) == [
            unicodedata.normalize(form, word) for word in text.split()
        ]


def test_both_ways_to_write_an_accent_give_the_same_nodes(tiny_encoder):
    text = "crónica raised crónica"
    whole, apart = record_features(
        tiny_encoder, [{"a": unicodedata.normalize(form, text)} for form in ("NFC", "NFD")]
    )
    np.testing.assert_array_equal(whole.nodes_W, apart.nodes_W)
    mixed = unicodedata.normalize("NFC", "crónica") + unicodedata.normalize("NFD", " crónica")
    assert record_features(tiny_encoder, [{"a": mixed}])[0].n_nodes == 1


def test_features_of_another_tokenizer_are_others(tiny_encoder, encoder_folder):
    other = Encoder.load(str(encoder_folder), precision="float32")
    assert other.fingerprint == tiny_encoder.fingerprint
    other = Encoder.load(str(encoder_folder), precision="float32")
    other.tokenizer("padded", padding="max_length", truncation=True, max_length=20)
    assert other.fingerprint == tiny_encoder.fingerprint
    other = Encoder.load(str(encoder_folder), precision="float32")
    other.tokenizer.add_tokens(["amlodipine"])
    assert other.fingerprint != tiny_encoder.fingerprint
