"""A small network over sentence vectors: one hidden layer, trained with dropout and Adam, in NumPy.

It errs on other messages than the linear layer does, so both together are right more often than either. It is trained
on the vectors' principal components, a third as many numbers: in a third of the time, it becomes as accurate.
"""

from typing import Any, List, NamedTuple

import numpy as np

_HIDDEN = 256  # size of the hidden layer
_COMPONENTS = 512  # kept of 1,792; they have 96 % of the vectors' variance
_ROUNDS = 15  # through all phrases
_BATCH = 64  # phrases of a step
_MOST_STEPS = 2_000  # bounds the time: 100,000 phrases are gone through about once, and take no longer than 8,500
_RATE = 2e-3  # learning rate of the first step; it falls to 0 in equal steps
_DECAY = 1e-3  # in a step, weights shrink by this times the learning rate
_DROP_IN, _DROP_HIDDEN = 0.2, 0.5  # shares of the inputs and of the hidden layer that dropout sets to 0
_SMOOTHING = 0.05  # of the labels, because one of 20 phrases may be labelled wrong
_MOMENTS = (0.9, 0.999)  # of Adam: shares of the sums of gradients and of their squares that a step keeps
_BLOCK = 32_768  # weights that are changed at once; with their gradients and sums, half a MB


class Projection(NamedTuple):
    """Converts vectors to their principal components. `centre` is (inputs,), `axes` is (inputs, components)."""

    centre: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Projection":
        """Return the projection onto the components of most variance. One factor scales all to a mean variance of 1."""
        from scipy.linalg import eigh

        centre = vectors.mean(axis=0)
        moved = vectors - centre
        size = moved.shape[1]
        least = max(size - _COMPONENTS, 0)
        varied, axes = eigh(moved.T @ moved, subset_by_index=(least, size - 1), driver="evr", check_finite=False)
        spread = (max(float(varied.sum()), 1e-9) / len(vectors) / len(varied)) ** 0.5
        return cls(centre, np.ascontiguousarray(axes / np.float32(spread)))

    def onto(self, vectors: np.ndarray) -> np.ndarray:
        """Return the components of vectors, an array (vectors, components)."""
        return (vectors - self.centre) @ self.axes


class Network(NamedTuple):
    """The weights of the layers, float32: (inputs, hidden), (hidden,), (hidden, labels) and (labels,)."""

    inner: np.ndarray
    inner_bias: np.ndarray
    outer: np.ndarray
    outer_bias: np.ndarray

    @classmethod
    def fit(cls, components: np.ndarray, labels: np.ndarray, seed: int) -> "Network":
        """Train a network. Blocks for about 3 s of CPU at most. The same seed gives the same network.

        Args:
            components: (examples, inputs), with a mean of 0.
            labels: the label of each example (examples,), 0 to n-1.
            seed: decides the first weights, the examples of each step, and the dropout.
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
        """Return the same network for vectors as its inputs, instead of their components."""
        inner = projection.axes @ self.inner
        return self._replace(inner=inner, inner_bias=self.inner_bias - projection.centre @ inner)

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Return the labels' logits, an array (vectors, labels)."""
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
    """Return factors for dropout: a share `drop` of them is 0, and their mean is 1."""
    return (random.random(shape, dtype=np.float32) > drop) * np.float32(1 / (1 - drop))


class _Adam:
    """Adam with decoupled decay of the weights, but not of the biases. Source: Loshchilov and Hutter, 2019.

    It changes the weights in place, by blocks that fit the processor's cache. Without blocks it takes longer than the
    computation of the gradients.
    """

    def __init__(self, layers: List[np.ndarray]) -> None:
        self._sums = [np.zeros_like(layer) for layer in layers]  # of the gradients; older gradients count less
        self._squares = [np.zeros_like(layer) for layer in layers]  # of their squares, likewise
        self._steps = 0

    def step(self, layers: List[np.ndarray], gradients: List[np.ndarray], rate: float) -> None:
        """Change the layers in place. The gradients are overwritten. `rate` is the learning rate."""
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
    """Change a block of weights and its two sums in place. The gradient is overwritten."""
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
