"""Scikit-learn's digits, which need no files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quadrate.sources.source import Source, fixed_permutation, from_arrays

CUTS = (1197, 1397)  # of 1797 digits: 1197 to train, 200 to validate, 400 to test


def digits(data_dir: Path | str | None = None) -> Source:
    """Scikit-learn's 1797 digits, 8x8, split by a fixed permutation.

    Their 17 levels 0..16 are spread over 0..255.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target
    parts = np.split(fixed_permutation(len(images)), CUTS)
    train, validation, test = ((images[part], labels[part]) for part in parts)
    return from_arrays("digits", train, test, validation, classes=10)
