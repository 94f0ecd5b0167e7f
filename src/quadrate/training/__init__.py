"""Training: many operating points at once, end-to-end, on a frozen encoder, or as a refinement."""

from quadrate.training.cluster import Cluster
from quadrate.training.judges import (
    Judge,
    find_judge,
    judge_of,
    load_judge,
    save_judge,
    score,
    train_judge,
)
from quadrate.training.layers import FrozenLatents
from quadrate.training.stages import Assignment, Execution, train_stage
from quadrate.training.task import Task
from quadrate.training.trainer import Trainer

__all__ = [
    "Assignment",
    "Cluster",
    "Execution",
    "FrozenLatents",
    "Judge",
    "Task",
    "Trainer",
    "find_judge",
    "judge_of",
    "load_judge",
    "save_judge",
    "score",
    "train_judge",
    "train_stage",
]
