"""Logs have the numbers of the run's folder, each once, interrupted or not."""

import csv
import json
import struct
import sys
from collections import Counter
from pathlib import Path

import pytest

from quadrate.cli import main
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.core.files import read_rows
from quadrate.core.logs import LOGS, Log, Logs, find_logs
from quadrate.errors import QuadrateError
from quadrate.experiments.reports import save_grid
from quadrate.experiments.runs import Run

EPOCHS = 4
POINTS = tuple(OperatingPoint((3, 3), lambda_d=1.0, seed=seed) for seed in range(2))


class _Stopped(Exception):
    pass


@pytest.fixture
def recipe() -> Recipe:
    training = TrainingConfig(epochs=EPOCHS, batch=64)
    return Recipe("logged", "two points", "digits", (Stage("first", POINTS, training=training),))


@pytest.fixture
def run(recipe, tmp_path, digits, monkeypatch) -> Run:
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 2)
    return Run(recipe, tmp_path, source=digits)


def kept(folder: Path) -> dict[tuple[str, int, str], float]:
    """The numbers of the run's own files by curve, step and name."""
    return {
        (f"first/{point.key}", row["epoch"], name): value
        for point in POINTS
        for row in read_rows(folder / "first" / point.key / "metrics.jsonl")
        for name, value in row.items()
        if name != "epoch" and value is not None
    }


def in_csv(folder: Path) -> list[tuple[tuple[str, int, str], float]]:
    with open(folder / "logs" / "csv" / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [((row["curve"], int(row["step"]), row["name"]), float(row["value"])) for row in rows]


def stopped_at(epoch: int):
    def report(message) -> None:
        if message.get("epoch") == epoch:
            raise _Stopped

    return report


def timeless(numbers):
    """Without times, which are others when epochs are done again."""
    return {key: value for key, value in numbers if key[2] != "cpu_seconds"}


def test_csv_has_the_numbers_of_the_folder_once(run):
    run.train(workers=1, report=None, log=["csv"])
    assert Counter(in_csv(run.folder)) == Counter(kept(run.folder).items())
    assert len(in_csv(run.folder)) > 2 * EPOCHS


def test_what_goes_on_draws_no_curve_twice(run):
    with pytest.raises(_Stopped):  # before the log was asked for
        run.train(workers=1, report=stopped_at(2))
    with pytest.raises(_Stopped):
        run.train(workers=1, report=stopped_at(3), log=["csv"])
    run.train(workers=1, report=None, log=["csv"])
    run.log("csv")
    written = in_csv(run.folder)
    assert len({key for key, _ in written}) == len(written)
    assert timeless(written) == timeless(kept(run.folder).items())


def test_tensorboard_has_the_same_and_pictures(run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(_Stopped):
        run.train(workers=1, report=stopped_at(3), log=["tensorboard"])
    run.train(workers=1, report=None, log=["tensorboard"])
    place = run.place("first", POINTS[0])
    images = run.source.test.images[:3].float() / 255
    save_grid(place / "samples.png", [images, images])
    (place / "evaluation.json").write_text(json.dumps(_scores()))
    for _ in range(2):  # what is there stays as it is
        run.log("tensorboard")
    events = EventAccumulator(str(run.folder / "logs" / "tensorboard" / "first" / POINTS[0].key))
    events.Reload()
    assert len(events.Images("samples")) == 1
    (score,) = events.Scalars("scores/distortion_mse")
    assert score.value == pytest.approx(0.25)
    own = {key: value for key, value in kept(run.folder).items() if POINTS[0].key in key[0]}
    for name in {key[2] for key in own} - {"cpu_seconds"}:
        found = {event.step: event.value for event in events.Scalars(name)}
        assert len(events.Scalars(name)) == len(found)
        wanted = {step: value for (_, step, other), value in own.items() if other == name}
        assert found == pytest.approx(wanted)


def records(data: bytes):
    """What a .wandb file holds: LevelDB's log, blocks of 32 KiB, behind 7 bytes of its own."""
    record, at = b"", 7
    while at + 7 <= len(data):
        if (1 << 15) - at % (1 << 15) < 7:  # no header fits into the rest of the block
            at += (1 << 15) - at % (1 << 15)
            continue
        _, length, part = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_has_the_same_offline(run, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_X_DISABLE_STATS", "true")
    run.train(workers=1, report=None, log=["wandb"])
    run.log("wandb")
    written = Counter()
    files = sorted((run.folder / "logs" / "wandb").rglob("*.wandb"))
    assert len(files) == len(POINTS)
    for path in files:
        curve = ""
        for data in records(path.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "run":
                curve = record.run.display_name
                assert record.run.run_group == run.folder.name
            if record.WhichOneof("record_type") == "history":
                items = {item.key or item.nested_key[0]: item for item in record.history.item}
                step = record.history.step.num
                for name, item in items.items():
                    if not name.startswith("_"):
                        written[(curve, step, name), float(item.value_json)] += 1
    assert written == Counter(kept(run.folder).items())


def _scores() -> dict:
    return {
        **{"stage": "first", "levels": "3x3", "lambda_d": 1.0, "lambda_p": 0.0, "lambda_c": 0.0},
        **{"noise_std": 0.0, "seed": 0, "rate_bound_bits": 3.2, "distortion_mse": 0.25},
    }


class _Kept(Log):
    """Keeps what it is told."""

    told: list[tuple] = []

    def curve(self, name, step, numbers) -> None:
        self.told.append((name, step, dict(numbers)))

    def scores(self, name, numbers) -> None:
        self.told.append((name, dict(numbers)))

    def picture(self, name, title, path) -> None:
        self.told.append((name, title))


def test_a_log_of_ones_own_is_told_each_thing_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(LOGS, "kept", lambda: _Kept)
    monkeypatch.setattr(_Kept, "told", [])
    picture = tmp_path / "curve.png"
    picture.write_bytes(b"one")
    message = {"stage": "a", "point": "b", "epochs": 9, "mse": 0.5, "note": "text", "on": True}
    for _ in range(2):
        with Logs(find_logs(["kept"]), tmp_path) as logs:
            logs.report(message | {"epoch": 1})
            logs.report(message | {"epoch": 2, "mse": 0.25})
            logs.report({"stage": "a", "point": "b", "mse": 0.125})
            logs.report({"epoch": 3, "mse": 0.125})  # of nothing that has a name
            logs.picture("a/b", picture)
    assert _Kept.told == [
        *(("a/b", 1, {"mse": 0.5}), ("a/b", 2, {"mse": 0.25})),
        *(("a/b", {"mse": 0.125}), ("a/b", "curve")),
    ]
    with pytest.raises(SystemExit):
        main(["train", "demo", "--log", "paper", "--runs", str(tmp_path / "runs")])
    assert "unknown log 'paper'; known: csv, tensorboard, wandb" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_without_the_extra_its_name_is_said(name, monkeypatch, run, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(QuadrateError, match=rf"quadrate\[{name}\]"):
        run.train(log=[name])
    assert not list(tmp_path.iterdir())
