"""The limits by which plates and fields are judged, as a laboratory may set them in screen.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from screening.analysis.field_quality import FieldRule
    from screening.analysis.verdict import Rule

_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]

EXAMPLE = """\
[analysis.quality]           # what a plate and its fields are judged by, beside the limits above
fail_z_prime = 0.0           # robust Z' of death below which a plate fails
contamination = 0.3          # gap of robust and classical Z' that tells of outlying control wells
edge = 4.0                   # |t| of edge against inner vehicle wells
flagged_review = 0.05        # share of wells with a flag above which a plate is for review,
flagged_fail = 0.25          # and above which it fails
focus = 5.0                  # robust z below minus which a well or field is out of focus
chance = 0.01                # of accusing a clean plate, for each of: place, replicates' place, order of imaging
effect = 0.01                # change of death along a pattern or over time below which it is no reason
strange_controls = 0.1       # share of control wells that may look unlike their kind
turned = "FAIL"              # verdict where the plate map fits only when turned or shifted: "FAIL" or "REVIEW"
proposed_fields = 0.1        # share of fields proposed to be left out above which a plate is for review
medium = 0.002               # difference of a field's medium from the plate's median index
garbage = 0.02               # share of a field's voxels missing beyond the plate's median
foreground = 0.01            # share of a field under cells below which it has none
unlike = 0.2                 # share of a field's patches beyond the classifier's own threshold
"""


class QualitySettings(BaseModel):
    """Limits of `screening.analysis.verdict.Rule` and `field_quality.FieldRule`, with their defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    fail_z_prime: Annotated[float, Field(le=1)] = 0.0
    contamination: _Positive = 0.3
    edge: _Positive = 4.0
    flagged_review: _Share = 0.05
    flagged_fail: _Share = 0.25
    focus: _Positive = 5.0
    chance: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    effect: _Share = 0.01
    strange_controls: _Share = 0.1
    turned: Literal["FAIL", "REVIEW"] = "FAIL"
    proposed_fields: _Share = 0.1
    medium: _Positive = 0.002
    garbage: _Share = 0.02
    foreground: _Share = 0.01
    unlike: _Share = 0.2

    @model_validator(mode="after")
    def _in_order(self) -> QualitySettings:
        if self.flagged_review > self.flagged_fail:
            raise ValueError(
                f"flagged_review is {self.flagged_review:g}, above flagged_fail ({self.flagged_fail:g}): no plate "
                "would be for review. Make it the smaller one"
            )
        return self

    def rules(
        self, *, z_prime_min: float, ssmd_min: float, controls_min: int, patches_min: int
    ) -> tuple[Rule, FieldRule]:
        """The plate's and the fields' rule, with the limits that stand in [analysis]."""
        from screening.analysis.field_quality import FieldRule
        from screening.analysis.verdict import Rule

        of_fields = {name: getattr(self, name) for name in ("focus", "medium", "garbage", "foreground", "unlike")}
        of_plate = {
            name: value for name, value in self.model_dump().items() if name not in of_fields or name == "focus"
        }
        rule = Rule(
            pass_z_prime=z_prime_min,
            pass_ssmd=ssmd_min,
            fewest_controls=controls_min,
            fewest_patches=patches_min,
            **of_plate,
        )
        return rule, FieldRule(**of_fields)
