"""The verbs by name."""

from __future__ import annotations

from quadrate.cli.compress import compress
from quadrate.cli.decompress import decompress
from quadrate.cli.demo import demo
from quadrate.cli.evaluate import evaluate
from quadrate.cli.export import export
from quadrate.cli.inspect_ import inspect
from quadrate.cli.judge import judge
from quadrate.cli.plot import plot
from quadrate.cli.recipes import recipes
from quadrate.cli.report import report
from quadrate.cli.reproduce import reproduce
from quadrate.cli.theory import theory
from quadrate.cli.train import train
from quadrate.cli.verify import verify

_FILES = (export, compress, decompress, inspect, verify)
VERBS = {
    verb.__name__: verb
    for verb in (recipes, reproduce, train, evaluate, plot, report, judge, demo, theory, *_FILES)
}
