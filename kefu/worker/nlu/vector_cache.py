"""Keeps the phrases' sentence vectors from one training to the next, in a NumPy file.

If the file can't be read, all vectors are computed anew. If it can't be written, the next training takes longer.
"""

import contextlib
import hashlib
import logging
import os
import zipfile
import zlib
from concurrent.futures import Executor
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from kefu.worker.nlu.vectors import SIZE, VERSION, SentenceEncoder

logger = logging.getLogger(__name__)

MOST = 20_000  # phrases in the file, 7 kB each; beyond it, phrases that the last training did not use are dropped first
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def cached(
    texts: List[str], encoder: SentenceEncoder, pool: Executor, threads: int, file: Optional[Path]
) -> np.ndarray:
    """Return the texts' vectors (texts, SIZE), float32. Those that the file lacks are computed in `pool` and stored.

    Args:
        texts: the phrases.
        encoder: computes the vectors.
        pool: has `threads` threads.
        threads: into how many parts the phrases are divided; they are encoded at the same time.
        file: keeps the vectors; None to keep none.
    """
    keys = [_key(text) for text in texts]
    kept = _read(file) if file else {}
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in kept}
    kept.update(zip(new, _encoded(list(new.values()), encoder, pool, threads), strict=True))
    if file and new:
        _write(file, {**dict.fromkeys(keys), **kept}, kept)
    return np.array([kept[key] for key in keys], dtype=np.float32).reshape(len(texts), SIZE)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, salt=str(VERSION).encode()).digest()


def _encoded(texts: List[str], encoder: SentenceEncoder, pool: Executor, threads: int) -> np.ndarray:
    parts = [list(part) for part in np.array_split(np.array(texts, dtype=object), threads) if len(part)]
    encoders = [encoder, *(encoder.twin() for _ in parts[1:])]
    found = pool.map(lambda one, part: one.vectors(part), encoders, parts)
    return np.concatenate([np.zeros((0, SIZE), dtype=np.float32), *found])


def _read(file: Path) -> Dict[bytes, np.ndarray]:
    """Return the stored vectors by key; none if the file is damaged, which the archive's checksum shows."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            keys, rows = arrays["keys"], arrays["vectors"]
        if keys.shape != (len(rows), 16) or keys.dtype != np.uint8 or rows.shape[1:] != (SIZE,):
            raise ValueError("other arrays than were written")
        return dict(zip(map(bytes, keys), rows.astype(np.float32, copy=False), strict=True))
    except FileNotFoundError:
        return {}
    except _BROKEN as error:
        logger.warning("The vectors in %s can't be read (%s): all are computed anew", file, error)
        return {}


def _write(file: Path, order: Dict[bytes, object], kept: Dict[bytes, np.ndarray]) -> None:
    """Replace the file by one with the first MOST vectors of `order`. Readers see the old file or the new one."""
    keys = list(order)[:MOST]
    fresh = file.with_name(f"{file.stem}.{os.getpid()}.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"keys": np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)}
        np.savez(fresh, vectors=np.array([kept[key] for key in keys]), **arrays)
        os.replace(fresh, file)
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder itself may be missing
            fresh.unlink()
        logger.warning("The vectors can't be kept in %s: %s", file, error)
