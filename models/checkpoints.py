"""A training under way: its record, its best epoch, and a folder from which it goes on after an interruption."""

import csv
import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from plates.errors import SettingsError

from .recipes import Recipe
from .shelf import RECORD as RECORD


@dataclass(frozen=True)
class Epoch:
    """One line of the training record; `accuracy` is the mean recall of the states, on validation wells."""

    epoch: int
    epochs: int
    px: int
    train_loss: float
    validation_loss: float
    accuracy: float
    seconds: float
    images_per_second: float


class Run:
    """A training under way: its network, its record, its best epoch, and a folder to resume from."""

    def __init__(self, *, network: nn.Module, optimizer: torch.optim.Optimizer, work: Path, fingerprint: str) -> None:
        self.network, self.optimizer, self.work, self.fingerprint = network, optimizer, work, fingerprint
        self.record: list[Epoch] = []
        self.best_epoch = -1
        self.best: dict[str, torch.Tensor] = {}

    def add(self, epoch: Epoch, *, eligible: bool) -> None:
        """Note an epoch, keep it if it is the best that may be chosen, and write a checkpoint."""
        self.record.append(epoch)
        best = self.record[self.best_epoch] if self.best_epoch >= 0 else None
        better = best is None or (epoch.accuracy, -epoch.validation_loss) > (
            best.accuracy,
            -best.validation_loss,
        )
        if eligible and better:
            self.best_epoch = epoch.epoch
            self.best = _copy(self.network)
        self._write()

    def is_finished(self, recipe: Recipe) -> bool:
        """After the last epoch, or when none of the last `patience` epochs was better."""
        done = len(self.record)
        tired = recipe.patience is not None and 0 <= self.best_epoch < done - recipe.patience
        return done >= recipe.epochs or tired

    def resume(self) -> None:
        """Take up the newest complete checkpoint, if there is one."""
        done = sorted(self.work.glob("epoch-????")) if self.work.is_dir() else []
        if not done:
            return
        state = json.loads((done[-1] / "run.json").read_text(encoding="utf-8"))
        if state["fingerprint"] != self.fingerprint:
            raise SettingsError(
                f"{self.work} holds an unfinished training on other patches or with other settings. "
                "Remove that folder to start anew, or repeat the settings to finish it."
            )
        self.network.load_state_dict(load_file(done[-1] / "network.safetensors"))
        self.optimizer.load_state_dict(torch.load(done[-1] / "optimizer.pt", weights_only=True))
        self.record = [Epoch(**values) for values in state["record"]]
        self.best_epoch = state["best_epoch"]
        self.best = load_file(done[-1] / "best.safetensors") if self.best_epoch >= 0 else {}

    def _write(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        name = f"epoch-{len(self.record):04d}"
        folder = self.work / f"{name}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save_file(_copy(self.network), folder / "network.safetensors")
        if self.best:
            save_file(self.best, folder / "best.safetensors")
        torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")
        state = {
            "fingerprint": self.fingerprint,
            "best_epoch": self.best_epoch,
            "record": [asdict(epoch) for epoch in self.record],
        }
        (folder / "run.json").write_text(json.dumps(state), encoding="utf-8")
        folder.rename(self.work / name)  # whole or not at all
        for older in self.work.glob("epoch-????"):
            if older.name != name:
                shutil.rmtree(older)
        with (self.work / RECORD).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [item.name for item in fields(Epoch)])
            writer.writeheader()
            writer.writerows(asdict(epoch) for epoch in self.record)


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
