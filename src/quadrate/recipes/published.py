"""The published experiments, each as a function that returns plain configuration."""

from __future__ import annotations

from itertools import product

from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig

RATE_3x3 = (3, 3, 3)  # 4.75 bits
RDPC_MNIST_RATES = (RATE_3x3, (4, 4, 4), (4, 4, 4, 4), (4, 4, 4, 4, 4))  # 4.75, 6, 8 and 10 bits
RDPC_JUDGE = "rdpc/q-mnist.ckpt"  # the classifier that trained and scored the published codecs

_PLAIN = TrainingConfig(epochs=28)
_SHORT = TrainingConfig(epochs=14)
_CRITIC = TrainingConfig(epochs=8, critic_learning_rate=3e-3)


def rdc_mnist() -> Recipe:
    """Rate, distortion, classification on MNIST (RDPC, Wang et al. 2025, Fig. 9a)."""
    weights = (0.0, 0.0018, 0.0036, 0.0072, 0.0144, 0.0217)
    points = tuple(OperatingPoint(levels, 1.0, 0.0, c, seed) for levels, c, seed in product(RDPC_MNIST_RATES, weights, range(3)))
    stages = (Stage("end-to-end", points, training=_PLAIN),)
    return Recipe("rdc-mnist", "accuracy against MSE at four rates (RDPC, Fig. 9a)", "mnist", stages, judge=RDPC_JUDGE)


def rdp_mnist() -> Recipe:
    """Distortion against perception at 4.75 bits, end-to-end and with one encoder (uRDP, Zhang et al. 2021, Fig. 4a)."""
    weights = (0.0, 0.0025, 0.005, 0.01, 0.015)
    points = tuple(OperatingPoint(RATE_3x3, 1.0, p, 0.0, seed) for p, seed in product(weights, range(2)))
    base = OperatingPoint(RATE_3x3, 1.0, 0.015, 0.0)
    stages = (
        Stage("end-to-end", points, training=_CRITIC),
        Stage("universal", points, "universal", base, "end-to-end", _CRITIC),
    )
    return Recipe("rdp-mnist", "perception against MSE, end-to-end and universal (uRDP, Fig. 4a)", "mnist", stages, judge=RDPC_JUDGE)


def urdc_mnist() -> Recipe:
    """A universal encoder for distortion and classification, with and without a Wasserstein term (URDC, Nguyen et al. 2025, Fig. 6)."""
    weights = (0.0, 0.0033, 0.0066, 0.015)
    stages: list[Stage] = []
    for suffix, p, training in (("", 0.0, _SHORT), ("-wasserstein", 0.005, _CRITIC)):
        points = tuple(OperatingPoint(RATE_3x3, 1.0, p, c, seed) for c, seed in product(weights, range(2)))
        base = OperatingPoint(RATE_3x3, 1.0, p, 0.015)
        stages += [
            Stage(f"end-to-end{suffix}", points, training=training),
            Stage(f"universal{suffix}", points, "universal", base, f"end-to-end{suffix}", training),
        ]
    title = "one encoder for distortion and classification, against end-to-end (URDC, Fig. 6)"
    return Recipe("urdc-mnist", title, "mnist", tuple(stages), judge=RDPC_JUDGE)


def refine_mnist() -> Recipe:
    """Successive refinement, 4.75 + 4.75 bits on a frozen first stage, beside one stage of 9.51 bits (uRDP, Fig. 6a)."""
    weights = (0.0, 0.015)
    first = OperatingPoint(RATE_3x3)
    second = tuple(OperatingPoint(RATE_3x3, 1.0, p, 0.0, seed) for p, seed in product(weights, range(2)))
    single = tuple(OperatingPoint(RATE_3x3 * 2, 1.0, p, 0.0, seed) for p, seed in product(weights, range(2)))
    stages = (
        Stage("first", tuple(OperatingPoint(RATE_3x3, seed=seed) for seed in range(2)), training=_CRITIC),
        Stage("refined", second, "refinement", first, "first", _CRITIC),
        Stage("single", single, training=_CRITIC),
    )
    return Recipe("refine-mnist", "a second encoder on a frozen first, beside a single one (uRDP, Fig. 6a)", "mnist", stages, judge=RDPC_JUDGE)


def restore_mnist() -> Recipe:
    """Noisy input, clean target: does classification trade against perception once the source is noisy? (RDPC, "source noise")."""
    weights = ((0.02, 0.002), (0.01, 0.01), (0.002, 0.02))
    levels = RDPC_MNIST_RATES[-1]
    points = tuple(OperatingPoint(levels, 0.0, p, c, seed) for (p, c), seed in product(weights, range(2)))
    stages = tuple(Stage(f"noise-{std:g}", points, training=_CRITIC, noise_std=std) for std in (0.0, 0.5, 1.0))
    title = "classification against perception at several levels of input noise (RDPC)"
    return Recipe("restore-mnist", title, "mnist", stages, judge=RDPC_JUDGE)
