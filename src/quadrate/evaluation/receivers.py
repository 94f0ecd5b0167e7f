"""Receivers: models that read features, and so measure what a compressor of features keeps.

Each has one hyper-parameter, its regularization, which is chosen on a validation set and never on
the test set. Features are centred and scaled by the mean and the standard deviation of the training
set, so that a grid suits features of any scale.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from quadrate.errors import QuadrateError
from quadrate.evaluation.yardsticks import batches, fully_connected, minimize

ReceiverName = Literal["linear", "svm", "mlp"]
Features = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
Labelled = tuple[Features, Labels]
_Predict = Callable[[Features], Labels]

_MLP_WIDTH, _MLP_BATCH, _MLP_EPOCHS, _MLP_LEARNING_RATE = 512, 256, 20, 1e-3
# By rising complexity: the inverse of the penalty for the linear ones, the penalty for the MLP. In
# a tie the simpler one is chosen.
GRIDS: dict[ReceiverName, tuple[float, ...]] = {
    "linear": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1),
    "svm": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "mlp": (1e-1, 1e-2, 1e-3, 1e-4),
}


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Receiver:
    """A fitted receiver.

    Attributes:
        name: "linear", "svm" or "mlp".
        hyperparameter: The chosen value of the grid.
        at_the_edge: Whether it is the grid's first or last, so that a wider grid might do better.
        validation_accuracy: Accuracy on the validation set; biased upwards by the choice.
        predict: From features (N, d) to classes (N,), int64.
    """

    name: ReceiverName
    hyperparameter: float
    at_the_edge: bool
    validation_accuracy: float
    predict: _Predict

    def correct(self, features: Features, labels: Labels) -> NDArray[np.bool_]:
        """Whether each class is predicted correctly: features (N, d), labels (N,) to bool (N,)."""
        return self.predict(features) == labels


def train_receiver(
    name: ReceiverName,
    train: Labelled,
    validation: Labelled,
    *,
    grid: Sequence[float] | None = None,
    seed: int = 0,
) -> Receiver:
    """Fit a receiver on `train` for each value of its grid, and keep the best on `validation`.

    Args:
        name: "linear" (multinomial logistic regression), "svm" (linear, one class against the
            rest), or "mlp" (one hidden layer of 512 ReLUs, Adam, 20 epochs).
        train: Features (N, d), finite, and int labels (N,) from 0; at least two classes.
        validation: Features and labels of the validation set.
        grid: Values to choose from: 1 / penalty of the linear ones (scikit-learn's C), weight of
            the squared weights of the MLP. `GRIDS` by default.
        seed: Key of the MLP's draws; the linear ones do not depend on it.

    Raises:
        QuadrateError: If the name is unknown, the grid is empty, or features and labels do not
            match.
    """
    fits: dict[str, Callable[..., _Predict]] = {"linear": _logistic, "svm": _svm, "mlp": _mlp}
    if name not in fits:
        raise QuadrateError(f"unknown receiver {name!r}: expected one of {', '.join(fits)}")
    grid = GRIDS[name] if grid is None else grid
    if not grid:
        raise QuadrateError(
            "a receiver's hyper-parameter is chosen from at least one value; the grid is empty"
        )
    dim = _check(train, "training")
    if _check(validation, "validation") != dim:
        raise QuadrateError(
            f"training features have {dim} dimensions, validation features"
            f" {validation[0].shape[1]}; they should have equally many"
        )
    if len(np.unique(train[1])) < 2:
        raise QuadrateError(
            "a receiver learns to tell at least two classes apart; the training labels are all the"
            " same"
        )
    mean, scale = train[0].mean(0, dtype=np.float64), train[0].std(0, dtype=np.float64)
    # Dimensions without content stay at 0, rather than amplify their rounding noise.
    spread = scale > 1e-6 * (1e-30 + np.abs(mean))
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=spread)

    def standardized(features: Features) -> Features:
        return ((features - mean) * inverse).astype(np.float32)

    x, held_out = standardized(train[0]), standardized(validation[0])
    best: tuple[float, float, _Predict] | None = None
    for value in grid:
        predict = fits[name](x, train[1].astype(np.int64), value, seed)
        accuracy = float(np.mean(predict(held_out) == validation[1]))
        if best is None or accuracy > best[0]:
            best = accuracy, value, predict
    assert best is not None
    accuracy, value, chosen = best
    at_the_edge = len(grid) > 1 and value in (grid[0], grid[-1])
    return Receiver(name, value, at_the_edge, accuracy, lambda x: chosen(standardized(x)))


def accuracy_interval(correct: NDArray[np.bool_], level: float = 0.95) -> Interval:
    """Accuracy with Wilson's score interval (1927), which is valid near 0 and 1 too.

    Args:
        correct: bool (N,), N at least 1.
        level: The probability that the interval covers the expectation over test sets.

    Raises:
        QuadrateError: If there are no samples or the level is not between 0 and 1.
    """
    n, z = _size_and_quantile(correct, level)
    share = float(np.mean(correct))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, float(centre - reach)), min(1.0, float(centre + reach)))


def accuracy_lost(
    before: NDArray[np.bool_], after: NDArray[np.bool_], level: float = 0.95
) -> Interval:
    """The loss of accuracy between two receivers on the same test samples, with an interval.

    Bonett and Price's adjusted Wald interval for paired proportions (2012): only samples on which
    the receivers disagree count. It covers the sampling of the test set, for fixed receivers.

    Args:
        before: bool (N,), whether the first receiver is correct on each sample.
        after: The same for the second receiver.
        level: The probability that the interval covers the expectation.

    Raises:
        QuadrateError: If the two differ in length, there are no samples or the level is not between
            0 and 1.
    """
    if before.shape != after.shape:
        raise QuadrateError(
            f"accuracies are compared on the same samples; got {before.size} before and"
            f" {after.size} after"
        )
    n, z = _size_and_quantile(before, level)
    lost, won = int(np.sum(before & ~after)), int(np.sum(~before & after))
    p, q = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    reach = z * np.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Interval((lost - won) / n, float(p - q - reach), float(p - q + reach))


def _size_and_quantile(correct: NDArray[np.bool_], level: float) -> tuple[int, float]:
    if correct.size == 0 or not 0 < level < 1:
        raise QuadrateError(
            f"an interval takes at least one sample and a level between 0 and 1; got {correct.size}"
            f" samples and level {level}"
        )
    from scipy.stats import norm

    return correct.size, float(norm.ppf((1 + level) / 2))


def _check(labelled: Labelled, what: str) -> int:
    features, labels = labelled
    if features.ndim != 2 or features.shape[0] == 0 or labels.shape != features.shape[:1]:
        raise QuadrateError(
            f"{what} data is features (N, d) and labels (N,), N at least 1; got {features.shape}"
            f" and {labels.shape}"
        )
    if not np.isfinite(features).all():
        raise QuadrateError(
            f"{what} features must be finite; {int((~np.isfinite(features)).any(1).sum())} of"
            f" {len(features)} samples are not"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise QuadrateError(
            f"{what} labels must be integers from 0; got {labels.dtype} from {labels.min()}"
        )
    return features.shape[1]


def _logistic(x: Features, labels: Labels, value: float, seed: int) -> _Predict:
    from sklearn.linear_model import LogisticRegression

    return _fitted(LogisticRegression(C=value, max_iter=300), x, labels)


def _svm(x: Features, labels: Labels, value: float, seed: int) -> _Predict:
    from sklearn.svm import LinearSVC

    # 10,000 samples of 1,280 dimensions take 3 s in the dual and 14 s in the primal; a finer
    # tolerance does not change predictions.
    model = LinearSVC(C=value, dual=True, max_iter=300, tol=1e-2, random_state=seed)
    return _fitted(model, x, labels)


def _fitted(model: Any, x: Features, labels: Labels) -> _Predict:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Stopping early regularizes, which validation takes into account.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, labels)
    return lambda features: model.predict(features).astype(np.int64)


def _mlp(x: Features, labels: Labels, value: float, seed: int) -> _Predict:
    key = ("receiver", seed, "mlp")
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels)
    network = fully_connected(
        (x.shape[1], _MLP_WIDTH, int(labels.max()) + 1), 0.0, *key, "weights", device=inputs.device
    )
    steps = _MLP_EPOCHS * -(-len(x) // _MLP_BATCH)
    chosen = batches(len(x), steps, min(_MLP_BATCH, len(x)), *key, "samples", device=inputs.device)
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]

    def loss(step: int) -> torch.Tensor:
        penalty = torch.stack([weight.square().sum() for weight in weights]).sum()
        logits = network(inputs[chosen[step]])  # (B, classes)
        return F.cross_entropy(logits, targets[chosen[step]]) + value * penalty

    minimize(network, loss, steps, _MLP_LEARNING_RATE, (0.9, 0.999))

    @torch.no_grad()
    def predict(features: Features) -> Labels:
        return network(torch.from_numpy(features)).argmax(1).numpy()

    return predict
