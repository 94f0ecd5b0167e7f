"""Where samples come from: data sets known by name, folders of images, PyTorch data sets, arrays.

All in memory, as uint8.
"""

from quadrate.sources.catalog import ALIASES, SOURCE_NAMES
from quadrate.sources.dataset import from_dataset
from quadrate.sources.image_folder import from_folder
from quadrate.sources.load import load_source, register_source
from quadrate.sources.source import Source, Split, from_arrays, pixels

__all__ = [
    "ALIASES",
    "SOURCE_NAMES",
    "Source",
    "Split",
    "from_arrays",
    "from_dataset",
    "from_folder",
    "load_source",
    "pixels",
    "register_source",
]
