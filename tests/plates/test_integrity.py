"""A file's checksum tells it from every other, also where each chunk of it ends with a checksum of its own."""

from pathlib import Path

import numpy as np
import pytest

from plates.integrity import checksum, crc32c, fingerprint_of, has_checksum, why_other, why_torn
from plates.shards import ShardWriter


def write_shard(file: Path, *, seed: int) -> Path:
    """A shard of noise: all of them have one size."""
    image = np.random.default_rng(seed).integers(0, 65536, (4, 40, 40)).astype(np.uint16)
    with file.open("wb") as handle:
        writer = ShardWriter(handle, shape=(4, 40, 40), chunk=(2, 40, 40))
        for number in range(2):
            writer.write_chunk((number, 0, 0), image[2 * number : 2 * number + 2])
        writer.finish()
    return file


def test_a_whole_image_in_the_place_of_another_of_its_size_is_found(tmp_path: Path) -> None:
    one, other = (write_shard(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    assert one.stat().st_size == other.stat().st_size
    assert one.read_bytes() != other.read_bytes()
    assert why_torn(other.read_bytes(), chunks=2) == ""
    assert why_other(one, fingerprint_of(one)) == ""
    assert why_other(other, fingerprint_of(one)) == "holds other bytes than were written"
    # CRC-32C of what ends with its own CRC-32C is the same for all
    assert why_other(other, [one.stat().st_size, crc32c(one.read_bytes())]) == ""


def test_records_of_older_versions_are_still_read() -> None:
    for data in (b"", b"a", bytes(range(256))):
        assert has_checksum(data, crc32c(data))
        assert has_checksum(data, checksum(data))
        assert not has_checksum(data + b"b", crc32c(data))
        assert not has_checksum(data + b"b", checksum(data))


@pytest.mark.parametrize("seed", range(3))
def test_every_flipped_bit_changes_the_checksum(tmp_path: Path, seed: int) -> None:
    data = write_shard(tmp_path / "shard", seed=seed).read_bytes()
    recorded = checksum(data)
    for place in np.random.default_rng(seed).integers(0, 8 * len(data), 300).tolist():
        altered = bytearray(data)
        altered[place // 8] ^= 1 << place % 8
        assert not has_checksum(bytes(altered), recorded)
