"""Networks: encoders, decoders, critics and classifiers."""

from quadrate.networks.classifiers import ConvClassifier, DenseClassifier
from quadrate.networks.decoders import DECODERS, DecoderKind, register_decoder
from quadrate.networks.family import (
    CLASSIFIERS,
    FAMILIES,
    Family,
    find_family,
    register_classifier,
    register_family,
)
from quadrate.networks.published_weights import load_published_classifier, load_published_codec

__all__ = [
    "CLASSIFIERS",
    "DECODERS",
    "FAMILIES",
    "ConvClassifier",
    "DecoderKind",
    "DenseClassifier",
    "Family",
    "find_family",
    "load_published_classifier",
    "load_published_codec",
    "register_classifier",
    "register_decoder",
    "register_family",
]
