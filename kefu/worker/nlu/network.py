"""A small network over sentence vectors: one hidden layer, trained with dropout by Adam, in NumPy.

Beside a linear layer it errs elsewhere; together they are right more often than either. It is trained on
the vectors' principal components, a third of their numbers: as right, in a third of the time.
"""

from typing import Any, List, NamedTuple

import numpy as np

_HIDDEN = 256
_COMPONENTS = 512  # of the vectors' 1,792 numbers; they have 96 % of the variance
_ROUNDS = 15
_BATCH = 64
_MOST_STEPS = 2_000  # a data set of 100,000 phrases is gone through once, and takes no longer than one of 8,000
_RATE = 2e-3
_DECAY = 1e-3  # of weights, a step and rate
_DROP_IN, _DROP_HIDDEN = 0.2, 0.5
_SMOOTHING = 0.05  # of what is true: of 20 phrases, one may be labelled wrong
_MOMENTS = (0.9, 0.999)
_BLOCK = 32_768  # weights changed at once, with their gradients half a megabyte


class Projection(NamedTuple):
    """The principal components of vectors: their centre (inputs,) and the axes (inputs, components)."""

    centre: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Projection":
        """Return the components that vary most, all scaled alike."""
        from scipy.linalg import eigh

        centre = vectors.mean(axis=0)
        moved = vectors - centre
        size = moved.shape[1]
        least = max(size - _COMPONENTS, 0)
        varied, axes = eigh(moved.T @ moved, subset_by_index=(least, size - 1), driver="evr", check_finite=False)
        spread = (max(float(varied.sum()), 1e-9) / len(vectors) / len(varied)) ** 0.5
        return cls(centre, np.ascontiguousarray(axes / np.float32(spread)))

    def onto(self, vectors: np.ndarray) -> np.ndarray:
        """Return an array (vectors, components)."""
        return (vectors - self.centre) @ self.axes


class Network(NamedTuple):
    """Its layers: (inputs, hidden), (hidden,), (hidden, labels), (labels,), all float32."""

    inner: np.ndarray
    inner_bias: np.ndarray
    outer: np.ndarray
    outer_bias: np.ndarray

    @classmethod
    def fit(cls, components: np.ndarray, labels: np.ndarray, seed: int) -> "Network":
        """Learn. Blocks for about 3 s of CPU at most; the same seed gives the same network.

        Args:
            components: (examples, inputs), around zero.
            labels: a number an example, 0 to n-1.
            seed: of the first weights, the order of examples and the dropout.
        """
        random = np.random.default_rng(seed)
        layers = _first(components.shape[1], int(labels.max()) + 1, random)
        optimiser = _Adam(layers)
        steps = min(_ROUNDS * max(len(labels) // _BATCH, 1), _MOST_STEPS)
        for step in range(steps):
            rows = random.integers(len(labels), size=min(_BATCH, len(labels)))
            gradients = _gradients(layers, components[rows], labels[rows], random)
            optimiser.step(layers, gradients, _RATE * (1 - step / steps))
        return cls(*layers)

    def over(self, projection: Projection) -> "Network":
        """Return the network that takes vectors instead of their components."""
        inner = projection.axes @ self.inner
        return self._replace(inner=inner, inner_bias=self.inner_bias - projection.centre @ inner)

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
    """Adam with decoupled decay of weights (not of biases). Source: Loshchilov and Hutter, 2019.

    In place, and by blocks that fit the processor's cache: else it takes longer than the gradients.
    """

    def __init__(self, layers: List[np.ndarray]) -> None:
        self._sums = [np.zeros_like(layer) for layer in layers]  # of gradients, older ones fading
        self._squares = [np.zeros_like(layer) for layer in layers]
        self._steps = 0

    def step(self, layers: List[np.ndarray], gradients: List[np.ndarray], rate: float) -> None:
        """Change the layers in place."""
        self._steps += 1
        mean, square = ((1 - fade) / (1 - fade**self._steps) for fade in _MOMENTS)
        pace, least = np.float32(rate * mean / square**0.5), np.float32(1e-8 / square**0.5)
        for layer, *rest in zip(layers, gradients, self._sums, self._squares, strict=True):
            keep = np.float32(1 - rate * _DECAY if layer.ndim > 1 else 1)
            flat = [each.reshape(-1) for each in (layer, *rest)]
            for at in range(0, layer.size, _BLOCK):
                weights, gradient, total, square_sum = (each[at : at + _BLOCK] for each in flat)
                _move(weights, gradient, total, square_sum, keep, pace, least)


def _move(
    layer: np.ndarray, gradient: np.ndarray, total: np.ndarray, square: np.ndarray, keep: Any, pace: Any, least: Any
) -> None:
    """Change one block of weights, and what is known of its gradients, in place; the gradient is used up."""
    total *= np.float32(_MOMENTS[0])
    total += gradient
    square *= np.float32(_MOMENTS[1])
    gradient *= gradient
    square += gradient
    np.sqrt(square, out=gradient)
    gradient += least
    np.divide(total, gradient, out=gradient)
    gradient *= pace
    layer *= keep
    layer -= gradient
