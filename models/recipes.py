"""How a network is trained: one checked object, from a TOML file or from code."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from plates.errors import MissingInputError, SettingsError
from plates.patches import PATCH_PX


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a network is trained.

    The first `small_share` of the epochs sees patches at `small_px`, a quarter of the work at half the
    side; the rest, from which the best epoch is chosen, sees them at full size. `weights` is None,
    "imagenet", "kinetics" or the path of a file.

    Fine-tuning goes in stages: the first `head_epochs` epochs train the head alone, the others everything
    from the module `train_from` on (such as "layer3.2"; "" is all), the body at `body_rate` times the
    head's learning rate. `norm` "keep" leaves BatchNorm's means and variances as they came; "update" lets
    them follow the new patches.

    `noise` and `offset` change patches as in `batches.Augmentation`, for refractive index; for another
    quantity they are taken relative to the spread of its values. `cutmix` is the share of batches whose
    patches get a rectangle of another one (Yun et al. 2019). `planes` and `um_per_plane` are of volumes.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    architecture: str = "resnet101"
    weights: str | None = None
    epochs: Annotated[int, Field(ge=1)] = 16
    batch: Annotated[int, Field(ge=2)] = 32
    seed: Annotated[int, Field(ge=0)] = 0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    small_px: Annotated[int, Field(ge=16)] = 80
    small_share: Annotated[float, Field(ge=0, le=1)] = 0.7
    patience: Annotated[int, Field(ge=1)] | None = None
    head_epochs: Annotated[int, Field(ge=0)] = 0
    train_from: str = ""
    body_rate: Annotated[float, Field(ge=0)] = 1.0
    norm: Literal["update", "keep"] = "update"
    noise: Annotated[float, Field(ge=0)] = 3e-4
    offset: Annotated[float, Field(ge=0)] = 4e-4
    focus: Annotated[float, Field(ge=0, le=1)] = 0.3
    cutmix: Annotated[float, Field(ge=0, le=1)] = 0.0
    patch_px: Annotated[int, Field(ge=16)] = PATCH_PX
    planes: Annotated[int, Field(ge=1)] = 24
    um_per_plane: Annotated[float, Field(gt=0)] = 0.95
    weights_dtype: Literal["float32", "float16"] = "float16"

    def pixels(self, epoch: int) -> int:
        """Side of the patches in an epoch; the last epoch is always at full size."""
        small = min(int(self.small_share * self.epochs), self.epochs - 1)
        return self.small_px if epoch < small else self.patch_px


def read_recipe(path: Path, **chosen: object) -> Recipe:
    """Read a recipe from the table [recipe] of a TOML file; `chosen` fields that are not None overrule it.

    Raises
    ------
    MissingInputError
        There is no such file.
    SettingsError
        Naming every key that is unknown or has a wrong value.
    """
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}. Correct the path of the recipe.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}. Expected a table [recipe] with keys and values.") from None
    if not isinstance(raw.get("recipe"), dict):
        found = ", ".join(raw) or "nothing"
        raise SettingsError(f"{path} has no table [recipe]; found {found}. Put its keys below a line [recipe].")
    return make_recipe({**raw["recipe"], **_given(chosen)}, where=str(path))


def make_recipe(values: dict[str, object], *, where: str) -> Recipe:
    """Check the values of a recipe; `where` says in the message where they stand."""
    try:
        return TypeAdapter(Recipe).validate_python(values)
    except ValidationError as error:
        faults = [f"{where}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        known = ", ".join(item.name for item in fields(Recipe))
        raise SettingsError("\n".join(faults) + f"\nA recipe has the keys {known}.") from None


def _given(chosen: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in chosen.items() if value is not None}
