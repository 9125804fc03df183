"""Leases as commands hold them: whose place was taken stands in the audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plates.lease import leased
from screening.audit import AUDIT, note


@contextmanager
def writing(*outs: Path, command: str, steal: bool = False, operator: str = "") -> Iterator[None]:
    """Hold the leases of outputs while a command writes them, as `plates.lease.leased` does.

    A lease that its holder had not released leaves a line in the trail of the campaign's folder: "lease stolen" with
    `steal`, else "lease taken over". Outputs that are no stores have a trail only where one is there already.

    Parameters
    ----------
    command
        As it was typed; others are told who write the same.
    operator
        Who does it, where that is somebody else than the user of the computer.

    Raises
    ------
    LockedError, StorageError
        As `leased`.
    """
    with leased(*outs, command=command, steal=steal) as leases:
        taken: dict[tuple[Path, str], list[str]] = {}
        for lease in leases:
            folder = lease.out.parent
            if lease.taken_from and (lease.out.suffix == ".zarr" or (folder / AUDIT).exists()):
                taken.setdefault((folder, lease.taken_from), []).append(lease.out.name)
        for (folder, holder), names in taken.items():
            action = "lease stolen" if steal else "lease taken over"
            note(folder, action, operator=operator, outputs=names, taken_from=holder, command=command)
        yield
