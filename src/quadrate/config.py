"""What to train: frozen dataclasses that a recipe returns and that model files contain."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from quadrate.core.digests import digest
from quadrate.core.fields import (
    check_at_least,
    check_not_negative,
    check_positive,
    check_recipe,
    check_shares,
    make_plain,
    shown,
)
from quadrate.core.names import check_file_name
from quadrate.errors import QuadrateError

Mode = Literal["end-to-end", "universal", "refinement"]
Surrogate = Literal["perturb", "soft"]
Precision = Literal["auto", "float32", "bfloat16"]
InvariantObjective = Literal["vc", "vic", "bince"]
InvariantNetwork = Literal["perceptron", "convolutional"]
Schedule = Literal["end-to-end", "staggered"]
Likelihood = Literal["gaussian", "bernoulli"]

FITTED = ("factorized", "hyperprior")
"""Bottlenecks that can be fitted to frozen latents (`quadrate.training.bottleneck_fits`)."""

# Of fields that came later: left out of texts where they have their default, so that folders are
# found again by the digests that they had before.
_NEW = {"new": True}


@dataclass(frozen=True)
class Weight:
    """A weight λ of the objective L = λr·R + λd·D + λp·P + λc·C, declared once in `WEIGHTS`.

    Attributes:
        name: The field of `OperatingPoint`, the column of a row of results, and with dashes the
            option of the command line.
        symbol: What tables and figures call it.
        column: The column of its term in a training's metrics.
        unit: What the term is measured in.
        ramp: Whether annealing raises the weight from 0 (`TrainingConfig.anneal`).
    """

    name: str
    symbol: str
    column: str
    unit: str
    ramp: bool


WEIGHTS = (
    Weight("lambda_r", "λr", "rate_nats", "nats a sample", ramp=True),
    Weight("lambda_d", "λd", "mse", "squared error per pixel on the [0, 1] scale", ramp=False),
    Weight("lambda_p", "λp", "wasserstein", "W1 in Euclidean norms of an image", ramp=True),
    Weight("lambda_c", "λc", "cross_entropy_nats", "nats a sample", ramp=True),
)

_PURPOSES = {"flow": "realistic", "labelled": "recognizable"}  # of decoders, whatever the weights

_LONGEST_KEY = 200  # bytes; file systems allow 255, of which temporary names take some
_RUN_FILES = ("config.json", "results.csv", "verdicts.md", "trade-off.png")


@dataclass(frozen=True)
class OperatingPoint:
    """One codec to train: `(rate, λ_r, λ_d, λ_p, λ_c, seed)`.

    The rate is fixed by `levels`, or learned at the price `lambda_r` by a bottleneck that has a
    learned rate (`quadrate.bottlenecks.by_name`). The weights multiply the rate in nats, MSE
    per pixel on the [0, 1] scale, W1 in units of the Euclidean norm of an image, and
    cross-entropy in nats.

    Attributes:
        levels: The number of quantizer levels of each latent dimension, so `(3, 3, 3)` is the
            published (dim 3, L 3); empty where the rate is learned.
        lambda_d: Weight of the distortion.
        lambda_p: Weight of the perception.
        lambda_c: Weight of the classification.
        seed: Of initial weights and all draws.
        lambda_r: Weight of the rate, above 0 where the rate is learned, else 0.
        dims: Latent dimensions, or channels of latent maps, where the rate is learned, else 0.
        bottleneck: The bottleneck's name in `quadrate.bottlenecks.by_name.BOTTLENECKS`.
        decoder: The kind of decoder, a name in `quadrate.networks.DECODERS`: "direct", the family's
            network; "labelled", which estimates the label and draws that class (lambda_c is the
            weight of the estimate); "flow", which carries the pictures of the stage's base to the
            distribution of real ones (a universal stage of its own; the weights say nothing).

    Raises:
        QuadrateError: If a value is not of its type or range, or all weights of the decoder are 0.
    """

    levels: tuple[int, ...] = (3, 3, 3)
    lambda_d: float = 1.0
    lambda_p: float = 0.0
    lambda_c: float = 0.0
    seed: int = 0
    lambda_r: float = field(default=0.0, metadata=_NEW)
    dims: int = field(default=0, metadata=_NEW)
    bottleneck: str = field(default="dithered", metadata=_NEW)
    decoder: str = field(default="direct", metadata=_NEW)

    def __post_init__(self) -> None:
        make_plain(self)
        check_at_least(self, 0, "dims")
        check_file_name("the kind of a decoder", self.decoder)
        for weight in WEIGHTS:
            check_not_negative(self, weight.name)
            # Never -0.0, so that equal points have equal texts.
            object.__setattr__(self, weight.name, abs(float(getattr(self, weight.name))))
        if not _takes_levels(self.bottleneck):
            if self.levels or not (self.dims and self.lambda_r > 0):
                raise QuadrateError(
                    f"bottleneck {self.bottleneck!r} learns its rate: give dims and lambda_r above"
                    f" 0, and levels=(); got levels={shown(self.levels)}, dims={self.dims},"
                    f" lambda_r={self.lambda_r:g}"
                )
        elif self.dims or self.lambda_r:
            raise QuadrateError(
                f"dims={self.dims} and lambda_r={self.lambda_r:g} are of a learned rate: give a"
                f" bottleneck that learns one, and levels=(); {self.bottleneck!r} has a fixed rate"
            )
        elif not self.levels or min(self.levels) < 2:
            raise QuadrateError(
                "an operating point needs at least one dimension and at least 2 levels in each;"
                f" got levels={shown(self.levels)}"
            )
        if self.lambda_d == self.lambda_p == self.lambda_c == 0:
            raise QuadrateError(
                "an operating point needs at least one of lambda_d, lambda_p and lambda_c above 0"
            )

        if self.decoder == "labelled" and not self.lambda_c:
            raise QuadrateError(
                "a labelled decoder needs lambda_c above 0, the weight of its estimate of the label"
            )

    @property
    def has_learned_rate(self) -> bool:
        """Whether the rate is learned rather than fixed by levels."""
        return self.dims > 0

    @property
    def latent_dims(self) -> int:
        """Latent dimensions that the encoder gives, or channels of latent maps."""
        return self.dims or len(self.levels)

    @property
    def code(self) -> tuple[tuple[int, ...], int, str]:
        """How the latents are coded: levels, dims and bottleneck."""
        return self.levels, self.dims, self.bottleneck

    @property
    def rate_bound_bits(self) -> float:
        """The rate bound, the sum of log2 L, in bits a sample; inf where the rate is learned."""
        return math.inf if self.has_learned_rate else sum(map(math.log2, self.levels))

    @property
    def purpose(self) -> str:
        """What a decoder of this kind and these weights is for, as its default name."""
        return (
            _PURPOSES.get(self.decoder)
            or {
                (False, False): "faithful",
                (True, False): "realistic",
                (False, True): "recognizable",
                (True, True): "balanced",
            }[self.lambda_p > 0, self.lambda_c > 0]
        )

    @property
    def key(self) -> str:
        """A name for the point that is unique and fit for a folder.

        Where it would be too long, a digest stands for the levels.
        """
        if self.has_learned_rate:
            rate = f"{self.bottleneck}-{self.dims}_r{_short(self.lambda_r)}"
        elif len(set(self.levels)) == 1:
            rate = f"{len(self.levels)}x{self.levels[0]}"
        else:
            rate = "-".join(map(str, self.levels))
        _, *others = WEIGHTS
        lambdas = ((weight.name[-1], getattr(self, weight.name)) for weight in others)
        rest = "".join(f"_{letter}{_short(value)}" for letter, value in lambdas)
        rest += f"_{self.decoder}" * (self.decoder != "direct") + f"_s{self.seed}"
        if len(rate + rest) <= _LONGEST_KEY:
            return rate + rest
        return f"{self.latent_dims}mixed-{digest(rate)}{rest}"


def _short(number: float) -> str:
    """A number as text that gives it back exactly, without a needless ".0"."""
    return short if float(short := f"{number:g}") == number else repr(float(number))


@dataclass(frozen=True)
class TrainingConfig:
    """How a list of operating points is trained.

    Attributes:
        epochs: Passes over the training images.
        batch: Images a step, and all of them where there are fewer; training warns where a pass
            takes one or two steps only.
        learning_rate: Peak of encoder's and decoder's one-cycle schedule (linear warm-up, cosine to
            zero).
        betas: Adam's decay rates for encoder and decoder.
        critic_learning_rate: The critic's, held constant for the first half and then falling to
            zero with the codec's.
        critic_betas: Adam's decay rates for the critic.
        critic_steps: Critic steps a codec step; only where lambda_p > 0 is there a critic at all.
        gradient_penalty: Weight of the critic's gradient penalty.
        warmup: Share of the steps over which the learning rate rises.
        surrogate: "perturb", f(x) + u with the exact identity gradient, or "soft", the soft-to-hard
            surrogate of the papers.
        anneal: Share of the steps over which all weights but lambda_d rise linearly from 0.
        alternate: The published alternation: of two batches one trains only the critic, the other
            only the codec.
        precision: "bfloat16" computes the networks in bfloat16 (parameters and losses stay
            float32); "auto" takes it where the processor has it.
        bottleneck_learning_rate: Peak of the same schedule for the steps and densities of a
            bottleneck that learns its rate.
        shift: Pixels by which a batch of training images is moved at most, each way, with its edges
            repeated: a code so trained tells the classes of new images apart better. 0 moves none.
    """

    epochs: int = 16
    batch: int = 256
    learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.5, 0.9)
    critic_learning_rate: float = 1e-3
    critic_betas: tuple[float, float] = (0.5, 0.9)
    critic_steps: int = 1
    gradient_penalty: float = 10.0
    warmup: float = 0.1
    surrogate: Surrogate = "perturb"
    anneal: float = 0.0
    alternate: bool = False
    precision: Precision = "auto"
    bottleneck_learning_rate: float = field(default=1e-2, metadata=_NEW)
    shift: int = field(default=0, metadata=_NEW)

    def __post_init__(self) -> None:
        make_plain(self)
        check_at_least(self, 1, "epochs", "batch", "critic_steps")
        check_at_least(self, 0, "shift")
        check_shares(self, "warmup", "anneal")
        check_positive(self, "learning_rate", "critic_learning_rate", "bottleneck_learning_rate")
        check_not_negative(self, "gradient_penalty")
        for name in ("betas", "critic_betas"):
            if not all(0 <= beta < 1 for beta in getattr(self, name)):
                raise QuadrateError(
                    f"{name} are decay rates and must lie in [0, 1); got {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Stage:
    """A list of operating points that are trained alike.

    Attributes:
        name: The stage's folder in a run.
        points: What to train; its order is of no consequence.
        mode: "end-to-end" trains encoder and decoder; "universal" trains decoders on the frozen
            encoder of `base`; "refinement" trains a second encoder beside the frozen one of `base`,
            and a decoder on both.
        base: The operating point whose encoder is frozen; each point takes the one of its own seed.
        base_stage: The stage that trained `base`.
        training: The settings.
        noise_std: Standard deviation of the Gaussian noise that the encoder sees added to its
            input; the target stays clean.
        readers: Classifiers that labelled decoders write for, each an architecture, which is
            trained on clean images with seed 3. Independent judges and strangers have others.
    """

    name: str
    points: tuple[OperatingPoint, ...]
    mode: Mode = "end-to-end"
    base: OperatingPoint | None = None
    base_stage: str = ""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    noise_std: float = 0.0
    readers: tuple[str, ...] = field(default=(), metadata=_NEW)

    def __post_init__(self) -> None:
        where = f"stage {check_file_name('the name of a stage', self.name)!r}: "
        if self.name.casefold() in _RUN_FILES:
            raise QuadrateError(f"{where}that is a file in the run's folder; give another name")
        make_plain(self, where)
        check_not_negative(self, "noise_std", where=where)
        if (self.mode == "end-to-end") != (self.base is None):
            raise QuadrateError(
                f"{where}mode {self.mode!r} "
                + ("takes no base point" if self.base else "needs a base point")
            )
        if self.base or self.base_stage:
            check_file_name(f"{where}base_stage", self.base_stage)
        if len({point.key for point in self.points}) != len(self.points):
            raise QuadrateError(f"stage {self.name!r} names the same operating point twice")
        if (
            self.mode == "universal"
            and self.base
            and any(point.code != self.base.code for point in self.points)
        ):
            levels, dims, bottleneck = self.base.code
            asked = f"levels must be {levels}" if levels else f"dims must be {dims}"
            raise QuadrateError(
                f"{where}universal decoders read the codes of their base, so {asked} and bottleneck"
                f" {bottleneck!r}"
            )

        if self.mode != "universal" and any(point.decoder == "flow" for point in self.points):
            raise QuadrateError(
                f"{where}flow decoders start from the pictures of a trained decoder: give mode"
                " 'universal', with that decoder's point as the base"
            )
        if self.readers and not any(
            point.decoder == "labelled" and point.lambda_c > 0 for point in self.points
        ):
            raise QuadrateError(
                f"{where}readers are for labelled decoders with lambda_c > 0; none is in the stage"
            )
        if self.training.shift and self.mode != "end-to-end":
            raise QuadrateError(
                f"{where}frozen encoders have encoded the images where they are: shift must be 0 in"
                f" mode {self.mode!r}"
            )
        if self.training.surrogate == "soft" and any(p.has_learned_rate for p in self.points):
            raise QuadrateError(
                f"{where}surrogate 'soft' is that of the dithered quantizer; a learned rate takes"
                " 'perturb'"
            )

    def base_of(self, point: OperatingPoint) -> OperatingPoint | None:
        """The operating point whose frozen encoder `point` builds on.

        The stage's base, with the point's seed.
        """
        return dataclasses.replace(self.base, seed=point.seed) if self.base else None


@dataclass(frozen=True)
class WeightedTerm:
    """A registered loss (`quadrate.objectives.register_term`) and its weight in the objective."""

    name: str
    weight: float

    def __post_init__(self) -> None:
        check_file_name("the name of a loss term", self.name)
        make_plain(self, where := f"term {self.name!r}: ")
        check_not_negative(self, "weight", where=where)
        object.__setattr__(self, "weight", abs(float(self.weight)))  # as the weights of a point


@dataclass(frozen=True)
class Recipe:
    """A published experiment, or one of yours: everything that decides its numbers.

    Attributes:
        name: The recipe's name.
        title: What it shows, in a line.
        source: Name of a data set, or path of a folder of labelled images.
        stages: What to train, in order; a later stage may build on an earlier one.
        family: The networks, "compact", "compact-colour" or "paper".
        judge: The classifier in the loss: an architecture to train, or the path of a checkpoint,
            looked up in QUADRATE_DATA as well.
        independent_judge: The classifier that no codec ever meets in training.
        terms: Your own registered losses, which all points add to theirs.
        strangers: Further classifiers that no codec ever meets, each an architecture, which is
            trained on clean images with seed 2.
    """

    kind: ClassVar = "trade-off"
    name: str
    title: str
    source: str
    stages: tuple[Stage, ...]
    family: str = "compact"
    judge: str = "dense"
    independent_judge: str = "conv"
    terms: tuple[WeightedTerm, ...] = field(default=(), metadata=_NEW)
    strangers: tuple[str, ...] = field(default=(), metadata=_NEW)

    def __post_init__(self) -> None:
        check_recipe(self)
        if len(set(self.strangers)) != len(self.strangers):
            raise QuadrateError(
                f"recipe {self.name!r} names a stranger twice: {', '.join(self.strangers)}; name"
                " each architecture once"
            )
        strange = {self.independent_judge, *self.strangers}
        if known := [name for stage in self.stages for name in stage.readers if name in strange]:
            raise QuadrateError(
                f"recipe {self.name!r} trains decoders for a reader of the architecture"
                f" {known[0]!r}, which is that of an independent judge or a stranger, too; choose"
                " another for one of them"
            )
        names = [
            stage.name.casefold() for stage in self.stages
        ]  # some file systems know no upper case
        if twice := [stage.name for stage in self.stages if names.count(stage.name.casefold()) > 1]:
            raise QuadrateError(
                f"recipe {self.name!r} has two stages called {twice[0]!r}; they would share their"
                " folder"
            )

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise QuadrateError(
            f"recipe {self.name!r} has no stage {name!r}; it has"
            f" {', '.join(s.name for s in self.stages)}"
        )

    def encoder_of(self, name: str) -> tuple[str, OperatingPoint | None]:
        """The stage that trained the encoder of a stage's decoders, and its point (seed 0)."""
        stage, point = self.stage(name), None
        while stage.mode == "universal":
            stage, point = self.stage(stage.base_stage), stage.base
        return stage.name, point


@dataclass(frozen=True)
class InvariantConfig:
    """What to train; the loss is D + beta · R with R in nats a sample.

    Attributes:
        objective: "vc" decodes the encoded member itself, "vic" the representative of its orbit,
            "bince" contrasts two members.
        beta: What a nat costs; the larger, the fewer.
        dims: Latent dimensions.
        network: Encoder and decoder; see `quadrate.networks.autoencoders`.
        bottleneck: "factorized", "hyperprior" (side information tells each dimension's mean and
            spread), or "unit-gaussian", a penalty without a coder, of which no codec can be made;
            or a registered one (`quadrate.bottlenecks.by_name`), trained end-to-end.
        steps: Training steps.
        batch: Samples a step.
        learning_rate: Peak of encoder's and decoder's schedule: a linear rise, then a cosine to
            zero.
        bottleneck_learning_rate: The same for steps and densities.
        weight_decay: Of encoder and decoder, decoupled (AdamW).
        anneal: Share of the steps in which beta grows linearly from 0.
        polish: Share of the steps that are spent on the decoder (or critic) alone at the end, on
            latents that are rounded as they will be.
        schedule: "end-to-end", or "staggered": the encoder first, without a rate, then a bottleneck
            on its frozen latents, where D is their squared error, in units of their variance.
        likelihood: What a reconstruction is measured by; see
            `quadrate.objectives.invariance.Reconstruction`.
        seed: Of initial weights, samples, members and noise.
    """

    objective: InvariantObjective = "vic"
    beta: float = 0.1
    dims: int = 1
    network: InvariantNetwork = "perceptron"
    bottleneck: str = "factorized"
    steps: int = 20_000
    batch: int = 1024
    learning_rate: float = 2e-3
    bottleneck_learning_rate: float = 1e-2
    weight_decay: float = 0.0
    anneal: float = 0.1
    polish: float = 0.1
    schedule: Schedule = "end-to-end"
    likelihood: Likelihood = "gaussian"
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        check_positive(self, "beta", "learning_rate", "bottleneck_learning_rate")
        check_at_least(self, 1, "dims", "steps", "batch")
        check_not_negative(self, "weight_decay")
        check_shares(self, "anneal", "polish")
        if _takes_levels(self.bottleneck):
            raise QuadrateError(
                f"the rate of bottleneck {self.bottleneck!r} is fixed; take one that learns it"
            )
        if self.schedule == "staggered" and self.bottleneck not in FITTED:
            raise QuadrateError(
                f"bottleneck {self.bottleneck!r} cannot be fitted to frozen latents, as"
                f" {' and '.join(FITTED)} can; train it end-to-end"
            )

    @property
    def key(self) -> str:
        """A name for a folder, unique among configurations that differ in what a recipe varies."""
        end = "".join(
            f"_{name}"
            for name in (self.bottleneck, self.schedule)
            if name not in ("factorized", "end-to-end")
        )
        return f"{self.objective}_b{self.beta:g}_d{self.dims}{end}_s{self.seed}"


def _takes_levels(bottleneck: str) -> bool:
    from quadrate.bottlenecks.by_name import takes_levels

    return bottleneck == "dithered" or takes_levels(bottleneck)


def to_json(config: Any) -> str:
    """A dataclass as JSON text, with sorted keys, so that equal configurations give equal text."""
    return json.dumps(_plain(config), sort_keys=True)


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, without newer fields that have their default."""
    if dataclasses.is_dataclass(value):
        return {
            item.name: _plain(getattr(value, item.name))
            for item in dataclasses.fields(value)
            if item.metadata != _NEW or getattr(value, item.name) != item.default
        }
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def from_json(cls: type, text: str) -> Any:
    """The inverse of `to_json` for one of this module's dataclasses.

    Raises:
        QuadrateError: If the text is no such configuration.
    """
    try:
        return _build(cls, json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise QuadrateError(
            f"not the configuration of a {cls.__name__}: {' '.join(str(error).split())}"
        ) from None


def _build(kind: Any, value: Any) -> Any:
    """A value of JSON as the type that a dataclass field declares."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if unknown := value.keys() - hints.keys():
            raise ValueError(f"it has no setting {min(unknown)[:80]!a}")
        return kind(**{name: _build(hints[name], item) for name, item in value.items()})  # type: ignore[operator]
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        item_kind = typing.get_args(kind)[0]
        return tuple(_build(item_kind, item) for item in value)
    if isinstance(kind, types.UnionType):
        return None if value is None else _build(typing.get_args(kind)[0], value)
    return value
