"""Quadrate: lossy compression by purpose. One bitstream; the reader picks the decoder that fits."""

from typing import TYPE_CHECKING, Any

from quadrate.errors import QuadrateError, QuadrateWarning

if TYPE_CHECKING:
    from quadrate.codecs.codec import Codec
    from quadrate.codecs.quad import QuadDataset

__version__ = "0.2.0"
__all__ = ["Codec", "QuadDataset", "QuadrateError", "QuadrateWarning", "__version__"]


def __getattr__(name: str) -> Any:
    # On first use, so that `import quadrate.theory` needs no torch.
    if name == "Codec":
        from quadrate.codecs.codec import Codec

        return Codec
    if name == "QuadDataset":
        from quadrate.codecs.quad import QuadDataset

        return QuadDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
