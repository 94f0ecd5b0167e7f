import dataclasses
import math
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from quadrate.errors import QuadrateError
from quadrate.networks.classifiers import Classifier
from quadrate.networks.family import CLASSIFIERS
from quadrate.networks.paper import MNIST, classifier
from quadrate.sources import Source, Split
from quadrate.training import judges
from quadrate.training.judges import Judge, find_judge, load_judge, save_judge, score, train_judge


def split(count: int, seed: int, shape: tuple[int, ...] = (1, 8, 8), classes: int = 3) -> Split:
    """Noise with one bright row, whose number is the class."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=draw)
    images = torch.randint(0, 120, (count, *shape), generator=draw)
    images[torch.arange(count), :, labels] += 100
    return Split(images.to(torch.uint8), labels)


def stripes(
    name: str = "stripes", fingerprint: str = "0123456789abcdef" * 4, **options: object
) -> Source:
    return Source(
        name,
        split(240, 1, **options),
        split(30, 2, **options),
        split(90, 3, **options),
        3,
        fingerprint,
    )


def state(judge: Judge) -> dict[str, Tensor]:
    return judge.module.state_dict()


def equal(a: Judge, b: Judge) -> bool:
    return all(torch.equal(x, y) for x, y in zip(state(a).values(), state(b).values(), strict=True))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return train_judge(stripes(), "dense", epochs=8)


@pytest.mark.parametrize("architecture", ["conv", "dense", "lenet"])
def test_a_trained_judge_is_good_frozen_and_in_evaluation_mode(architecture):
    source = stripes()
    judge = train_judge(source, architecture, epochs=40)
    assert judge.accuracy > 0.95 and judge.cross_entropy_nats < 0.3
    assert (judge.accuracy, judge.cross_entropy_nats) == score(
        judge.module, source.test.images, source.test.labels
    )
    assert not judge.module.training and not any(p.requires_grad for p in judge.module.parameters())
    assert judge.provenance == {
        "architecture": architecture,
        "shape": "1x8x8",
        "classes": "3",
        "source": "stripes",
        "fingerprint": source.fingerprint,
        "seed": "0",
        "epochs": "40",
    }
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(judge.module(x), judge.module.head(judge.features(x)))


def test_the_seed_decides_the_judge_and_the_global_generator_neither_matters_nor_moves(judge):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = train_judge(stripes(), "dense", epochs=8)
    assert torch.equal(before, torch.get_rng_state())
    assert equal(judge, again) and again.accuracy == judge.accuracy
    assert not equal(judge, train_judge(stripes(), "dense", seed=1, epochs=8))


def test_the_judge_does_not_depend_on_validation_and_test(judge):
    source = dataclasses.replace(stripes(), validation=split(5, 9), test=split(7, 8))
    assert equal(judge, train_judge(source, "dense", epochs=8))


def test_epochs_suit_the_architecture_and_a_small_source_gets_enough_steps(monkeypatch):
    calls: list[dict] = []
    train_judge(stripes(), "dense", report=calls.append)
    assert [call["epoch"] for call in calls] == list(range(1, 301))  # 2 steps each: 600
    assert {call["epochs"] for call in calls} == {300} and {
        (call["stage"], call["point"]) for call in calls
    } == {("judge", "dense-s0")}
    assert calls[-1]["cross_entropy_nats"] < 0.01 < calls[0]["cross_entropy_nats"]
    calls.clear()
    monkeypatch.setattr(judges, "_LEAST_STEPS", 4)
    train_judge(stripes(), "dense", report=calls.append)
    assert len(calls) == 8


def test_a_last_lone_image_is_no_batch_of_its_own():
    source = dataclasses.replace(stripes(), train=split(129, 1))
    assert math.isfinite(train_judge(source, "conv", epochs=1).cross_entropy_nats)


def test_bad_training_gives_one_clear_line():
    with pytest.raises(
        QuadrateError, match="unknown classifier 'resnet'; known: conv, dense, lenet, paper"
    ):
        train_judge(stripes(), "resnet")
    with pytest.raises(
        QuadrateError,
        match=(
            "published classifier .* not of 1x8x8; the classifiers `conv` and `dense` take any"
            " shape"
        ),
    ):
        train_judge(stripes(), "paper")
    with pytest.raises(
        QuadrateError,
        match="dense judge on stripes diverged in epoch 1: .*nan.*; a smaller learning rate",
    ):
        train_judge(stripes(), "dense", lr=1e30)


class Brightness(nn.Module):
    """Class 1 has twice the odds of class 0 for bright images, and half for dark ones."""

    def forward(self, x: Tensor) -> Tensor:
        sign = torch.sign(x.mean((1, 2, 3)) - 0.5)
        return torch.stack([torch.zeros_like(sign), sign * math.log(2)], 1)


def test_score_is_the_accuracy_and_the_mean_cross_entropy_in_nats():
    images = torch.tensor([0, 0, 255, 255, 255], dtype=torch.uint8).view(5, 1, 1, 1)
    labels = torch.tensor([0, 1, 1, 1, 0])
    module = Brightness().train()
    for batch in (1, 2, 2000):
        accuracy, nats = score(module, images, labels, batch)
        assert accuracy == 0.6
        assert nats == pytest.approx((3 * math.log(3 / 2) + 2 * math.log(3)) / 5)
    assert module.training
    log_probabilities = nn.Sequential(module, nn.LogSoftmax(1))
    assert score(log_probabilities, images, labels) == pytest.approx((0.6, nats))


def test_score_uses_running_statistics_and_leaves_them_alone():
    module = CLASSIFIERS["conv"]((1, 8, 8), 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    test = split(50, 4)
    assert score(module, test.images, test.labels, batch=1) == pytest.approx(
        score(module, test.images, test.labels, batch=50)
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_any_module_makes_a_judge_but_only_some_have_features():
    judge = Judge("brightness", Brightness(), 0.5, 0.7)
    with pytest.raises(QuadrateError, match="judge 'brightness' has no features"):
        judge.features(torch.rand(1, 1, 8, 8))


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["conv", "dense"])
def test_a_saved_judge_comes_back_as_it_was(tmp_path, architecture):
    judge = train_judge(stripes(), architecture, epochs=1)
    save_judge(judge, tmp_path / "deep" / "judge.safetensors")
    for source in (None, stripes()):
        back = load_judge(tmp_path / "deep" / "judge.safetensors", source)
        assert equal(judge, back)
        assert (back.name, back.accuracy, back.cross_entropy_nats) == (
            judge.name,
            judge.accuracy,
            judge.cross_entropy_nats,
        )
        assert back.provenance == judge.provenance
        assert not back.module.training and not any(
            p.requires_grad for p in back.module.parameters()
        )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["judge.safetensors"]


def test_a_judge_of_other_data_is_scored_anew_and_one_of_other_shape_refused(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(dataclasses.replace(judge, accuracy=0.123), path)
    assert load_judge(path, stripes()).accuracy == 0.123
    assert load_judge(path, stripes(fingerprint="f" * 64)).accuracy == judge.accuracy
    with pytest.raises(
        QuadrateError, match="judges images of 1x8x8 in 3 classes; wide has 1x8x9 in 3 classes"
    ):
        load_judge(path, stripes("wide", shape=(1, 8, 9)))
    with pytest.raises(
        QuadrateError, match="judges images of 1x8x8 in 3 classes; stripes has 1x8x8 in 4 classes"
    ):
        load_judge(path, dataclasses.replace(stripes(), classes=4))


def test_a_damaged_file_gives_one_clear_line(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    with pytest.raises(QuadrateError, match="no such judge: .*judge.safetensors"):
        load_judge(path)
    save_judge(judge, path)
    whole = path.read_bytes()
    for content in (b"", whole[:7], whole[:500], whole[:-1], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(
            QuadrateError, match=r"judge.safetensors is not a whole safetensors file"
        ) as caught:
            load_judge(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(QuadrateError, match="cannot read .*: Is a directory"):
        load_judge(tmp_path)


def test_only_a_judge_that_was_trained_here_is_said_to_be_trained_anew(
    digits, tmp_path, monkeypatch
):
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)
    find_judge("dense", digits, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(QuadrateError, match="; delete it to have it trained anew$"):
        find_judge("dense", digits, tmp_path)
    with pytest.raises(QuadrateError) as caught:
        find_judge(str(path), digits, tmp_path / "elsewhere")
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "resnet"},
        {"architecture": "conv"},
        {"architecture": None},
        {"shape": "1x8"},
        {"shape": "1x8x9"},
        {"shape": "1x1000000x1000000"},
        {"shape": "1x-8x8"},
        {"classes": "4"},
        {"classes": "ten"},
        {"classes": "9" * 30},
        {"accuracy": "high"},
        {"name": None},
    ],
)
def test_metadata_that_do_not_fit_are_found_without_making_such_a_network(judge, tmp_path, change):
    path = tmp_path / "judge.safetensors"
    metadata = {
        **judge.provenance,
        "format": "quadrate-judge-1",
        "name": "j",
        "accuracy": "1",
        "cross_entropy_nats": "0",
    } | change
    safetensors.torch.save_file(
        state(judge), path, {key: value for key, value in metadata.items() if value is not None}
    )
    said = (
        "the judge is damaged"
        if change.get("architecture") != "resnet"
        else "a judge of architecture 'resnet', which is not registered"
    )
    with pytest.raises(QuadrateError, match=f"judge.safetensors: {said}") as caught:
        load_judge(path)
    assert "delete" not in str(caught.value)  # it may be the user's own
    assert "\n" not in str(caught.value)


def test_other_files_and_judges_that_could_not_be_read_again_are_refused(judge, tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(state(judge), path)
    with pytest.raises(QuadrateError, match="not a judge of Quadrate's"):
        load_judge(path)
    with pytest.raises(
        QuadrateError, match="cannot be saved: its provenance names no architecture"
    ):
        save_judge(Judge("mine", Brightness(), 0.5, 0.7), path)


# Finding ------------------------------------------------------------------------------------------


@pytest.fixture
def few_epochs(monkeypatch):
    """Judges that `find_judge` trains take one pass."""
    monkeypatch.setattr(judges, "_LEAST_STEPS", 1)
    monkeypatch.setattr(judges, "_SETTINGS", {"conv": (1, 1e-3), "dense": (1, 1e-3)})


def test_a_judge_is_trained_once_a_source_architecture_and_seed(few_epochs, monkeypatch, tmp_path):
    source = stripes("data/my stripes")
    first = find_judge("dense", source, tmp_path / "judges")
    find_judge("dense", source, tmp_path / "judges", seed=1)
    find_judge("conv", source, tmp_path / "judges")
    names = {path.name for path in (tmp_path / "judges").iterdir()}
    assert names == {
        f"data-my-stripes-01234567-{end}.safetensors" for end in ("dense-s0", "dense-s1", "conv-s0")
    }
    monkeypatch.setattr(judges, "train_judge", lambda *_, **__: pytest.fail("trained twice"))
    again = find_judge("dense", source, tmp_path / "judges")
    assert equal(first, again) and again.name == "dense-s0"


def test_two_processes_may_train_the_same_judge_at_once(few_epochs, monkeypatch, tmp_path):
    others: list[Judge] = []

    def train(*arguments: object, **options: object) -> Judge:
        monkeypatch.setattr(judges, "train_judge", train_judge)
        others.append(
            find_judge("dense", stripes(), tmp_path)
        )  # another process starts later and is done first
        return train_judge(*arguments, **options)

    monkeypatch.setattr(judges, "train_judge", train)
    mine = find_judge("dense", stripes(), tmp_path)
    assert equal(mine, others[0])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_judge_is_found_by_path_here_or_with_the_data(judge, tmp_path, monkeypatch):
    save_judge(judge, tmp_path / "kept" / "judge.safetensors")
    assert equal(
        judge, find_judge(str(tmp_path / "kept" / "judge.safetensors"), stripes(), tmp_path)
    )
    monkeypatch.delenv("QUADRATE_DATA", raising=False)
    with pytest.raises(
        QuadrateError,
        match=(
            "no judge 'kept/judge.safetensors': neither an architecture .conv, dense, lenet,"
            " paper, residual, strided. nor a file"
        ),
    ):
        find_judge("kept/judge.safetensors", stripes(), tmp_path)
    monkeypatch.setenv("QUADRATE_DATA", str(tmp_path))
    assert equal(judge, find_judge("kept/judge.safetensors", stripes(), tmp_path))


def test_a_published_classifier_is_scored_on_the_source(tmp_path):
    source = stripes(shape=MNIST)
    module = classifier(MNIST, 3)
    path = tmp_path / "q-mnist.ckpt"
    torch.save(module.state_dict(), path)
    judge = find_judge(str(path), source, tmp_path)
    assert judge.name == "q-mnist" and not judge.module.training
    assert (judge.accuracy, judge.cross_entropy_nats) == score(
        module, source.test.images, source.test.labels
    )
    save_judge(judge, tmp_path / "q.safetensors")
    assert equal(judge, load_judge(tmp_path / "q.safetensors", source))
    with pytest.raises(
        QuadrateError,
        match="q-mnist.ckpt does not classify images of 1x28x28 in 4 classes, as stripes has them",
    ):
        find_judge(str(path), dataclasses.replace(source, classes=4), tmp_path)


def test_a_classifier_of_the_users_own_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(
        CLASSIFIERS,
        "linear",
        lambda shape, classes: Classifier(nn.Flatten(), nn.Linear(math.prod(shape), classes)),
    )
    judge = find_judge("linear", stripes(), tmp_path)
    assert judge.accuracy > 0.9
    assert equal(judge, find_judge("linear", stripes(), tmp_path))


def test_a_full_disk_gives_one_clear_line(judge, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(QuadrateError, match="cannot write .*judge.safetensors"):
        save_judge(judge, Path(tmp_path / "file" / "judge.safetensors"))


# Attacks ------------------------------------------------------------------------------------------


def test_a_judge_of_version_0_1_is_still_read(judge, tmp_path):
    path = tmp_path / "old.safetensors"
    metadata = {
        **judge.provenance,
        "format": "quadrate-judge-1",
        "name": "j",
        "accuracy": "1",
        "cross_entropy_nats": "0",
    }
    safetensors.torch.save_file(state(judge), path, metadata)
    assert equal(judge, load_judge(path)) and load_judge(path).name == "j"


def test_a_loaded_judge_does_not_change_with_its_file(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(judge, path)
    loaded, size = load_judge(path), path.stat().st_size
    with path.open("r+b") as file:
        file.write(bytes(size))
    os.truncate(path, 100)
    assert equal(judge, loaded)


def test_a_flipped_bit_of_a_judge_is_found(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(judge, path)
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(QuadrateError, match="judge.safetensors") as caught:
            load_judge(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"head.weight": torch.zeros(())},
        {"head.weight": torch.zeros(3, 256, dtype=torch.float64)},
        {"head.weight": torch.zeros(3, 256, dtype=torch.complex64)},
        {"head.weight": torch.zeros(3, 256, dtype=torch.bfloat16)},
        {"head.weight": torch.full((3, 256), math.nan)},
        {"head.weight": torch.zeros(4, 256)},
        {"more": torch.zeros(1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("version", [1, 2])
def test_tensors_that_are_not_the_judges_are_refused(judge, tmp_path, change, version):
    path = tmp_path / "judge.safetensors"
    metadata = {
        **judge.provenance,
        "format": f"quadrate-judge-{version}",
        "name": "j",
        "accuracy": "1",
        "cross_entropy_nats": "0",
    }
    safetensors.torch.save_file(state(judge) | change, path, metadata)
    with pytest.raises(QuadrateError, match="judge.safetensors.*damaged") as caught:
        load_judge(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a\x1b[31m"},
        {"classes": "0"},
        {"classes": "100000000"},
        {"accuracy": "nan"},
        {"shape": "1x8x8\n"},
    ],
)
def test_metadata_that_make_no_sense_are_refused(judge, tmp_path, change):
    path = tmp_path / "judge.safetensors"
    metadata = {
        **judge.provenance,
        "format": "quadrate-judge-1",
        "name": "j",
        "accuracy": "1",
        "cross_entropy_nats": "0",
    } | change
    safetensors.torch.save_file(state(judge), path, metadata)
    try:
        assert load_judge(path, stripes()).name.isprintable() and change == {"shape": "1x8x8\n"}
    except QuadrateError as error:
        assert str(error).isprintable() and "damaged" in str(error)
