"""Quadrate: lossy compression by purpose. One bitstream; the reader picks the decoder that fits."""

from typing import TYPE_CHECKING, Any

from quadrate.errors import QuadrateError, QuadrateWarning

if TYPE_CHECKING:
    from quadrate.codecs import Codec, QuadDataset

__version__ = "0.2.0"
__all__ = ["Codec", "QuadDataset", "QuadrateError", "QuadrateWarning", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Codec", "QuadDataset"):  # on first use: `import quadrate.theory` needs no torch
        from quadrate import codecs

        return getattr(codecs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
