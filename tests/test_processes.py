"""Jobs over processes.

Results, failures, interruptions, and scripts of every kind that start them.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.training.main_module import is_safe_to_import
from quadrate.training.processes import available_cores, run_jobs


def silent(message: dict) -> None:
    """Takes no notice."""


def double(shared: int, job: int, report) -> int:
    """Says which process it runs in, and fails for 0."""
    report({"pid": os.getpid(), "threads": torch.get_num_threads()})
    if job == 0:
        raise QuadrateError("nothing to double")
    return shared * job


def nested(shared: int, job: int, report) -> tuple[int, list[int]]:
    """Wants jobs done of its own."""
    pids: list[dict] = []
    results = run_jobs(double, shared, [job, job], 2, pids.append)
    return os.getpid(), [*results, *(report["pid"] for report in pids)]


def chatter(shared: None, job: int, report) -> None:
    """Has more to say than a pipe holds."""
    for _ in range(3000):
        report({"words": "x" * 100})


def stumble(shared: None, job: int, report) -> None:
    """Has a fault."""
    raise KeyError("a fault")


def leave(shared: None, job: int, report) -> None:
    """Ends its process."""
    os._exit(3)


def doubt(shared: None, job: int, report) -> int:
    """Is not sure."""
    warnings.warn(f"job {job} is doubtful", QuadrateWarning, stacklevel=2)
    return job


def weigh(shared: bytes, job: int, report) -> int:
    """Says how much it was sent."""
    return len(shared) + job


def fall(message: dict) -> None:
    """A report that fails."""
    raise ZeroDivisionError


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_give_their_results_in_order_each_on_one_thread_and_failures_do_not_stop_the_others(
    workers, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # what a new process would take
    reports: list[dict] = []
    if workers == 1:
        assert (
            run_jobs(double, 2, [1, 2, 3], 1, reports.append) == [2, 4, 6]
            and run_jobs(double, 2, [], 1, reports.append) == []
        )
        reports.clear()
    with pytest.raises(
        QuadrateError, match=r"nothing to double \(2 of 4 failed; the others are done\)"
    ):
        run_jobs(double, 2, [0, 1, 0, 3], workers, reports.append)
    pids = {report["pid"] for report in reports}
    assert (
        len(reports) == 4
        and all(report["threads"] == 1 for report in reports)
        and (pids == {os.getpid()}) == (workers == 1)
    )
    with pytest.raises(QuadrateError, match="nothing to double$"):
        run_jobs(double, 2, [0], workers, reports.append)


@pytest.mark.slow
def test_a_report_that_fails_is_not_lost_and_does_not_hang_the_workers():
    with pytest.raises(ZeroDivisionError):
        run_jobs(chatter, None, [1, 2], 2, fall)
    assert not multiprocessing.active_children()


def test_more_than_a_pipe_holds_is_sent_and_a_worker_that_wants_jobs_done_does_them_itself():
    assert run_jobs(weigh, bytes(1 << 20), [1, 2], 2, silent) == [(1 << 20) + 1, (1 << 20) + 2]
    for pid, (first, second, *pids) in run_jobs(nested, 3, [1, 2], 2, silent):
        assert (first, second) in ((3, 3), (6, 6)) and pid != os.getpid() and set(pids) == {pid}


def test_a_fault_and_an_end_in_a_worker_are_told():
    with pytest.raises(KeyError, match="a fault") as caught:
        run_jobs(stumble, None, [1, 2], 2, silent)
    assert "in stumble" in "".join(caught.value.__notes__)
    with pytest.raises(
        QuadrateError, match="a worker process ended with exit code 3; the same command resumes"
    ):
        run_jobs(leave, None, [1, 2], 2, silent)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_doubts_of_jobs_are_those_of_whoever_wants_them_done(workers):
    with pytest.warns(QuadrateWarning) as caught:
        assert run_jobs(doubt, None, [1, 2], workers, silent) == [1, 2]
    assert sorted(str(warning.message) for warning in caught) == [
        "job 1 is doubtful",
        "job 2 is doubtful",
    ]


def test_the_number_of_threads_is_restored():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_jobs(double, 1, [1], 1, silent)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert 1 <= available_cores() <= os.cpu_count()


class Unreadable:
    """Can be sent to another process and not be read there."""

    def __init__(self):
        self.home = os.getpid()

    def __reduce__(self):
        return _only_in, (self.home,)

    def __rmul__(self, job: int) -> int:
        return job


def _only_in(home: int) -> Unreadable:
    if os.getpid() != home:
        raise ValueError("not here")
    return Unreadable()


def test_what_other_processes_cannot_read_is_done_here():
    reports: list[dict] = []
    with pytest.warns(
        QuadrateWarning,
        match=r"done in this process.*cannot read what they are sent \(ValueError: not here\)",
    ):
        assert run_jobs(weigh_by_hand, Unreadable(), [1, 2], 2, reports.append) == [1, 2]
    assert [report["pid"] for report in reports] == [os.getpid()] * 2


def weigh_by_hand(shared: Unreadable, job: int, report) -> int:
    """Says which process it runs in."""
    report({"pid": os.getpid()})
    return job


# --- scripts ---

HEAD = """
import os, signal, sys, time
from quadrate.training.processes import run_jobs
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
sys.stdout.write("begins\\n")  # in one piece: processes share the pipe
sys.stdout.flush()
"""
OWN = """
def work(shared, job, report):
    report(f"ready {os.getpid() == HOME}")
    time.sleep(job)
    return job
"""
THEIRS = "from own_work import work\n"
CALL = (
    "print(run_jobs(work, bytes(10**6), [{first}, {second}], 2, lambda message: print(message,"
    " flush=True)), 'end', flush=True)\n"
)


@pytest.fixture
def python(tmp_path):
    """Starts Python on a script of a user's, in a group of processes of its own."""
    started: list[subprocess.Popen] = []
    (tmp_path / "own_work.py").write_text("import os, time\nHOME = 0\n" + OWN)

    def run(body: str, way: str = "file") -> subprocess.Popen:
        script = tmp_path / "script.py"
        script.write_text(HEAD + body)
        arguments = {
            "file": [str(script)],
            "relative": ["script.py"],
            "module": ["-m", "script"],
            "stdin": ["-"],
            "text": ["-c", HEAD + body],
        }[way]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(tmp_path)])
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE}
        command = [sys.executable, *arguments]
        started.append(
            subprocess.Popen(
                command, env=environment, text=True, start_new_session=True, cwd=tmp_path, **pipes
            )
        )
        with started[-1].stdin as stdin:
            stdin.write(script.read_text() if way == "stdin" else "")
        started[-1].stdin = None
        return started[-1]

    yield run
    for process in started:
        with process, suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("way", ["file", "module", "stdin", "text"])
def test_a_script_without_a_guard_works_in_several_processes_where_these_need_nothing_of_it(
    python, way
):
    run = python(THEIRS + CALL.format(first=0, second=0), way)
    output, errors = run.communicate(timeout=300)
    assert (
        output.splitlines() == ["begins", "ready False", "ready False", "[0, 0] end"]
        and not errors
        and run.returncode == 0
    )


@pytest.mark.parametrize("way", ["file", "module", "stdin", "text"])
def test_a_script_without_a_guard_works_in_one_process_where_others_would_need_it(python, way):
    run = python("HOME = os.getpid()" + OWN + CALL.format(first=0, second=0), way)
    output, errors = run.communicate(timeout=300)
    assert (
        output.splitlines() == ["begins", "ready True", "ready True", "[0, 0] end"]
        and run.returncode == 0
    )
    assert (
        "QuadrateWarning: all work is done in this process" in errors and "Traceback" not in errors
    )


@pytest.mark.parametrize("way", ["relative", "module"])
def test_a_script_with_a_guard_works_in_several_processes(python, way):
    run = python(
        "HOME = 0" + OWN + "if __name__ == '__main__':\n    " + CALL.format(first=0, second=0), way
    )
    output, errors = run.communicate(timeout=300)
    assert (
        sorted(output.splitlines())
        == ["[0, 0] end", "begins", "begins", "begins", "ready False", "ready False"]
        and not errors
    )


def test_a_script_that_a_process_of_the_users_own_imports_is_told_what_it_lacks(python):
    body = "import multiprocessing\nHOME = os.getpid()" + OWN + CALL.format(first=0, second=0)
    body += (
        "if __name__ == '__main__':\n    child ="
        " multiprocessing.get_context('spawn').Process(target=print)\n    child.start();"
        " child.join()\n"
    )
    output, errors = python(body).communicate(timeout=300)
    assert (
        output.count("end") == 1
        and "QuadrateError: a new process that imports this script would run it again" in errors
    )


def test_a_process_that_fails_at_its_start_is_no_dead_end(python):
    """The script can be imported by nobody else: the work is done here."""
    body = (
        "if __name__ != '__main__': raise SystemExit(7)\nHOME = 0"
        + OWN
        + "if __name__ == '__main__':\n    "
        + CALL.format(first=0, second=0)
    )
    output, errors = python(body).communicate(timeout=300)
    assert output.splitlines()[-1] == "[0, 0] end" and "other processes do not start" in errors


@pytest.mark.slow
def test_workers_do_not_outlive_a_run_that_is_killed(python):
    """Without a parent they would wait for jobs for ever.

    Their output stays open as long as they live.
    """
    for number in (signal.SIGKILL, signal.SIGTERM):
        run = python(THEIRS + CALL.format(first=0, second=1000))
        assert [run.stdout.readline() for _ in range(3)] == [
            "begins\n",
            "ready False\n",
            "ready False\n",
        ]
        run.send_signal(number)
        assert not run.communicate(timeout=300)[1]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5, None])
def test_ctrl_c_ends_a_run_and_its_workers_without_their_complaints(python, seconds):
    """At any time: while processes start, and while one works and the other waits for work."""
    run = python(THEIRS + CALL.format(first=0, second=1000))
    for line in ["begins\n", "ready False\n", "ready False\n"][: 3 if seconds is None else 1]:
        assert run.stdout.readline() == line
    time.sleep(0.5 if seconds is None else seconds)
    os.killpg(run.pid, signal.SIGINT)
    errors = run.communicate(timeout=300)[1]
    assert (
        run.returncode != 0
        and errors.count("Traceback") == 1
        and errors.rstrip().endswith("KeyboardInterrupt")
    )


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("if __name__ == '__main__':\n    answer = ask()\n", True),
        ("if '__main__' == __name__ and True:\n    x = 1\n    answer = (\n  ask())\n", True),
        (
            "try:\n    if __name__ == '__main__':\n        answer = ask()\nfinally:\n    pass\n",
            True,
        ),
        ("answer = ask()\n", False),
        ("if __name__ == '__main__':\n    pass\nanswer = ask()\n", False),
        (
            (
                "if __name__ == '__main__':\n    pass\nelse:\n    pass\nfor _ in range(1):\n   "
                " answer = ask()\n"
            ),
            False,
        ),
        ("if __name__ != '__mp_main__':\n    answer = ask()\n", False),
    ],
)
def test_a_script_may_be_imported_where_its_running_line_stands_below_its_guard(
    tmp_path, monkeypatch, text, safe
):
    main = type(sys)("__main__")
    main.__file__, main.ask = str(tmp_path / "main.py"), is_safe_to_import
    Path(main.__file__).write_text(text)
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(text, main.__file__, "exec"), vars(main))
    assert main.answer == safe
