"""Logs of training where people look: CSV, TensorBoard, Weights & Biases."""

from quadrate.core.logs.log import LOGS, Log, Logs, find_logs

__all__ = ["LOGS", "Log", "Logs", "find_logs"]
