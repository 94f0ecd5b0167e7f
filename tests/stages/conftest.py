"""Assignments over the small digits, and the checkpoints that they write."""

import dataclasses

import pytest

from quadrate.config import OperatingPoint, Stage, TrainingConfig
from quadrate.training import Assignment, loop
from stage_parts import COMPACT, SETTINGS

# --- tools ---


@pytest.fixture
def make(digits, judge, tmp_path):
    """Makes assignments whose files lie in this test's folder."""

    def assignment(
        *points: OperatingPoint,
        folder: str = "run",
        settings: TrainingConfig = SETTINGS,
        name: str = "stage",
        **more,
    ) -> Assignment:
        kinds = {field.name for field in dataclasses.fields(Stage)}
        stage = Stage(
            name,
            points,
            training=settings,
            **{key: value for key, value in more.items() if key in kinds},
        )
        rest = {
            "source": digits,
            "family": COMPACT,
            "classifier": judge.module,
            "details": {"recipe": "test"},
        }
        return Assignment(
            stage,
            folder=tmp_path / folder,
            **{**rest, **{key: value for key, value in more.items() if key not in kinds}},
        )

    return assignment


@pytest.fixture
def checkpoints(monkeypatch):
    """After each epoch instead of every few seconds."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
