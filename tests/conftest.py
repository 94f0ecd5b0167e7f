"""What several test files share.

A source and a judge that are small enough to train on in a moment.
"""

import hypothesis
import pytest
import torch

from quadrate.sources import Source, Split, load_source
from quadrate.sources.source import fingerprint_of
from quadrate.training.judges import Judge, train_judge

hypothesis.settings.register_profile("quadrate", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile(
    "quadrate"
)  # the same examples every time, however busy the machine is


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Two threads on a busy machine wait for each other.

    And results are promised for one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def digits() -> Source:
    """Scikit-learn's digits, 8x8, cut down to 256 training, 64 validation and 64 test images."""
    whole = load_source("digits")
    sizes = {"train": 256, "validation": 64, "test": 64}
    splits = {
        name: Split(getattr(whole, name).images[:size], getattr(whole, name).labels[:size])
        for name, size in sizes.items()
    }
    return Source("tiny digits", **splits, classes=10, fingerprint=fingerprint_of(**splits))


@pytest.fixture(scope="session")
def judge(digits: Source) -> Judge:
    """A classifier with batch norm, so that a change of its statistics would show."""
    return train_judge(digits, "conv", epochs=10)
