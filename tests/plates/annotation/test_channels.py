"""Which channel is which stain: by the names that laboratories use, by emission, or as told."""

import pytest

from plates.annotation.channels import find_channels, missing_text
from plates.errors import SettingsError


@pytest.mark.parametrize(
    "names",
    [
        ("Hoechst", "annexin V", "PI"),
        ("hoechst 33342", "Annexin-V FITC", "propidium iodide"),
        ("DAPI", "FITC", "RFP"),
        ("405 dapi", "488 AnnexinV", "561 pi"),
        ("HOECHST_33342", "annexin_v_488", "Propidium_Iodide"),
        ("Nuc: DAPI", "GFP (annexin)", "TRITC - PI"),
    ],
)
def test_usual_names_are_recognised_whatever_their_spelling(names: tuple[str, str, str]) -> None:
    assert find_channels(names) == dict(zip(("hoechst", "annexin_v", "pi"), names, strict=True))


def test_names_that_only_contain_the_letters_are_not_taken() -> None:
    assert find_channels(["capital", "epi", "spin", "CH0"]) == {}


def test_the_emission_decides_where_the_name_says_nothing() -> None:
    emission = {"CH0": 0.43, "CH1": 0.525, "CH2": 0.63}
    assert find_channels(["CH0", "CH1", "CH2"], emission_um=emission) == {
        "hoechst": "CH0",
        "annexin_v": "CH1",
        "pi": "CH2",
    }


def test_a_name_goes_before_the_emission() -> None:
    found = find_channels(["PI", "CH1"], emission_um={"PI": 0.43, "CH1": 0.43})
    assert found == {"pi": "PI", "hoechst": "CH1"}


def test_what_is_told_goes_before_what_is_recognised_and_is_found_in_any_case() -> None:
    found = find_channels(["DAPI", "FITC", "RFP"], told={"pi": "fitc", "annexin_v": "rfp"})
    assert found == {"hoechst": "DAPI", "annexin_v": "RFP", "pi": "FITC"}


def test_two_channels_of_one_stain_are_refused_naming_both() -> None:
    with pytest.raises(SettingsError, match=r"'PI', 'propidium' may all be PI.*--pi-channel 'PI'"):
        find_channels(["DAPI", "FITC", "PI", "propidium"])
    assert find_channels(["DAPI", "FITC", "PI", "propidium"], told={"pi": "PI"})["pi"] == "PI"


def test_one_channel_for_two_stains_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot be both annexin V and PI"):
        find_channels(["CH0", "CH1"], told={"annexin_v": "CH1", "pi": "CH1"})


def test_a_channel_that_is_not_there_is_refused_naming_those_that_are() -> None:
    with pytest.raises(SettingsError, match="--hoechst-channel names the channel 'CH7', but the plate has 'CH0'"):
        find_channels(["CH0"], told={"hoechst": "CH7"})


def test_missing_stains_are_told_with_their_options() -> None:
    text = missing_text({"hoechst": "DAPI"}, ["DAPI", "CH1"])
    assert "annexin V or PI" in text
    assert "--annexin-channel CHANNEL, --pi-channel CHANNEL" in text
    assert missing_text({"hoechst": "a", "annexin_v": "b", "pi": "c"}, []) == ""
