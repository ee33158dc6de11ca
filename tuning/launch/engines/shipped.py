"""Files of the user's as they travel from a launcher to the nodes of a cluster: in the arguments of a call.

Neither the database nor the place for files has a part in it, so whoever can write there cannot have a node import
anything. A worker imports what its launcher handed over, and that only where its checksum is the one that the study
records: `tuning.user_classes.load_from`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storage.errors import BadInput, shown
from storage.scratch import publish, scratch_folder
from storage.settings import Home
from tuning.own_modules import files_of
from tuning.user_classes import UserFile

LARGEST_BYTES = 4 << 20
"""Of all that travels: source, and no weights or data that somebody put into it."""

# Of the files that travel, so many are named.
_MOST_NAMED = 4


@dataclass(frozen=True)
class Shipped:
    """Files of the user's, and what they import from their folders, as they were when this was made.

    Attributes:
        folders: those that they lie in. The files of one stay together, since what they import is shared.
        places: each file of the user's, and where it lies among `contents`.
        contents: of all files, by the number of the folder and the path in it.
    """

    folders: tuple[Path, ...]
    places: Mapping[UserFile, str]
    contents: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, user_files: Iterable[UserFile]) -> Shipped:
        """Read what is to travel.

        Raises:
            BadInput: it is too much.
        """
        folders: list[Path] = []
        places: dict[UserFile, str] = {}
        contents: dict[str, bytes] = {}
        for user_file in user_files:
            folder = user_file.path.parent
            if folder not in folders:
                folders.append(folder)
            number = folders.index(folder)
            for file in files_of(user_file.path):
                contents[f"{number}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()
            places[user_file] = f"{number}/{user_file.path.name}"
        size_bytes = sum(map(len, contents.values()))
        if size_bytes > LARGEST_BYTES:
            names = " and ".join(sorted({shown(user_file.path.name) for user_file in places}))
            raise BadInput(
                f"--ship: {names} and what is imported beside have {size_bytes / 1e6:.1f} MB, and at most"
                f" {LARGEST_BYTES / 1e6:.1f} MB travel. Import less from that folder, or leave it out (make: SHIP=) and"
                " have the same files on each node."
            )
        return cls(tuple(folders), places, contents)

    @property
    def digest(self) -> str:
        """The SHA-256 of what lies where."""
        whole = hashlib.sha256()
        for place, content in sorted(self.contents.items()):
            whole.update(f"{place!r} {hashlib.sha256(content).hexdigest()}\n".encode())
        return whole.hexdigest()

    def in_words(self) -> str:
        """Say what travels; where nothing does, why."""
        if not self.contents:
            return "nothing: what the study names is the project's own"
        names = sorted(shown(place.partition("/")[2]) for place in self.contents)
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return f"{', '.join(names[:_MOST_NAMED])}{more}, to each node; no other file beside them"

    def unpacked(self, home: Home) -> dict[str, UserFile]:
        """Have the files in the home of a node; return each of the user's there, by what it is called where it is from.

        What was removed or changed there since another worker had them is written anew.

        Raises:
            BadInput: the home cannot be written.
            OSError: they cannot be.
        """
        folder = home.shipped(self.digest)
        if not self._lie_in(folder):
            home.make(folder.parent)
            with scratch_folder(folder) as scratch:
                for place, content in self.contents.items():
                    file = scratch / place
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
                publish(scratch, folder, lambda: self._lie_in(folder))
        folder.touch()  # gc goes by it
        return {str(file): UserFile(folder / place, file.class_name) for file, place in self.places.items()}

    def _lie_in(self, folder: Path) -> bool:
        """Whether a folder has these files, and no other that one of them could import."""
        try:
            there = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.py")}
        except OSError:
            return False
        return there == self.contents

    def came_from(self, home: Home) -> dict[str, str]:
        """Return which folder of the user's each folder of a node stands for, so that messages name what they know."""
        folder = home.shipped(self.digest)
        return {str(folder / str(number)): shown(theirs) for number, theirs in enumerate(self.folders)}
