"""Stores copied, moved, replaced and littered by other programs (rows 33, 35, 36), and runs told apart."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from plates.ingest import convert
from plates.layout import read_plate_map
from plates.store import open_plate
from screening.audit import AUDIT, broken_links, note, read_audit
from screening.crate import write_crate
from screening.diff import diff_runs
from screening.pipeline import run
from screening.repair import repair
from screening.run_record import for_crate, last_run, read_run
from screening.settings import read_settings
from screening.verify import verify

from .harm import assert_same_plate, flip_bit
from .small_plate import SmallCampaign, write_small_campaign

# row 33


def test_an_acquisition_replaced_under_its_name_size_and_time_is_found(
    campaign: SmallCampaign, finished: SmallCampaign
) -> None:
    tcf = finished.tcf("A02")
    whole = tcf.read_bytes()
    try:
        flip_bit(tcf, byte=len(whole) // 2)
        assert verify([campaign.out]).bad == []  # names, sizes and times tell nothing
        (bad,) = verify([campaign.out], inputs=True).bad
        assert (bad.kind, bad.well, bad.file) == ("changed", "A02", tcf)
    finally:
        state = tcf.stat()
        tcf.write_bytes(whole)
        os.utime(tcf, ns=(state.st_atime_ns, state.st_mtime_ns))


# row 35


def test_litter_in_a_store_is_no_data_and_only_our_own_is_removed(
    campaign: SmallCampaign, finished: SmallCampaign
) -> None:
    image = campaign.store() / "A" / "1" / "0" / "0" / "c" / "0" / "0" / "0" / "0"
    litter = [image / ".DS_Store", image / "._0", campaign.store() / "B" / "Thumbs.db"]
    ours = [image / "0.4242-1.partial", campaign.store() / "A" / "zarr.json.4242-1.partial"]
    for file in (*litter, *ours):
        file.write_bytes(b"not data")
    found = verify([campaign.store()])
    assert found.bad == []
    assert {one.file for one in found.findings if one.kind == "foreign"} == set(litter)
    assert {one.file for one in found.findings if one.kind == "leftover"} == set(ours)
    assert_same_plate(campaign.store(), finished.store())
    repair(campaign.store())
    assert all(file.exists() for file in litter)
    assert not any(file.exists() for file in ours)


# row 36


def test_a_store_without_its_records_is_verified_by_content(campaign: SmallCampaign) -> None:
    shutil.rmtree(campaign.store().with_name("P001.zarr.progress"))
    assert verify([campaign.store()]).bad == []
    shard = open_plate(campaign.store()).field_files("B01", field=0, timepoint=2)[0]
    flip_bit(shard, byte=100)
    (bad,) = verify([campaign.store()]).bad
    assert (bad.well, bad.timepoint) == ("B01", 2)
    for file in open_plate(campaign.store()).field_files("A01", field=0, timepoint=0):
        file.unlink()
    assert ("missing", "A01", 0) in [(one.kind, one.well, one.timepoint) for one in verify([campaign.store()]).bad]


def test_records_without_a_store_skip_nothing(campaign: SmallCampaign, finished: SmallCampaign) -> None:
    shutil.rmtree(campaign.store())
    shutil.rmtree(campaign.store().with_name("P001_mip.zarr"))
    run(read_settings(campaign.settings))
    assert convert.last_summary(campaign.store()).converted == 12
    assert_same_plate(campaign.store(), finished.store())


def test_a_moved_campaign_is_still_whole(campaign: SmallCampaign, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "campaign"
    moved.parent.mkdir()
    campaign.out.rename(moved)
    assert verify([moved]).bad == []
    plate = convert.ingest(
        campaign.acquisitions["P001"],
        out=moved / "P001.zarr",
        plate_map=read_plate_map(campaign.layouts["P001"]),
        name="P001",
    )
    assert convert.last_summary(plate.path).skipped == 12
    np.testing.assert_array_equal(plate.volume("A01", field=0, timepoint=0), campaign.truth["P001", "A01", 0, 0])


# records of runs


def test_a_run_says_from_what_with_what_and_what_came_of_it(finished: SmallCampaign) -> None:
    told = read_run(finished.out)
    assert told["exit_code"] == 0
    acquisitions = [one for one in told["inputs"] if one["kind"] == "acquisition"]
    assert {one["well"] for one in acquisitions} == {"A01", "A02", "B01", "B02"}
    assert all(len(one["sha256"]) == 64 and one["bytes"] and one["modified_ns"] for one in acquisitions)
    assert told["units"]["P001"]["classified"] == {"pending": 0, "done": 12, "failed": 0, "missing": 0}
    assert {"P001.html", "small.html"} <= {one["path"] for one in told["outputs"]}
    assert told["classifier"]["name"] == "untrained"
    assert told["device"]["deterministic"] in (True, False)
    crate = write_crate(finished.out, for_crate(told))
    assert "CreateAction" in crate.read_text()
    crate.unlink()


def test_a_page_altered_on_the_disk_is_found(campaign: SmallCampaign) -> None:
    flip_bit(campaign.out / "P001.html", byte=5000)
    (bad,) = verify([campaign.out]).bad
    assert (bad.file.name, bad.kind) == ("P001.html", "changed")
    page = campaign.out / "P001.html"
    page.write_text(page.read_text(errors="replace") + " ")  # as `tomoscreen report` would write it anew
    os.utime(page)
    assert verify([campaign.out]).bad == []


def test_another_seed_and_another_exclusion_are_what_two_runs_differ_in(
    campaign: SmallCampaign, finished: SmallCampaign
) -> None:
    before = last_run(campaign.out, ended=True)
    assert before is not None
    excluded = campaign.folder / "exclusions.csv"
    excluded.write_text("plate,well,field,timepoint,reason,name,date\nP001,B01,,,pipetting,EM,2026-03-15\n")
    text = campaign.settings.read_text()
    campaign.settings.write_text(
        text.replace("draws = 100", f'draws = 100\nseed = 4\nexclusions = "{excluded.as_posix()}"')
    )
    run(read_settings(campaign.settings))
    lines = diff_runs(before, campaign.out)
    assert "setting analysis.seed: 0 -> 4" in lines
    assert "exclusions: new: P001,B01,,,pipetting,EM,2026-03-15" in lines
    assert any(line.startswith("result changed: P001.results.zarr/fractions") for line in lines)
    assert not [line for line in lines if line.startswith(("input", "classifier", "package", "version version"))]
    actions = [line["action"] for line in read_audit(campaign.out)][-4:]
    assert actions == ["run started", "exclusions changed", "results replaced", "run ended"]
    assert verify([campaign.out]).bad == []
    assert diff_runs(campaign.out, campaign.out) == []


@pytest.mark.parametrize("harm", ["altered", "taken out", "swapped", "cut short", "last taken away"])
def test_a_trail_that_was_tampered_with_breaks_where_it_was(campaign: SmallCampaign, harm: str) -> None:
    note(campaign.out, "exclusions changed", added=["P001,B01"])
    note(campaign.out, "repair", removed=[])
    assert broken_links(campaign.out) == []
    file = campaign.out / AUDIT
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    if harm == "altered":
        entry = json.loads(lines[2])
        lines[2] = json.dumps({**entry, "user": "somebody else"}, sort_keys=True) + "\n"
    elif harm == "taken out":
        del lines[2]
    elif harm == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    elif harm == "cut short":
        lines[-1] = lines[-1][:40]
    else:  # the end of the run, and what came after it
        del lines[1:]
    file.write_text("".join(lines))
    assert broken_links(campaign.out)
    assert verify([campaign.out]).bad


def test_an_altered_line_with_a_hash_to_match_breaks_the_next(campaign: SmallCampaign) -> None:
    from screening.audit import _hash

    for action in ("a", "b", "c"):
        note(campaign.out, action)
    file = campaign.out / AUDIT
    lines = file.read_text().splitlines()
    entry = {**json.loads(lines[2]), "user": "somebody else"}
    entry["hash"] = _hash(entry)
    lines[2] = json.dumps(entry, sort_keys=True)
    file.write_text("\n".join(lines) + "\n")
    assert [what for _, what in broken_links(campaign.out)] == [
        "breaks before line 4: a line was altered, taken out or put in"
    ]


def test_what_cannot_be_made_again_is_not_removed(tmp_path: Path) -> None:
    small = write_small_campaign(tmp_path / "raw", classifier=tmp_path, wells=["A01"], frames=1)
    plate = convert.ingest(small.acquisitions["P001"], out=small.store())
    shard = plate.field_files("A01", field=0, timepoint=0)[0]
    flip_bit(shard, byte=200)
    shutil.rmtree(small.acquisitions["P001"])
    (told,) = repair(plate.path)
    assert "left: its acquisition" in told
    assert shard.exists()
