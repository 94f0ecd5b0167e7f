"""Quadrate: lossy compression by purpose. One bitstream; the reader picks the decoder that fits."""

from quadrate.errors import QuadrateError

__version__ = "0.1.0"
__all__ = ["QuadrateError", "__version__"]
