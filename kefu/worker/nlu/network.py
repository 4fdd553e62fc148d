"""A small network over sentence vectors: one hidden layer, trained with dropout by Adam, in NumPy.

Beside a linear layer it errs elsewhere; together they are right more often than either.
"""

from typing import List, NamedTuple

import numpy as np

_HIDDEN = 256
_ROUNDS = 15
_BATCH = 64
_MOST_STEPS = 2_000  # a data set of 100,000 phrases is gone through once, and takes no longer than one of 8,000
_RATE = 2e-3
_DECAY = 1e-3  # of weights, a step and rate
_DROP_IN, _DROP_HIDDEN = 0.2, 0.5
_SMOOTHING = 0.05  # of what is true: of 20 phrases, one may be labelled wrong
_MOMENTS = (0.9, 0.999)


class Network(NamedTuple):
    """Its layers: (inputs, hidden), (hidden,), (hidden, labels), (labels,), all float32."""

    inner: np.ndarray
    inner_bias: np.ndarray
    outer: np.ndarray
    outer_bias: np.ndarray

    @classmethod
    def fit(cls, vectors: np.ndarray, labels: np.ndarray, seed: int) -> "Network":
        """Learn. Blocks for about 8 s of CPU at most; the same seed gives the same network.

        Args:
            vectors: (examples, inputs).
            labels: a number an example, 0 to n-1.
            seed: of the first weights, the order of examples and the dropout.
        """
        random = np.random.default_rng(seed)
        centre, spread = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
        scaled = ((vectors - centre) / spread).astype(np.float32)
        layers = _first(scaled.shape[1], int(labels.max()) + 1, random)
        optimiser = _Adam(layers)
        steps = min(_ROUNDS * max(len(labels) // _BATCH, 1), _MOST_STEPS)
        for step in range(steps):
            rows = random.integers(len(labels), size=min(_BATCH, len(labels)))
            gradients = _gradients(layers, scaled[rows], labels[rows], random)
            optimiser.step(layers, gradients, _RATE * (1 - step / steps))
        inner = layers[0] / spread[:, None]
        return cls(inner.astype(np.float32), (layers[1] - centre @ inner).astype(np.float32), layers[2], layers[3])

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Return an array (vectors, labels)."""
        return np.maximum(vectors @ self.inner + self.inner_bias, 0) @ self.outer + self.outer_bias


def _first(inputs: int, labels: int, random: np.random.Generator) -> List[np.ndarray]:
    inner = random.normal(0, (2 / inputs) ** 0.5, (inputs, _HIDDEN)).astype(np.float32)
    outer = random.normal(0, (1 / _HIDDEN) ** 0.5, (_HIDDEN, labels)).astype(np.float32)
    return [inner, np.zeros(_HIDDEN, np.float32), outer, np.zeros(labels, np.float32)]


def _gradients(
    layers: List[np.ndarray], vectors: np.ndarray, labels: np.ndarray, random: np.random.Generator
) -> List[np.ndarray]:
    inner, inner_bias, outer, outer_bias = layers
    seen = vectors * _kept(vectors.shape, _DROP_IN, random)
    hidden = seen @ inner + inner_bias
    passed = (hidden > 0) * _kept(hidden.shape, _DROP_HIDDEN, random)
    hidden *= passed
    logits = hidden @ outer + outer_bias
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error -= _SMOOTHING / error.shape[1]
    error[np.arange(len(labels)), labels] -= 1 - _SMOOTHING
    error /= len(labels)
    inward = (error @ outer.T) * passed
    return [seen.T @ inward, inward.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


def _kept(shape: "tuple[int, ...]", drop: float, random: np.random.Generator) -> np.ndarray:
    """Return what to multiply with so that a share `drop` is zero and the mean stays."""
    return (random.random(shape, dtype=np.float32) > drop) * np.float32(1 / (1 - drop))


class _Adam:
    """Adam with decoupled decay of weights (not of biases). Source: Loshchilov and Hutter, 2019."""

    def __init__(self, layers: List[np.ndarray]) -> None:
        self._means = [np.zeros_like(layer) for layer in layers]
        self._squares = [np.zeros_like(layer) for layer in layers]
        self._steps = 0

    def step(self, layers: List[np.ndarray], gradients: List[np.ndarray], rate: float) -> None:
        """Change the layers in place."""
        self._steps += 1
        first, second = _MOMENTS
        for layer, gradient, mean, square in zip(layers, gradients, self._means, self._squares, strict=True):
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient * gradient - square)
            pace = mean / (1 - first**self._steps) / (np.sqrt(square / (1 - second**self._steps)) + 1e-8)
            layer -= np.float32(rate) * (pace + (_DECAY * layer if layer.ndim > 1 else 0))
