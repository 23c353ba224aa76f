"""A record's words as graph nodes: where each word stands, and its mean encoder state.

Shapes: W words in reading order, V nodes (unique words), T tokens, P pairs of a token and a word
that share characters, D the encoder's width. Beside
the paper's state in context a node keeps its static embedding: which word it is, unblurred.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from label_config.record import EMR
from training.encoder import Encoder, TokenStates

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_MARKS = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M")
_LETTERS = rf"[^\W_{_HAN}]"
WORD = re.compile(rf"[{_HAN}]|{_LETTERS}+(?:[{_MARKS}]+{_LETTERS}*)*(?:(?<=\d)[.,]\d+)*")
"""A run of letters, with their marks, and digits (a decimal number stays whole); each Han character
on its own."""

SECTION_BREAK = "\n"


@dataclass(frozen=True, slots=True)
class RecordFeatures:
    """One record as word nodes.

    `states_VD` float16, width 2 D: the mean of the node's sub-token states over all its
    occurrences, then the same without context. `nodes_W` is the node of each word, `sections_W` its
    section (an index into `sections`), `spans_W2` its (start, end) in that section's text, in code
    points. `cls_D` and `mean_D` are the encoder's two summaries of the record. A record without
    words has one node of zeros.
    """

    states_VD: NDArray[np.float16]
    nodes_W: NDArray[np.int32]
    sections_W: NDArray[np.int32]
    spans_W2: NDArray[np.int32]
    sections: tuple[str, ...]
    cls_D: NDArray[np.float32]
    mean_D: NDArray[np.float32]

    @property
    def n_nodes(self) -> int:
        """V, at least 1."""
        return len(self.states_VD)


def read_sections(emr: EMR) -> dict[str, str]:
    """The sections that the network reads: the free text, without the diagnosis names."""
    return {name: text for name, text in emr.sections.items() if text.strip()}


def has_words(emr: EMR) -> bool:
    """Whether the network finds anything to read."""
    return any(WORD.search(text) for text in read_sections(emr).values())


def record_features(encoder: Encoder, records: Sequence[Mapping[str, str]]) -> list[RecordFeatures]:
    """Run the encoder over whole records (section name -> text) and merge tokens into nodes."""
    flat_texts = [SECTION_BREAK.join(sections.values()) for sections in records]
    states = encoder.token_states(flat_texts)
    return [
        _merge(sections, tokens, encoder.static_states(tokens.ids_T))
        for sections, tokens in zip(records, states, strict=True)
    ]


def _merge(
    sections: Mapping[str, str], tokens: TokenStates, static_TD: NDArray[np.float32]
) -> RecordFeatures:
    words, starts, sections_W, spans_W2, offset = [], [], [], [], 0
    for index, text in enumerate(sections.values()):
        for match in WORD.finditer(text):
            words.append(unicodedata.normalize("NFC", match.group()).casefold())
            starts.append(offset + match.start())
            sections_W.append(index)
            spans_W2.append(match.span())
        offset += len(text) + len(SECTION_BREAK)
    node_of = {word: node for node, word in enumerate(dict.fromkeys(words))}
    nodes_W = np.fromiter((node_of[word] for word in words), np.int32, len(words))
    spans = np.asarray(spans_W2, np.int32).reshape(-1, 2)
    starts_W = np.asarray(starts, np.int64)
    token_P, word_P = _shared(tokens.spans_T2, starts_W, starts_W + spans[:, 1] - spans[:, 0])
    nodes_P, n_nodes = nodes_W[word_P], max(1, len(node_of))
    context_VD = _mean_by_node(nodes_P, tokens.states_TD[token_P], n_nodes)
    static_VD = _mean_by_node(nodes_P, static_TD[token_P], n_nodes)
    # the table's vectors are short: give both halves of a node the same length
    length_V1 = np.linalg.norm(context_VD, axis=1, keepdims=True)
    static_VD *= length_V1 / np.maximum(np.linalg.norm(static_VD, axis=1, keepdims=True), 1e-6)
    return RecordFeatures(
        states_VD=np.concatenate([context_VD, static_VD], axis=1).astype(np.float16),
        nodes_W=nodes_W,
        sections_W=np.asarray(sections_W, np.int32),
        spans_W2=spans,
        sections=tuple(sections),
        cls_D=tokens.cls_D,
        mean_D=tokens.states_TD.mean(0) if len(tokens.states_TD) else tokens.cls_D,
    )


def _shared(
    spans_T2: NDArray[np.int32], starts_W: NDArray[np.int64], ends_W: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of a token and a word that have characters in common, each of shape (P,).

    A token may hold several words, as of Chinese text, or none: punctuation and space.
    """
    first_T = np.searchsorted(ends_W, spans_T2[:, 0], side="right")
    counts_T = np.maximum(np.searchsorted(starts_W, spans_T2[:, 1], side="left") - first_T, 0)
    token_P = np.repeat(np.arange(len(spans_T2)), counts_T)
    of_token_P = np.arange(len(token_P)) - np.repeat(np.cumsum(counts_T) - counts_T, counts_T)
    return token_P, first_T[token_P] + of_token_P


def _mean_by_node(
    nodes_P: NDArray[np.int32], states_PD: NDArray[np.float32], n_nodes: int
) -> NDArray[np.float32]:
    if not len(nodes_P):
        return np.zeros((n_nodes, states_PD.shape[1]), np.float32)
    ones_P, places_P = np.ones(len(nodes_P), np.float32), np.arange(len(nodes_P))
    of_node_VP = csr_matrix((ones_P, (nodes_P, places_P)), shape=(n_nodes, len(nodes_P)))
    counts_V = np.bincount(nodes_P, minlength=n_nodes)
    means_VD: NDArray[np.float32] = of_node_VP @ states_PD
    means_VD /= np.maximum(counts_V, 1)[:, None]
    return means_VD
