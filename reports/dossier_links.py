"""Which compounds of a campaign have a dossier beside its page, and the command that makes one."""

import html
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from . import words
from .page import relative_link

FOLDER = "dossiers"
HEAD = 8192  # bytes of a page within which its title lies
TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)


def dossier_links(compounds: Sequence[str], *, campaign: str, out: Path) -> dict[int, str]:
    """Links to the dossiers in the folder `dossiers` beside the campaign's page, by the place of the compound.

    A dossier is known by its title and not by its file's name, which different compounds may share. One of a compound
    in all cell lines serves each of them.

    Parameters
    ----------
    compounds
        Names as the ranking has them, a cell line in brackets where there are several.
    campaign
        The campaign's name as its page shows it.
    out
        The campaign's page.
    """
    there = {title: page for page in sorted(out.with_name(FOLDER).glob("*.html")) if (title := _title(page))}
    found = {}
    for place, name in enumerate(compounds):
        bare = name.rpartition(" [")[0] if name.endswith("]") else name
        for known in (name, bare):
            title = f"{words.plain(known)} in {words.plain(campaign)} - tomoscreen"
            if title in there:
                found[place] = relative_link(there[title], start=out)
                break
    return found


def dossier_command(store: Path, compound: str) -> str:
    """What to type in the folder of the results for the dossier of a compound."""
    return shlex.join(["tomoscreen", "dossier", store.name, compound])


def _title(page: Path) -> str:
    try:
        with page.open("rb") as file:
            head = file.read(HEAD).decode(errors="replace")
    except OSError:  # a page that cannot be read is not linked to
        return ""
    found = TITLE.search(head)
    return " ".join(html.unescape(found[1]).split()) if found else ""
