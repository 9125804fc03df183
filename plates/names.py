"""Names that people gave, as names of files: the same on every disk, and never a way out of a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 60
"""Characters of a file's name that are taken from a name; endings and a folder's path need room as well."""

# names of devices on Windows, with any ending
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)(\..*)?", re.IGNORECASE)


def file_name(name: str, *, otherwise: str = "unnamed") -> str:
    """A part of a file's name that every system takes and that shows what it stands for.

    Letters of other scripts, signs, blanks and what turns the direction of writing become "_"; `otherwise` is
    given where nothing is left. Different names may come out alike: see `file_names`.
    """
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:LONGEST].strip("._-") or otherwise
    return f"_{plain}" if _RESERVED.fullmatch(plain) else plain


def file_names(names: Sequence[str], *, otherwise: str = "unnamed") -> list[str]:
    """A part of a file's name for each name; those that a disk would take for one file are numbered.

    Some disks do not tell ``a01`` from ``A01``.
    """
    taken: set[str] = set()
    given = []
    for name in names:
        plain = file_name(name, otherwise=otherwise)
        free, number = plain, 1
        while free.casefold() in taken:
            number += 1
            free = f"{plain}_{number}"
        taken.add(free.casefold())
        given.append(free)
    return given


def why_not_a_name(name: str) -> str:
    """Why a name cannot be that of a file or folder as it is, in a few words; empty where it can."""
    if not name or name != name.strip(" ") or name.endswith("."):
        return "is empty, or begins or ends with a blank or a full stop"
    if len(name.encode(errors="replace")) > 255 or len(name) > 200:
        return "is too long"
    if not name.isprintable() or re.search(r'[<>:"/\\|?*]', name):
        return "holds characters that a file's name cannot hold, or that cannot be seen"
    if name.startswith(".") or _RESERVED.fullmatch(name):
        return "is a reserved name"
    return ""
