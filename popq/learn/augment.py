"""Crop, flip, resize and normalise batches of packed photos, each photo with its own crop.

Measured at 224 / 64 pixels, photos a second of one core: torchvision's resize of uint8 photo by
photo 1,350 / 4,900; the same bilinear antialiased resize as two batched matrix products 240 /
1,490. So the CPU goes photo by photo. A GPU would spend its time on starting thousands of small
kernels and multiplies matrices for nothing, so there a whole batch is two products. Both compute
the same function; the first rounds to whole grey levels in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

#: Side of a packed photo in pixels.
PACK_SIDE = 256
#: Validation looks at the central 7/8 of a photo: 256 resized to S * 256 / 224, then S cropped.
CENTRE_SIDE = 224
#: Least share of a photo's area in a training crop. torchvision's 0.08 suits a million photos;
#: with thousands a model sees too few whole pictures, and objects look on average 1.8 times as
#: large as in validation. With 0.35 the mean crop (about 210 pixels wide) matches validation's 224.
LEAST_AREA = 0.35
#: Width by height of a training crop, from 3:4 to 4:3, as torchvision has it.
MOST_STRETCH = 4 / 3


@dataclass(frozen=True)
class Crops:
    """One crop a photo, in pixels of the pack: arrays of equal length n."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    flip: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, some: slice) -> Crops:
        return Crops(
            self.top[some], self.left[some], self.height[some], self.width[some], self.flip[some]
        )


def draw_crops(rng: np.random.Generator, photos: int) -> Crops:
    """Draw a random crop and flip for each of `photos` photos.

    Area uniform from `LEAST_AREA` to 1, logarithm of the aspect uniform up to `MOST_STRETCH`,
    place uniform, a mirror image every other time. (torchvision draws anew when a side comes out
    longer than the photo; here the side is cut to fit.)
    """
    area = rng.uniform(LEAST_AREA, 1.0, photos) * PACK_SIDE**2
    aspect = np.exp(rng.uniform(-math.log(MOST_STRETCH), math.log(MOST_STRETCH), photos))
    width = np.clip(np.rint(np.sqrt(area * aspect)), 1, PACK_SIDE).astype(np.int64)
    height = np.clip(np.rint(np.sqrt(area / aspect)), 1, PACK_SIDE).astype(np.int64)
    top = rng.integers(0, PACK_SIDE - height + 1)
    left = rng.integers(0, PACK_SIDE - width + 1)
    return Crops(top, left, height, width, rng.random(photos) < 0.5)  # noqa: PLR2004 - a fair coin


def centre_crops(photos: int) -> Crops:
    """Return validation's crop, the central `CENTRE_SIDE` pixels unflipped, for each photo."""
    edge = np.full(photos, (PACK_SIDE - CENTRE_SIDE) // 2)
    side = np.full(photos, CENTRE_SIDE)
    return Crops(edge, edge, side, side, np.zeros(photos, dtype=bool))


def prepare(
    pixels: Tensor,
    crops: Crops,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Tensor:
    """Crop, flip, resize and normalise a batch where it lies.

    `pixels` is (B, 256, 256, 3) uint8; `mean` and `std` are per channel with white = 1. Returns
    (B, 3, size, size) float32, channels last in memory.
    """
    resize = _one_by_one if pixels.device.type == "cpu" else _batched
    image = resize(pixels, crops, size)
    white = torch.tensor((mean, std), device=pixels.device) * 255
    return (image - white[0]).div_(white[1]).permute(0, 3, 1, 2)


def _one_by_one(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    """Return the crops, resized, as (B, size, size, 3) float32, 0 to 255 in whole steps."""
    photos = []
    for i, photo in enumerate(pixels.permute(0, 3, 1, 2)):
        top, left = int(crops.top[i]), int(crops.left[i])
        height, width = int(crops.height[i]), int(crops.width[i])
        crop = functional.resized_crop(photo, top, left, height, width, [size, size])
        photos.append(crop.flip(2) if crops.flip[i] else crop)
    return torch.stack(photos).permute(0, 2, 3, 1).to(torch.float32).contiguous()


def _batched(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    """Return the crops, resized, as (B, size, size, 3) float32, 0 to 255.

    A bilinear resize is linear along each side, so cropping, mirroring and resizing a photo is
    `rows @ photo @ columns` with two matrices that hold its crop.
    """
    batch = len(pixels)
    rows = _weights(crops.top, crops.height, np.zeros(batch, dtype=bool), size)
    columns = _weights(crops.left, crops.width, crops.flip, size)
    photos = pixels.to(torch.float32).view(batch, PACK_SIDE, PACK_SIDE * 3)
    photos = torch.bmm(rows.to(pixels.device), photos).view(batch, size, PACK_SIDE, 3)
    photos = photos.transpose(1, 2).reshape(batch, PACK_SIDE, size * 3)
    photos = torch.bmm(columns.to(pixels.device), photos).view(batch, size, size, 3)
    return photos.transpose(1, 2).contiguous()


def _weights(
    start: NDArray[np.int64], length: NDArray[np.int64], flip: NDArray[np.bool_], size: int
) -> Tensor:
    """Return (B, size, 256): what each source pixel gives to each of `size` target pixels.

    A triangle about the target's centre, as wide as a target pixel but at least a source pixel
    (antialiasing), cut off at the crop's edges; each row sums to 1.
    """
    first = torch.from_numpy(start).to(torch.float32)[:, None, None]
    extent = torch.from_numpy(length).to(torch.float32)[:, None, None]
    target = torch.arange(size, dtype=torch.float32).expand(len(start), size)
    target = torch.where(torch.from_numpy(flip)[:, None], size - 1 - target, target)[:, :, None]
    source = torch.arange(PACK_SIDE, dtype=torch.float32) + 0.5
    step = extent / size
    centre = first + (target + 0.5) * step
    weight = (1 - (source - centre).abs() / step.clamp(min=1.0)).clamp(min=0.0)
    weight = weight * ((source > first) & (source < first + extent))
    return weight / weight.sum(dim=2, keepdim=True)
