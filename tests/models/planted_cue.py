"""Patches whose state one mark decides, at a random place among distractors: where a heat map should point is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.classifier import Card, Classifier, build_classifier, normalise

NEAR = 2.0  # a heat map points at the mark within twice the mark's radius
CARD = Card(name="cue", architecture="resnet18", states=("dark", "bright"), patch_px=64, mean=0.02, sd=0.01)


def cue_patches(
    count: int, *, px: int, seed: int, radius: float = 6.0, distractors: int = 2
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Patches (patch, y, x), state and the mark's place (patch, 2): a dark or a bright disc among bars of both kinds.

    Mark and bars have one contrast and about one area, so that only the form tells which of them decides.
    """
    random = np.random.default_rng(seed)
    truth = np.arange(count) % 2
    index = 0.02 + random.normal(0, 0.001, (count, px, px))
    marks = np.zeros((count, 2))
    for patch in range(count):
        places = _apart(1 + distractors, px=px, margin=1.7 * radius, distance=3.4 * radius, random=random)
        marks[patch] = places[0]
        for number, place in enumerate(places):
            along, across = _turned(px, place, turn=random.uniform(0, np.pi))
            if number == 0:
                shape, sign = np.hypot(along, across) < radius, 2 * truth[patch] - 1
            else:
                shape, sign = (np.abs(along) < 1.6 * radius) & (np.abs(across) < radius / 2), (-1) ** number
            index[patch] += 0.015 * sign * shape
    return index.astype(np.float32), truth.astype(np.int64), marks


def train_on(
    index: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    *,
    epochs: int,
    weights: Path | None = None,
    card: Card = CARD,
    batch: int = 16,
) -> Classifier:
    """Train a small classifier in a few seconds, its random numbers its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = build_classifier(replace(card, patch_px=index.shape[-1]), weights=weights)
        network = classifier.network.train().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        steps = epochs * (len(index) // batch)
        schedule: Any = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
        images = normalise(torch.from_numpy(index), classifier.card)[:, None]
        for _ in range(epochs):
            for chosen in torch.randperm(len(images))[: len(images) // batch * batch].view(-1, batch):
                turned = torch.rot90(images[chosen], int(torch.randint(4, ())), (2, 3))
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = network(turned.contiguous(memory_format=torch.channels_last))
                loss = nn.functional.cross_entropy(logits.float(), torch.from_numpy(truth)[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    classifier.network.eval()
    return classifier


def found_cue(
    maps: npt.NDArray[np.float32], marks: npt.NDArray[np.float64], *, radius: float = 6.0
) -> tuple[float, float]:
    """Share of maps whose hottest place is at the mark (pointing game), and the share of their heat that is there.

    Beside the mark's neighbourhood of twice its radius; a map without heat points nowhere.
    """
    y, x = np.mgrid[: maps.shape[1], : maps.shape[2]]
    near = np.hypot(y - marks[:, :1, None], x - marks[:, 1:, None]) < NEAR * radius
    flat = maps.reshape(len(maps), -1)
    points = near.reshape(len(maps), -1)[np.arange(len(maps)), flat.argmax(axis=1)] & (flat.max(axis=1) > 0)
    heat = (maps * near).sum(axis=(1, 2)) / np.maximum(maps.sum(axis=(1, 2)), 1e-12)
    return float(points.mean()), float(heat.mean())


def chance(marks: npt.NDArray[np.float64], *, px: int, radius: float = 6.0) -> float:
    """Share of the patch that is as near to the mark: where a map that knows nothing would point."""
    y, x = np.mgrid[:px, :px]
    return float((np.hypot(y - marks[:, :1, None], x - marks[:, 1:, None]) < NEAR * radius).mean())


def _apart(
    count: int, *, px: int, margin: float, distance: float, random: np.random.Generator
) -> list[npt.NDArray[np.float64]]:
    places: list[npt.NDArray[np.float64]] = []
    while len(places) < count:
        place = random.uniform(margin, px - margin, 2)
        if all(np.hypot(*(place - other)) > distance for other in places):
            places.append(place)
    return places


def _turned(
    px: int, place: npt.NDArray[np.float64], *, turn: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    y, x = np.mgrid[:px, :px] - place[:, None, None]
    return y * np.sin(turn) + x * np.cos(turn), y * np.cos(turn) - x * np.sin(turn)
