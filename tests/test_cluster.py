"""Points on a Ray cluster: two machines, each with processes of its own, on this one."""

import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from quadrate.cli import main
from quadrate.codecs import TradeoffCodec
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig, WeightedTerm
from quadrate.core import registry
from quadrate.core.files import read_rows
from quadrate.core.plugins import load_plugin
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.experiments.runs import Run
from quadrate.networks.family import find_family
from quadrate.objectives import Batch, Term
from quadrate.training import Assignment, Cluster, loop, train_stage
from quadrate.training.cluster import _Setting
from quadrate.training.processes import run_jobs

POINTS = tuple(OperatingPoint((3, 3), 1.0, 0.0, c, s) for c, s in ((0.05, 0), (0.0, 0), (0.0, 1)))
MACHINE = {"num_cpus": 1, "object_store_memory": 80 << 20}
SOON_LOST = {"health_check_initial_delay_ms": 0, "health_check_failure_threshold": 5}
SOON_LOST |= {"health_check_period_ms": 1000, "health_check_timeout_ms": 10000}


@pytest.fixture(scope="module")
def machines():
    """Two with a core each; the first is the one that jobs are sent from."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Machines

    variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        for name, value in (variables | {"RAY_USAGE_STATS_ENABLED": "0"}).items():
            patch.setenv(name, value)
        machines = Machines(True, head_node_args=MACHINE | {"_system_config": SOON_LOST})
        machines.second = machines.add_node(**MACHINE)
        yield machines
        ray.shutdown()
        machines.shutdown()


def traced(batch: Batch) -> torch.Tensor:
    """A loss that changes nothing, notes each step, takes its time, and wants many checkpoints."""
    loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0
    time.sleep(float(os.environ.get("QUADRATE_TEST_SLEEP", 0)))
    if trace := os.environ.get("QUADRATE_TEST_TRACE"):
        with open(trace, "a") as file:
            file.write(f"{batch.step}\n")
    return 0 * batch.reconstruction.flatten(1).mean(1)


@pytest.fixture
def make(digits, judge, tmp_path, monkeypatch):
    """Makes assignments; their checkpoints are of every epoch."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def assignment(folder, points=POINTS, epochs=4):
        settings = TrainingConfig(epochs=epochs, batch=64, precision="float32")
        stage = Stage("stage", points, training=settings)
        networks = find_family("compact"), judge.module
        terms = (Term("traced", 1.0, traced),)
        return Assignment(stage, digits, *networks, tmp_path / folder, {}, terms)

    return assignment


def assert_same(folders, points):
    for point in points:
        first, second = (load_file(f / "stage" / point / "model.safetensors") for f in folders)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def double(shared: int, job: int, report) -> int:
    """Says where it runs, is not sure of 1, and fails for 0."""
    report({"pid": os.getpid(), "threads": torch.get_num_threads()})
    if job == 0:
        raise QuadrateError("nothing to double")
    if job == 1:
        warnings.warn("1 is doubtful", QuadrateWarning, stacklevel=2)
    return shared * job


def stumble(shared: None, job: int, report) -> None:
    """Has a fault."""
    raise KeyError("a fault")


@pytest.mark.slow
def test_jobs_answer_in_order_and_tell_what_they_tell_on_one_machine(machines, tmp_path):
    cluster = Cluster(machines.address).at(tmp_path, on_gpu=False)
    handler = signal.getsignal(signal.SIGTERM)
    reports: list[dict] = []
    with pytest.warns(QuadrateWarning, match="1 is doubtful"):
        assert run_jobs(double, 2, [3, 1, 2], cluster, reports.append) == [6, 2, 4]
    assert signal.getsignal(signal.SIGTERM) is handler
    assert [m for m in reports if "running" in m][-1] == {"running": 0}
    told = [m for m in reports if "pid" in m]
    assert len(told) == 3 and all(m["threads"] == 1 for m in told)
    assert os.getpid() not in {m["pid"] for m in told}
    with pytest.raises(QuadrateError, match=r"nothing to double \(1 of 2 failed; the others are"):
        run_jobs(double, 2, [0, 2], cluster, reports.append)
    with pytest.raises(KeyError, match="a fault") as caught:
        run_jobs(stumble, None, [1], cluster, reports.append)
    assert "in stumble" in "".join(caught.value.__notes__)
    assert not list(tmp_path.iterdir())  # the file by which machines see that they share a folder
    assert cluster.room == 2 and run_jobs(double, 2, [], cluster, reports.append) == []


@pytest.mark.slow
def test_a_sweep_gives_the_weights_of_one_machine_also_in_stacks(machines, make):
    spread, on_ray, stacked = (make(folder) for folder in ("spread", "ray", "stacked"))
    train_stage(spread, "spread", workers=1)
    train_stage(on_ray, workers=Cluster(machines.address))
    assert_same((spread.folder, on_ray.folder), [point.key for point in POINTS])
    train_stage(stacked, "stacked", Cluster(machines.address))
    with_others = []
    for point in POINTS:
        first, second = (read_rows(a.place(point) / "metrics.jsonl")[0] for a in (spread, stacked))
        assert first["mse"] == pytest.approx(second["mse"], rel=1e-2)
        codec = TradeoffCodec.load(stacked.place(point) / "model.safetensors")
        with_others.append(codec.details["stacked_with"])
    assert sorted(with_others) == [0, 1, 1]  # there is room for two stacks


def tiny() -> Recipe:
    points = tuple(OperatingPoint((3, 3), seed=seed) for seed in (0, 1))
    training = TrainingConfig(epochs=8, batch=512, precision="float32")
    judges = {"judge": "dense", "independent_judge": "dense", "strangers": ()}
    stages = (Stage("stage", points, training=training),)
    return Recipe(
        "tiny", "a test", "digits", stages, **judges, terms=(WeightedTerm("traced", 1.0),)
    )


@pytest.mark.slow
def test_a_driver_that_is_killed_or_interrupted_goes_on_with_any_execution(
    machines, tmp_path, monkeypatch
):
    """On the cluster it is killed, then interrupted; one process ends it; the cluster scores it."""
    mine = tmp_path / "mine.py"
    mine.write_text("""
import quadrate.experiments.recipes, quadrate.objectives, test_cluster
quadrate.objectives.register_term("traced", test_cluster.traced, version="1")
quadrate.experiments.recipes.register_recipe(test_cluster.tiny)
""")
    monkeypatch.chdir(tmp_path)
    trace, on_ray = tmp_path / "steps", ("--execution", "ray", "--address", machines.address)

    def steps():
        return trace.read_text().count("\n") if trace.exists() else 0

    def killed(number):
        script = "from quadrate.cli import main; main()"
        words = [sys.executable, "-c", script, "train", "tiny", *on_ray, "--module", str(mine)]
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        variables |= {"QUADRATE_TEST_TRACE": str(trace), "QUADRATE_TEST_SLEEP": "0.3"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        known = steps()
        with subprocess.Popen(
            words, **pipes, env=os.environ | variables, start_new_session=True
        ) as driver:
            while steps() < known + 5:
                assert driver.poll() is None, driver.communicate()
                time.sleep(0.05)
            driver.send_signal(number)
            return driver.communicate(timeout=300)[1], driver.returncode

    assert killed(signal.SIGKILL)[1] == -signal.SIGKILL
    told, status = killed(signal.SIGINT)
    assert status == 130 and "Traceback" not in told
    assert told.endswith("interrupted; the same command goes on from the last checkpoint\n")
    monkeypatch.setenv("QUADRATE_TEST_TRACE", str(trace))
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    before = registry.contents()
    load_plugin(mine)
    try:
        main(["train", "tiny", "--execution", "single"])
        run = Run(tiny()).prepare()
        a_pass = len(run.source.train) // 512
        lost = steps() - 2 * 8 * a_pass
        assert 0 <= lost <= 2 * 2 * a_pass  # a checkpoint's work of each point, twice
        whole = Run(tiny(), "whole").train("single")
        assert_same((whole.folder, run.folder), [job.point.key for job in run.kind.jobs(tiny())])
        main(["evaluate", str(run.folder), "--quick", "--workers", "1"])
        rows = run.results()
        for job in run.kind.jobs(tiny()):
            (run.folder / run.kind.row_file(job)).unlink()
        main(["evaluate", str(run.folder), "--quick", *on_ray])
        assert run.results() == rows
    finally:
        registry.restore(before)


@pytest.mark.slow
def test_a_lost_machine_costs_at_most_a_checkpoints_work(machines, make, monkeypatch, tmp_path):
    points, epochs, a_pass = POINTS[1:], 10, 4
    whole, broken = (make(folder, points, epochs) for folder in ("whole", "broken"))
    train_stage(whole, "single")
    monkeypatch.setenv("QUADRATE_TEST_SLEEP", "0.1")
    monkeypatch.setenv("QUADRATE_TEST_TRACE", str(tmp_path / "steps"))
    epoch_of: dict[str, list[int]] = {point.key: [] for point in points}

    def lose(message: dict) -> None:
        if "point" not in message:
            return
        epoch_of[message["point"]].append(message["epoch"])
        if machines.second and all(len(seen) >= 2 for seen in epoch_of.values()):
            machines.remove_node(machines.second, allow_graceful=False)
            machines.second = None

    train_stage(broken, workers=Cluster(machines.address), report=lose)
    assert machines.second is None
    assert_same((whole.folder, broken.folder), [point.key for point in points])
    steps = (tmp_path / "steps").read_text().count("\n")
    assert 0 <= steps - len(points) * epochs * a_pass <= a_pass
    # One went on undisturbed; the other stopped in the middle and came back where it was.
    assert (
        sorted(sum(b <= a for a, b in zip(e, e[1:], strict=False)) for e in epoch_of.values())[0]
        == 0
    )
    for seen in epoch_of.values():
        assert all(b >= a for a, b in zip(seen, seen[1:], strict=False)) and seen[-1] == epochs


# --- what is refused ---


def test_without_ray_or_a_cluster_it_is_one_line(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(QuadrateError, match=r"needs ray.*pip install 'quadrate\[ray\]'"):
            run_jobs(double, 2, [1], Cluster(), print)
    for gpus in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(QuadrateError, match="a share of a GPU"):
            Cluster(gpus=gpus)


def test_a_machine_with_other_versions_or_another_folder_is_refused(tmp_path):
    doubts: list[str] = []
    setting = _Setting.of_this_process(tmp_path / "witness")
    with pytest.raises(QuadrateError, match=f"does not see {tmp_path}; .* all machines share"):
        setting.take(doubts.append)
    with pytest.raises(QuadrateError, match="and not quadrate 0.0"):
        replace(setting, versions="quadrate 0.0").take(doubts.append)
    replace(setting, witness=None, processor="an abacus").take(doubts.append)
    assert len(doubts) == 1 and "last bits" in doubts[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--address", "local"], "--address goes with --execution ray"),
        (["--gpus", "0.5", "--execution", "spread"], "--gpus goes with --execution ray"),
        (["--execution", "ray", "--workers", "2"], "leave --workers out"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "evaluate", "reproduce"])
def test_options_that_do_not_go_together_are_refused_before_the_work(
    verb, words, said, capsys, tmp_path
):
    with pytest.raises(SystemExit) as ended:
        main([verb, "rdc-mnist", *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err
