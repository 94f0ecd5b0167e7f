"""The fuzzer of tests/fuzz_quad.py, for a few seconds, where atheris is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.slow
def test_the_fuzzer_finds_nothing_in_a_few_seconds(tmp_path):
    pytest.importorskip("atheris")
    for path in (TESTS / "golden" / "zoo-0.1").glob("*.quad"):
        (tmp_path / path.name).write_bytes(b"\0" + path.read_bytes())
    command = [
        sys.executable,
        str(TESTS / "fuzz_quad.py"),
        "-max_total_time=8",
        f"-artifact_prefix={tmp_path}/",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0 and "Done" in done.stderr, done.stderr[-2000:]
    shutil.rmtree(tmp_path)
