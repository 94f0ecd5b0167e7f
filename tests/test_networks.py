import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from quadrate.errors import QuadrateError
from quadrate.networks import paper
from quadrate.networks.classifiers import ConvClassifier, DenseClassifier
from quadrate.networks.family import CLASSIFIERS
from quadrate.networks.published_weights import load_published_classifier, load_published_codec

MNIST, SVHN = paper.MNIST, paper.SVHN


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("shape", "dim", "counts"),
    [(MNIST, 3, (585_097, 326_465, 1_030_145)), (SVHN, 10, (1_070_218, 645_383, 1_033_345))],
)
def test_paper_networks_have_the_published_sizes_shapes_and_ranges(shape, dim, counts):
    encoder = paper.encoder(shape, dim)
    decoder = paper.decoder(shape, dim)
    critic = paper.critic(shape)
    assert tuple(map(parameters, (encoder, decoder, critic))) == counts
    x = torch.rand(4, *shape)
    z = encoder(x)
    y = decoder(3 * z)
    assert z.shape == (4, dim) and z.abs().max() <= 1
    assert y.shape == x.shape and y.min() >= 0 and y.max() <= 1
    assert critic(x).shape == (4,) and critic(x[:1]).shape == (1,)


def test_paper_classifiers_have_the_published_sizes():
    assert parameters(paper.classifier(MNIST, 10)) == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    convolutions = sum(
        9 * a * b + b for a, b in [(3, 32), (32, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    )
    assert (
        parameters(paper.classifier(SVHN, 10)) == convolutions + 4097 * 1024 + 1025 * 512 + 513 * 10
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda s: paper.encoder(s, 3),
        lambda s: paper.decoder(s, 3),
        paper.critic,
        lambda s: paper.classifier(s, 10),
    ],
)
def test_paper_networks_refuse_other_shapes_and_name_what_takes_them(build):
    with pytest.raises(
        QuadrateError,
        match=(
            r"1x28x28 and of 3x32x32 only, not of 1x8x8; .*(`compact`|`conv` and `dense`) takes?"
            r" any shape"
        ),
    ):
        build((1, 8, 8))


def mean_square(
    module: nn.Module, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
) -> Tensor:
    return functional_call(module, (params, buffers), (x,)).square().mean()


@pytest.mark.parametrize("shape", [MNIST, SVHN])
@pytest.mark.parametrize("role", ["encoder", "decoder", "critic"])
def test_stacked_networks_compute_what_each_computes_alone(shape, role):
    arguments = [shape] if role == "critic" else [shape, 3]
    modules = [
        getattr(paper, role)(*arguments).double() for _ in range(2)
    ]  # in float64, so that only a wrong computation differs
    x = torch.rand(2, 4, *([3] if role == "decoder" else shape), dtype=torch.float64)
    params, buffers = stack_module_state(modules)
    buffers = {name: buffer.clone() for name, buffer in buffers.items()}
    stacked = vmap(grad(mean_square, argnums=1), in_dims=(None, 0, 0, 0))(
        modules[0], params, buffers, x
    )
    for k, module in enumerate(modules):
        module.zero_grad()
        module(x[k]).square().mean().backward()
        for name, p in module.named_parameters():
            torch.testing.assert_close(stacked[name][k], p.grad)
        for (
            name,
            buffer,
        ) in module.named_buffers():  # batch norm's running statistics are the model's own
            torch.testing.assert_close(buffers[name][k], buffer)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("shape", [MNIST, SVHN])
def test_classifiers_read_their_logits_off_their_features(name, shape):
    classifier = CLASSIFIERS[name](shape, 7).eval()
    x = torch.rand(3, *shape)
    features = classifier.features(x)
    assert features.ndim == 2 and len(features) == 3
    assert classifier(x).shape == (3, 7)
    torch.testing.assert_close(classifier(x), classifier.head(features))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 21)])
def test_our_classifiers_take_any_shape(shape):
    assert ConvClassifier(shape, 5)(torch.rand(2, *shape)).shape == (2, 5)
    assert DenseClassifier(shape, 5, widths=(6, 4, 3)).features(torch.rand(2, *shape)).shape == (
        2,
        3,
    )
    with pytest.raises(QuadrateError, match="at least 8x8 pixels, not 7x8"):
        ConvClassifier((1, 7, 8), 5)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 21), (2, 15, 40), (4, 16, 17), SVHN])
def test_lenet_takes_any_shape_of_at_least_8x8_pixels(shape):
    lenet = CLASSIFIERS["lenet"](shape, 5)
    assert lenet(torch.rand(2, *shape)).shape == (2, 5)
    assert lenet.features(torch.rand(2, *shape)).shape == (2, 84)
    with pytest.raises(QuadrateError, match="lenet classifier needs .* 8x8 pixels, not 8x7"):
        CLASSIFIERS["lenet"]((shape[0], 8, 7), 5)


def test_lenet_is_as_large_as_the_published_one():
    """On 28x28 pixels, with weights between all channels and none in the pooling."""
    weights = CLASSIFIERS["lenet"](MNIST, 10).parameters()
    layers = 6 * (25 + 1), 16 * (6 * 25 + 1), 120 * (400 + 1), 84 * (120 + 1), 10 * (84 + 1)
    assert sum(each.numel() for each in weights) == sum(layers) == 61_706


# Published checkpoints ----------------------------------------------------------------------------


def dense_blocks(*widths: int) -> list[nn.Module]:
    return [
        layer
        for a, b in zip(widths[:-1], widths[1:], strict=True)
        for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.LeakyReLU())
    ]


def original_codec(dim: int) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """MNIST networks of the papers, under the layer names of the published files."""
    encoder = nn.ModuleDict(
        {
            "main": nn.Sequential(
                *dense_blocks(784, 512, 256, 128, 128),
                nn.Linear(128, dim),
                nn.BatchNorm1d(dim),
                nn.Tanh(),
            )
        }
    )
    deconvolve = nn.Sequential(
        *(nn.ConvTranspose2d(32, 64, 5, 2), nn.BatchNorm2d(64), nn.LeakyReLU()),
        *(nn.ConvTranspose2d(64, 128, 5, 2), nn.BatchNorm2d(128), nn.LeakyReLU()),
        *(nn.ConvTranspose2d(128, 1, 4), nn.Sigmoid()),
    )
    decoder = nn.ModuleDict(
        {"expand": nn.Sequential(*dense_blocks(dim, 128, 512)), "deconvolve": deconvolve}
    )
    for network in (encoder, decoder):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (
                    module.weight.data,
                    module.bias.data,
                    module.running_mean,
                    module.running_var,
                ):
                    tensor.uniform_(0.5, 1.5)
    return encoder.eval(), decoder.eval()


def save(path: Path, state: object, **options: object) -> Path:
    torch.save(state, path, **options)
    return path


@pytest.fixture
def checkpoints(tmp_path: Path) -> tuple[Path, Path]:
    encoder, decoder = original_codec(4)
    return save(tmp_path / "encoder1.ckpt", encoder.state_dict()), save(
        tmp_path / "decoder1.ckpt", decoder.state_dict()
    )


@pytest.mark.parametrize("old", [False, True])
def test_a_published_codec_computes_the_same_here(tmp_path, old):
    originals = original_codec(4)
    states = [network.state_dict() for network in originals]
    if old:  # PyTorch before 0.4.1 kept no counters; a quantizer may have kept its centres
        states = [
            OrderedDict((k, v) for k, v in state.items() if "num_batches" not in k)
            for state in states
        ]
        states[0] = OrderedDict([("q.centers", torch.linspace(-1, 1, 3)), *states[0].items()])
    encoder, decoder = load_published_codec(
        save(tmp_path / "e.ckpt", states[0]), save(tmp_path / "d.ckpt", states[1]), MNIST
    )
    x, z = torch.rand(5, *MNIST), torch.rand(5, 4)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), originals[0]["main"](x.flatten(1)))
        torch.testing.assert_close(
            decoder(z), originals[1]["deconvolve"](originals[1]["expand"](z).view(5, 32, 4, 4))
        )
    decoder.train()(z).sum().backward()  # and they can be trained on


def test_svhn_networks_are_read_too(tmp_path):
    networks = paper.encoder(SVHN, 2), paper.decoder(SVHN, 2)
    paths = [
        save(tmp_path / f"{i}.ckpt", network.state_dict()) for i, network in enumerate(networks)
    ]
    encoder, decoder = load_published_codec(*paths, SVHN)
    x = torch.rand(2, *SVHN)
    torch.testing.assert_close(decoder(encoder(x)), networks[1].eval()(networks[0](x)))
    classifier = paper.classifier(SVHN, 10)
    path = save(
        tmp_path / "q.ckpt",
        OrderedDict(
            (f"network.{i}.{k}", v) for i, (k, v) in enumerate(classifier.state_dict().items())
        ),
    )
    torch.testing.assert_close(load_published_classifier(path)(x), classifier(x))


def test_a_checkpoint_of_other_networks_is_refused_by_tensor_and_shapes(checkpoints, tmp_path):
    encoder, decoder = checkpoints
    with pytest.raises(
        QuadrateError,
        match=r"encoder1.ckpt: main.0.weight \(512, 784\) stands where .* 0.weight \(64, 3, 5, 5\)",
    ):
        load_published_codec(encoder, decoder, SVHN)
    with pytest.raises(QuadrateError, match="not of 1x8x8"):
        load_published_codec(encoder, decoder, (1, 8, 8))
    other = save(tmp_path / "decoder0.ckpt", original_codec(5)[1].state_dict())
    with pytest.raises(
        QuadrateError,
        match=r"decoder0.ckpt: expand.0.weight \(128, 5\) stands where .* 0.weight \(128, 4\)",
    ):
        load_published_codec(encoder, other, MNIST)
    state = torch.load(decoder, weights_only=True)
    longer = save(tmp_path / "longer.ckpt", state | {"extra.bias": torch.zeros(7)})
    with pytest.raises(
        QuadrateError,
        match=(
            r"longer.ckpt: extra.bias \(7,\) is one too many; the published network has 26 tensors"
        ),
    ):
        load_published_codec(encoder, longer, MNIST)
    shorter = save(tmp_path / "shorter.ckpt", dict(list(state.items())[:-1]))
    with pytest.raises(
        QuadrateError,
        match=(
            r"shorter.ckpt ends after 25 tensors, where 13.bias \(1,\) of the published network"
            r" should follow"
        ),
    ):
        load_published_codec(encoder, shorter, MNIST)


def test_weight_and_variance_of_equal_shape_are_not_confused(checkpoints, tmp_path):
    encoder, decoder = checkpoints
    items = list(torch.load(encoder, weights_only=True).items())
    names = [name for name, _ in items]
    i, j = names.index("main.1.weight"), names.index("main.1.running_var")
    items[i], items[j] = items[j], items[i]
    with pytest.raises(
        QuadrateError, match="main.1.running_var .* stands where the published network has 2.weight"
    ):
        load_published_codec(save(tmp_path / "swapped.ckpt", OrderedDict(items)), decoder, MNIST)


def pickled_module() -> bytes:
    buffer = io.BytesIO()
    torch.save(nn.Linear(2, 2), buffer)
    return buffer.getvalue()


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(20):
            archive.writestr(f"archive/data/{i}", bytes(2**24))
    return buffer.getvalue()


def saved(state: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such checkpoint"),
        (b"", "not a whole checkpoint"),
        (b"PK\x03\x04 and then nothing", "not a whole checkpoint"),
        (pickle.dumps({"a": 1}), "not a whole checkpoint"),
        (pickled_module(), "not a whole checkpoint of tensors alone"),
        (saved(nn.Linear(2, 2).state_dict())[:-100], "not a whole checkpoint"),
        (zip_bomb(), "unpacks to"),
        (saved([torch.zeros(3)]), "not a state dict"),
        (saved({"state_dict": {"a": torch.zeros(3)}}), "not a state dict"),
        (saved({"centers": torch.zeros(3)}), "without a single weight"),
        (
            saved({"0.weight": torch.zeros(3, dtype=torch.int64)}),
            "0.weight is not a dense floating-point tensor",
        ),
        (saved({"0.weight": torch.zeros(0)}), "0.weight is not a dense floating-point tensor"),
        (saved({"0.weight": torch.zeros(1).expand(10**12)}), "0.weight claims a shape"),
        (saved({"0.weight": torch.eye(3).to_sparse()}), "not a whole checkpoint of tensors alone"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_a_damaged_or_hostile_checkpoint_gives_one_clear_line(tmp_path, content, message):
    path = tmp_path / "evil.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QuadrateError, match=message) as caught:
        load_published_classifier(path)
    assert "evil.ckpt" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(QuadrateError, match="evil.ckpt"):
        load_published_codec(path, path, MNIST)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(QuadrateError, match="not a whole checkpoint"):
        load_published_classifier(tmp_path)


def test_flipped_bytes_give_an_error_or_a_network(tmp_path):
    path = tmp_path / "q.ckpt"
    whole = saved(paper.classifier(MNIST, 10).state_dict())
    draw = torch.Generator().manual_seed(0)
    failures = 0
    # The first and the last two thousand bytes hold the pickle and the archive's directory; between
    # them stand numbers only.
    for place in torch.cat(
        [torch.arange(0, 2000, 40), len(whole) - torch.arange(1, 2000, 40)]
    ).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(torch.randint(8, (), generator=draw))
        path.write_bytes(damaged)
        try:
            load_published_classifier(path)
        except QuadrateError:
            failures += 1
    assert failures > 10


@pytest.mark.real
@pytest.mark.skipif("QUADRATE_DATA" not in os.environ, reason="needs QUADRATE_DATA")
def test_the_published_classifier_scores_what_was_measured():
    from quadrate.sources import load_source
    from quadrate.training.judges import score

    folder = Path(os.environ["QUADRATE_DATA"])
    source = load_source("mnist", data_dir=folder)
    module = load_published_classifier(folder / "rdpc" / "q-mnist.ckpt")
    accuracy, nats = score(module, source.test.images, source.test.labels)
    assert accuracy == pytest.approx(0.9765, abs=1e-9)
    assert nats == pytest.approx(0.0741, abs=5e-5)
