"""Backbones: frozen pretrained networks by name, with their preprocessing and checked weights."""

from quadrate.networks.backbones.backbone import (
    BACKBONES,
    Backbone,
    BackboneSpec,
    Preprocessing,
    load_backbone,
)
from quadrate.networks.backbones.efficientnet_lite import EfficientNetLite0
from quadrate.networks.backbones.lpips import LPIPS, load_lpips
from quadrate.networks.backbones.resnet import ResNet50
from quadrate.networks.backbones.weights import Weights

__all__ = [
    "BACKBONES",
    "LPIPS",
    "Backbone",
    "BackboneSpec",
    "EfficientNetLite0",
    "Preprocessing",
    "ResNet50",
    "Weights",
    "load_backbone",
    "load_lpips",
]
