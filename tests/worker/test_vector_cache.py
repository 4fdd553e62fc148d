"""The phrases' vectors on disk: equal to computed ones, bounded, and safe against a damaged file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List

import numpy as np
import pytest

from kefu.worker.nlu import vector_cache
from kefu.worker.nlu.vectors import SentenceEncoder

TEXTS = ["where is my parcel", "我的包裹在哪", "hello", "", "hello", "\ud83d"]


class Counting(SentenceEncoder):
    """An encoder that keeps the texts it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: List[str] = []

    def vectors(self, texts: List[str]) -> np.ndarray:
        self.encoded += texts
        return super().vectors(texts)


@pytest.fixture
def encoder() -> Counting:
    return Counting()


def _cached(texts: List[str], encoder: SentenceEncoder, file: Path, threads: int = 1) -> np.ndarray:
    with ThreadPoolExecutor(threads) as pool:
        return vector_cache.cached(texts, encoder, pool, threads, file)


def test_vectors_of_two_threads_equal_those_of_one(encoder: Counting) -> None:
    assert np.allclose(_cached(TEXTS, encoder, None, threads=2), SentenceEncoder().vectors(TEXTS), atol=1e-5)


def test_cached_phrases_are_not_encoded_again(encoder: Counting, tmp_path: Path) -> None:
    file = tmp_path / "cache" / "vectors.npz"
    first = _cached(TEXTS, encoder, file)
    encoder.encoded.clear()
    assert np.array_equal(_cached([*TEXTS, "new"], encoder, file)[:-1], first)
    assert encoder.encoded == ["new"]


@pytest.mark.parametrize("left", [0, 1, 1_000, -1], ids=["empty", "a byte", "half", "all but one byte"])
def test_damaged_vector_cache_is_replaced(encoder: Counting, tmp_path: Path, left: int) -> None:
    file = tmp_path / "vectors.npz"
    first = _cached(TEXTS, encoder, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:left])
    assert np.array_equal(_cached(TEXTS, encoder, file), first)
    encoder.encoded.clear()
    _cached(TEXTS, encoder, file)
    assert encoder.encoded == []


def test_changed_byte_of_the_vector_cache_is_detected(encoder: Counting, tmp_path: Path) -> None:
    file = tmp_path / "vectors.npz"
    first = _cached(TEXTS, encoder, file)
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 0xFF
    file.write_bytes(changed)
    assert np.array_equal(_cached(TEXTS, encoder, file), first)


def test_vector_cache_of_other_dimensions_is_ignored(encoder: Counting, tmp_path: Path) -> None:
    file = tmp_path / "vectors.npz"
    np.savez(file, keys=np.zeros((1, 16), dtype=np.uint8), vectors=np.zeros((1, 3), dtype=np.float32))
    assert _cached(TEXTS, encoder, file).shape == (len(TEXTS), vector_cache.SIZE)


def test_unwritable_vector_cache_is_no_failure(encoder: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(_cached(TEXTS, encoder, tmp_path / "file" / "vectors.npz")) == len(TEXTS)


def test_latest_phrases_stay_in_the_cache(encoder: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "MOST", 3)
    file = tmp_path / "vectors.npz"
    _cached(["one", "two"], encoder, file)
    _cached(["three", "four"], encoder, file)
    encoder.encoded.clear()
    _cached(["one", "three", "four"], encoder, file)
    assert encoder.encoded == []
    assert len(vector_cache._read(file)) == 3
