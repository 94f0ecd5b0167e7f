"""Sources of samples: data sets known by name, folders of images, PyTorch data sets, arrays.

All are in memory, as uint8.
"""

from quadrate.sources.catalog import SOURCES, load_source, register_source, source_name
from quadrate.sources.dataset import from_dataset
from quadrate.sources.image_folder import from_folder
from quadrate.sources.source import Source, Split, from_arrays, pixels

__all__ = [
    "SOURCES",
    "Source",
    "Split",
    "from_arrays",
    "from_dataset",
    "from_folder",
    "load_source",
    "pixels",
    "register_source",
    "source_name",
]
