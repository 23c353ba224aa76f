"""A record's words as graph nodes: where each word stands, and its mean encoder state.

Shapes: W words in reading order, V nodes (unique words), T tokens, D the encoder's width. Beside
the paper's state in context a node keeps its static embedding: which word it is, unblurred.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from label_config.record import EMR
from training.encoder import Encoder, TokenStates

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
WORD = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+(?:(?<=\d)[.,]\d+)*")
"""A run of letters and digits (a decimal number stays whole); each Han character on its own."""

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
            words.append(match.group().casefold())
            starts.append(offset + match.start())
            sections_W.append(index)
            spans_W2.append(match.span())
        offset += len(text) + len(SECTION_BREAK)
    node_of = {word: node for node, word in enumerate(dict.fromkeys(words))}
    nodes_W = np.fromiter((node_of[word] for word in words), np.int32, len(words))
    spans = np.asarray(spans_W2, np.int32).reshape(-1, 2)
    starts_W = np.asarray(starts, np.int64)
    word_T = _word_of_token(starts_W, starts_W + spans[:, 1] - spans[:, 0], tokens.spans_T2)
    inside_T = word_T >= 0
    nodes_T, n_nodes = nodes_W[word_T[inside_T]], max(1, len(node_of))
    context_VD = _mean_by_node(nodes_T, tokens.states_TD[inside_T], n_nodes)
    static_VD = _mean_by_node(nodes_T, static_TD[inside_T], n_nodes)
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


def _word_of_token(
    starts_W: NDArray[np.int64], ends_W: NDArray[np.int64], spans_T2: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The word in which each token's last character stands; -1 for punctuation and space."""
    if not len(starts_W) or not len(spans_T2):
        return np.full(len(spans_T2), -1, np.int64)
    last_T = spans_T2[:, 1].astype(np.int64) - 1
    word_T = np.searchsorted(starts_W, last_T, side="right") - 1
    inside = (word_T >= 0) & (last_T < ends_W[word_T])
    return np.where(inside, word_T, -1)


def _mean_by_node(
    nodes_T: NDArray[np.int32], states_TD: NDArray[np.float32], n_nodes: int
) -> NDArray[np.float32]:
    if not len(nodes_T):
        return np.zeros((n_nodes, states_TD.shape[1]), np.float32)
    ones_T, tokens_T = np.ones(len(nodes_T), np.float32), np.arange(len(nodes_T))
    of_node_VT = csr_matrix((ones_T, (nodes_T, tokens_T)), shape=(n_nodes, len(nodes_T)))
    counts_V = np.bincount(nodes_T, minlength=n_nodes)
    means_VD: NDArray[np.float32] = of_node_VT @ states_TD
    means_VD /= np.maximum(counts_V, 1)[:, None]
    return means_VD
