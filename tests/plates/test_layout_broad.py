"""Plate maps of the Broad Institute: the real ones, counted by another reader, and the tables beside them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plates.errors import MissingInputError, PlateMapError
from plates.layout import PlateMap, platemap_of, read_plate_map

# JUMP-MOA and JUMP-Target (MIT), LINCS Cell Painting (CC0): as published.
PLATEMAPS = Path(__file__).parents[3] / "shared" / "data" / "platemaps"
LINCS = PLATEMAPS / "lincs-cell-painting"
JUMP = sorted(PLATEMAPS.glob("JUMP-*/*_platemap.tsv"))
LINCS_MAPS = sorted(LINCS.glob("*/platemap/*"))
needs_platemaps = pytest.mark.skipif(not LINCS_MAPS, reason="the plate maps of Broad are not beside this checkout")


def counted(path: Path) -> pd.DataFrame:
    """Return the file as pandas reads it, blanks as NaN and doses as numbers."""
    return pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t")


@needs_platemaps
def test_all_real_plate_maps_are_here() -> None:
    assert (len(JUMP), len(LINCS_MAPS)) == (3, 68)


@needs_platemaps
@pytest.mark.parametrize("path", [*JUMP, *LINCS_MAPS], ids=lambda path: path.stem)
def test_a_real_plate_map_is_read_as_another_reader_counts_it(path: Path) -> None:
    theirs, ours = counted(path), read_plate_map(path)
    used = theirs[theirs["broad_sample"].notna() | theirs["solvent"].notna()]
    treated = used[used["broad_sample"].notna()]
    assert (ours.rows, ours.columns) == (16, 24)
    assert len(ours.table) == len(used)
    assert set(ours.table["well"]) == set(used["well_position"])
    table = ours.table.set_index("well")
    assert (table["control"] == "negative").sum() == used["broad_sample"].isna().sum()
    assert (table["vehicle"] == used.set_index("well_position")["solvent"].reindex(table.index)).all()
    compounds = treated.set_index("well_position")["broad_sample"]
    assert (table.loc[compounds.index, "compound"] == compounds).all()
    assert table["compound"].nunique() == treated["broad_sample"].nunique() + 1
    assert set(table.loc[table["control"] == "negative", "compound"]) == {"DMSO"}
    if "mmoles_per_liter" in theirs:
        doses = treated.set_index("well_position")["mmoles_per_liter"] * 1000
        np.testing.assert_allclose(table.loc[doses.index, "dose"], doses, rtol=1e-7)
        assert table["dose"].nunique() == len({float(f"{dose:.8g}") for dose in doses})
        assert any("Are they those of the stock rather than of the well?" in note for note in ours.notes)
    if "cell_line" in theirs:
        assert set(table["cell_line"]) == set(theirs["cell_line"])


@needs_platemaps
@pytest.mark.parametrize("path", JUMP, ids=lambda path: path.stem)
def test_compounds_of_jump_are_named_by_the_table_beside_the_plate_map(path: Path) -> None:
    beside = path.with_name(path.name.replace("_platemap", "_metadata"))
    ours = read_plate_map(path, metadata=beside)
    described = counted(beside).drop_duplicates("broad_sample")
    theirs = counted(path).merge(described, on="broad_sample", how="left").set_index("well_position")
    table = ours.table.set_index("well").loc[theirs.index]
    assert (table["compound"] == theirs["pert_iname"].fillna("DMSO")).all()
    assert ((table["control"] == "negative") == (theirs["control_type"] == "negcon")).all()
    positives = int(theirs["control_type"].str.startswith("poscon", na=False).sum())
    assert any(note.startswith(f"{positives} wells are positive controls in") for note in ours.notes) == bool(positives)
    assert ours.sha256 != read_plate_map(path).sha256


@needs_platemaps
def test_lincs_compounds_are_named_by_the_beginning_of_their_sample() -> None:
    batch = LINCS / "2017_12_05_Batch2"
    annotations = batch / "cell_painting_dataset_cmap_annotations_moa.csv"
    ours = read_plate_map(batch / "platemap" / "LKCP001_A549_24H.txt", metadata=annotations)
    names = counted(annotations).dropna().drop_duplicates("pert_id").set_index("pert_id")["pert_iname"]
    theirs = counted(batch / "platemap" / "LKCP001_A549_24H.txt").set_index("well_position")["broad_sample"].dropna()
    expected = [names.get(sample[:13], sample) for sample in theirs]
    assert list(ours.table.set_index("well").loc[theirs.index, "compound"]) == expected
    assert sum(name != sample for name, sample in zip(expected, theirs, strict=True)) > 100


@needs_platemaps
def test_every_barcode_of_lincs_leads_to_its_plate_map() -> None:
    for batch in sorted(LINCS.iterdir()):
        barcodes = counted(batch / "barcode_platemap.csv")
        for barcode, name in zip(barcodes["Assay_Plate_Barcode"], barcodes["Plate_Map_Name"], strict=True):
            assert platemap_of(batch / "barcode_platemap.csv", barcode).stem == name


def written(folder: Path, platemap: str, metadata: str) -> PlateMap:
    (folder / "platemap.tsv").write_text(platemap.replace(",", "\t"))
    (folder / "compounds.csv").write_text(metadata)
    return read_plate_map(folder / "platemap.tsv", metadata=folder / "compounds.csv")


PLATEMAP = "well_position,broad_sample,solvent\nA01,BRD-1,DMSO\nA02,,DMSO\nA03,NA,DMSO\nA04,NA,NA\nA05,BRD-2,DMSO\n"


def test_blank_samples_are_vehicle_wells_and_wells_without_solvent_are_empty(tmp_path: Path) -> None:
    (tmp_path / "platemap.csv").write_text(PLATEMAP)
    read = read_plate_map(tmp_path / "platemap.csv")
    assert list(read.table["well"]) == ["A01", "A02", "A03", "A05"]
    assert list(read.table["control"]) == ["none", "negative", "negative", "none"]
    assert "Left out as empty: A04." in read.notes


def test_controls_inducers_and_weights_come_from_the_table_of_compounds(tmp_path: Path) -> None:
    metadata = (
        "broad_sample,pert_iname,control_type,inducer,MW\n"
        "BRD-1,staurosporine,poscon,apoptosis,466.53\nBRD-2,trametinib,NA,,615.4\n,DMSO,negcon,,\n"
    )
    platemap = PLATEMAP.replace("solvent", "solvent,mg_per_ml").replace("DMSO\n", "DMSO,0.6154\n")
    read = written(tmp_path, platemap.replace(",,DMSO,0.6154", ",,DMSO,").replace("NA,DMSO,0.6154", "NA,DMSO,")
                   .replace("NA,NA\n", "NA,NA,\n"), metadata)  # fmt: skip
    assert list(read.table["compound"]) == ["staurosporine", "DMSO", "DMSO", "trametinib"]
    assert list(read.table["control"]) == ["positive", "negative", "negative", "none"]
    assert list(read.table["inducer"]) == ["apoptosis", "", "", ""]
    assert list(read.table["dose"])[3] == 1000.0
    assert "Doses converted from mg/ml with the molecular weights of column 'MW': 2." in read.notes


def test_samples_that_the_table_does_not_know_keep_their_name(tmp_path: Path) -> None:
    read = written(tmp_path, PLATEMAP, "broad_sample,pert_iname\nBRD-1,x\n")
    assert list(read.table["compound"]) == ["x", "DMSO", "DMSO", "BRD-2"]
    assert "Not in compounds.csv, hence called as in the plate map: BRD-2." in read.notes


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ("gene,pert_iname\nx,y\n", "compounds.csv, line 1: has no column 'broad_sample', by which the plate map"),
        ("broad_sample,pert_iname\nBRD-1,x\nBRD-1,y\n", "line 3: 'BRD-1' is described otherwise in line 2"),
        ("", "compounds.csv: is empty"),
        ("broad_sample,pert_iname\nBRD-1\n", "line 2: has 1 cells, but there are 2 columns"),
        ("broad_sample,pert_iname,control\nBRD-1,x,perhaps\n", "control 'perhaps' is not known"),
    ],
)
def test_a_table_of_compounds_that_cannot_be_joined_is_refused(tmp_path: Path, metadata: str, why: str) -> None:
    with pytest.raises(PlateMapError) as caught:
        written(tmp_path, PLATEMAP, metadata)
    assert why in str(caught.value)


def test_a_blank_well_is_named_by_its_own_solvent(tmp_path: Path) -> None:
    metadata = "broad_sample,pert_iname,control_type\nBRD-1,x,NA\nBRD-2,y,NA\n,DMSO,negcon\n"
    read = written(tmp_path, PLATEMAP.replace("A02,,DMSO", "A02,,water"), metadata)
    assert list(read.table["compound"]) == ["x", "water", "DMSO", "y"]
    assert list(read.table["vehicle"]) == ["DMSO", "water", "DMSO", "DMSO"]


def test_a_plate_map_without_compounds_cannot_be_joined(tmp_path: Path) -> None:
    with pytest.raises(PlateMapError, match=r"compounds\.csv: cannot be joined: no column of the plate map"):
        written(tmp_path, "well,control\nA1,negative\n", ",name\nx,y\n")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 60), length=st.integers(0, 12), insert=st.text(max_size=4))
def test_mutated_tables_are_joined_or_refused(tmp_path: Path, place: int, length: int, insert: str) -> None:
    def mutated(text: str) -> str:
        return (text[:place] + insert + text[place + length :]).encode("utf-8", "replace").decode()

    metadata = "broad_sample,pert_iname,control_type,MW\nBRD-1,x,poscon,3\nBRD-2,y,NA,1\n"
    with contextlib.suppress(PlateMapError):
        written(tmp_path, PLATEMAP, mutated(metadata))
    (tmp_path / "map.csv").write_text(mutated("Assay_Plate_Barcode,Plate_Map_Name\nBR0001,M1\nBR0002,M1\n"))
    with contextlib.suppress(PlateMapError, MissingInputError):
        platemap_of(tmp_path / "map.csv", "BR0001")


def barcode_map(folder: Path, text: str = "Assay_Plate_Barcode,Plate_Map_Name\nBR0001,M1\nBR0002,M1\n") -> Path:
    path = folder / "barcode_platemap.csv"
    path.write_text(text)
    (folder / "M1.txt").write_text("well\tcompound\nA1\tx\n")
    return path


def test_a_plate_map_is_found_by_the_barcode_beside_the_table_or_in_its_folder(tmp_path: Path) -> None:
    path = barcode_map(tmp_path)
    assert platemap_of(path, "br0002") == tmp_path / "M1.txt"
    (tmp_path / "platemap").mkdir()
    (tmp_path / "platemap" / "M1.csv").write_text("well,compound\nA1,x\n")
    assert platemap_of(path, "BR0001") == tmp_path / "platemap" / "M1.csv"
    assert platemap_of(path, "BR0001", folder=tmp_path) == tmp_path / "M1.txt"


def test_a_barcode_that_leads_nowhere_or_two_ways_is_refused(tmp_path: Path) -> None:
    path = barcode_map(tmp_path)
    with pytest.raises(PlateMapError, match=r"names no plate 'BR0003' among 2\. Did you mean BR000"):
        platemap_of(path, "BR0003")
    (tmp_path / "M1.csv").write_text("x")
    with pytest.raises(PlateMapError, match=r"several plate maps 'M1': M1\.txt, M1\.csv\. Keep one"):
        platemap_of(path, "BR0001")
    twice = barcode_map(tmp_path, "Assay_Plate_Barcode,Plate_Map_Name\nB1,M1\nB1,M2\n")
    with pytest.raises(PlateMapError, match=r"two plate maps: 'M1' \(line 2\) and 'M2' \(line 3\)"):
        platemap_of(twice, "B1")
    outside = barcode_map(tmp_path, "Assay_Plate_Barcode,Plate_Map_Name\nB1,../M1\nB2,M9\n")
    with pytest.raises(PlateMapError, match="Expected the name of a file"):
        platemap_of(outside, "B1")
    with pytest.raises(MissingInputError, match="holds no plate map 'M9'"):
        platemap_of(outside, "B2")
    with pytest.raises(PlateMapError, match="has no column 'plate map name'"):
        platemap_of(barcode_map(tmp_path, "barcode,x\nB1,y\n"), "B1")
    with pytest.raises(MissingInputError, match=r"Barcode map .* does not exist"):
        platemap_of(tmp_path / "none.csv", "B1")
