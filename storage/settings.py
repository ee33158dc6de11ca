"""Every path under ``TUNING_HOME``. Nobody else joins one.

What belongs to a study is found by the study's uid: its name may change, and a study of another database may have the
same. The folders are called as the study was when they were made. Those of earlier versions go by the name alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from storage.errors import BadInput, disk_error

# How a launcher tells its workers where the study is.
STORAGE_VARIABLE = "TUNING_STORAGE"
FILES_VARIABLE = "TUNING_FILES"
# How a worker is told what the node of a cluster that it runs on is called.
NODE_VARIABLE = "TUNING_NODE"

# What may keep files besides a folder, and what is installed for it.
FILES_EXTRAS = {"s3": "files-s3", "gs": "files-gs"}

MARK = ".study"
"""The file that says whose a folder of logs or an exported bundle is: the study's uid, and below it its database."""

_LONGEST_LABEL = 200
"""Of the name of prepared data, in bytes."""

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Home:
    """The folder that holds all that the service makes.

    Attributes:
        root: absolute path of ``TUNING_HOME``.
        files: the URL of where artifacts and checkpoints are kept, as `files_url` returns it; empty for `root`.
    """

    root: Path
    files: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """Return the home that ``TUNING_HOME`` names; ``runs/`` in the checkout by default.

        Raises:
            BadInput: ``TUNING_FILES`` is no URL that files can be kept at.
        """
        given, files = environ.get("TUNING_HOME"), environ.get("TUNING_FILES")
        root = Path(given).expanduser().resolve() if given else CHECKOUT / "runs"
        return cls(root, files_url(files) if files else "")

    @property
    def environment(self) -> dict[str, str]:
        """What tells another process of this home."""
        return {"TUNING_HOME": str(self.root), FILES_VARIABLE: self.files}

    @property
    def is_remote(self) -> bool:
        """Whether artifacts and checkpoints are in an object store."""
        return bool(self.files) and not self.files.startswith("file:")

    def require_folders(self) -> None:
        """Refuse an object store where what is kept must be in folders.

        Raises:
            BadInput: it is one.
        """
        if self.is_remote:
            raise BadInput(
                f"FILES={self.files}: a function's trials keep what they like in folders. Leave it out, or give a"
                " folder, such as file:///mnt/shared/tuning."
            )

    @property
    def copies(self) -> Path:
        """The folder of copies of what is in an object store."""
        return self.root / "copies" / hashlib.sha256(self.files.encode()).hexdigest()[:16]

    @property
    def all_copies(self) -> Path:
        """The folder of such copies of all object stores."""
        return self.copies.parent

    @property
    def _kept(self) -> Path:
        return Path(unquote(urlsplit(self.files).path)) if self.files.startswith("file:") else self.root

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the default database."""
        # SQLAlchemy takes %20 for a space and what follows a question mark for options.
        path = str(self.root / "studies.db").replace("%", "%25").replace("?", "%3F")
        return f"sqlite:///{path}"

    @property
    def dashboard_tokens(self) -> Path:
        """The file of the hashes of what opens the dashboard."""
        return self.root / "dashboard.tokens"

    def dataset(self, name: str) -> Path:
        """The folder of a prepared data set."""
        return self.root / "datasets" / name

    def shared_dataset(self, name: str) -> Path:
        """The folder from which other machines take a prepared data set, where files are kept in folders."""
        return self._kept / "datasets" / name

    def own_dataset(self, label: str, checksum: str) -> Path:
        """The folder of prepared data of somebody's own: its name says what is in it, so it never changes."""
        name = _folder_name(f"{_shortened(label)}-{checksum[:8]}")
        # Hidden folders are those that are still being filled.
        return self.root / "datasets" / (f"%2E{name[1:]}" if name.startswith(".") else name)

    def own_datasets(self, checksum: str = "") -> list[Path]:
        """The folders that may hold prepared data of somebody's own, or those of that checksum."""
        folders = (folder for folder in _entries(self.root / "datasets") if not folder.name.startswith("."))
        return [folder for folder in folders if not checksum or folder.name.endswith(f"-{checksum[:8]}")]

    def read_before(self, key: str) -> Path:
        """The file that says which prepared folder a source of somebody's own was last read into."""
        return self.root / "datasets" / "own" / f"{key}.json"

    def decoding(self, label: str, key: str) -> Path:
        """The folder of what has been decoded so far of a source of somebody's own; what is left of it, gc frees."""
        return self.root / "datasets" / _folder_name(f".{_shortened(label)}-{key[:8]}")

    def all_read_before(self) -> list[Path]:
        """The files that say so of every source."""
        return [file for file in _entries(self.root / "datasets" / "own") if file.suffix == ".json"]

    def given(self, name: str, digest: str) -> Path:
        """The file of arrays that were handed over as a data set: its name says what is in it, so it never changes."""
        return self.root / "given" / f"{_folder_name(_shortened(name))}-{digest[:8]}.npz"

    @property
    def downloads(self) -> Path:
        """The folder of files as they were downloaded."""
        return self.root / "datasets" / "downloads"

    @property
    def bases_folder(self) -> Path:
        """The folder of all trained models that studies begin with."""
        return self.root / "bases"

    def base(self, checksum: str) -> Path:
        """The folder of one of them, by the SHA-256 of its file."""
        return self.bases_folder / checksum

    def bases(self, digits: str = "") -> list[Path]:
        """The folders of those whose SHA-256 begins so."""
        return [folder for folder in _entries(self.bases_folder) if folder.name.startswith(digits)]

    @property
    def all_shipped(self) -> Path:
        """The folder of users' files that launchers have sent to this node of a cluster."""
        return self.root / "shipped"

    def shipped(self, digest: str) -> Path:
        """The folder of those that were sent together, by the SHA-256 of all of them."""
        return self.all_shipped / digest

    @property
    def features(self) -> Path:
        """The folder of what trained models made of pictures; what nobody asks for any more, gc frees."""
        return self.root / "features"

    @property
    def artifacts(self) -> Path:
        """The root of all trials' artifacts, where they are in a folder."""
        return self._kept / "artifacts"

    @property
    def all_checkpoints(self) -> Path:
        """The root of all studies' checkpoints, likewise."""
        return self._kept / "checkpoints"

    def checkpoints(self, study: str, uid: str) -> Path:
        """The folder of a study's checkpoints, also where the study was called otherwise when it was made."""
        parent = self.all_checkpoints
        return parent / self.checkpoints_name(study, uid, lambda: [folder.name for folder in _entries(parent)])

    @staticmethod
    def checkpoints_name(study: str, uid: str, there: Callable[[], Iterable[str]]) -> str:
        """What that folder is called, `there` being the names of those that are there."""
        named = _folder_name(f"{study}-{uid[:8]}")
        if not uid:
            return named
        mine = [name for name in there() if name.endswith(f"-{uid[:8]}")]
        return named if named in mine or not mine else mine[0]

    def export(self, study: str, uid: str = "") -> Path:
        """The folder to which a study's bundle is exported: its name's, unless another study's bundle is there."""
        return self._named("exports", study, uid)

    def exported(self, study: str, uid: str) -> Path | None:
        """The folder in which a study's bundle is, also where the study was called otherwise then; None without one."""
        named = self.root / "exports" / _folder_name(study)
        owner = owner_of(named)
        if uid and owner != uid and (found := self._marked("exports", uid)) is not None:
            return found
        return named if named.is_dir() and (not uid or owner in (None, uid)) else None

    def report(self, study: str, uid: str = "") -> Path:
        """The folder to which a study's report is written: its name's, unless another study's report is there."""
        return self._named("reports", study, uid)

    def exploration(self, dataset: str) -> Path:
        """The folder of the pictures that `explore` draws of a data set."""
        return self.root / "explore" / dataset

    def compiled(self, reader: str) -> Path:
        """The folder of programs that XLA compiled; `reader` says who can use them."""
        return self.root / "compiled" / _folder_name(reader)

    def logs(self, study: str, uid: str = "") -> Path:
        """The folder of a study's worker logs: its name's when it was made, unless another study's logs are there."""
        return self._marked("logs", uid) or self._named("logs", study, uid)

    def _named(self, kind: str, study: str, uid: str) -> Path:
        named = self.root / kind / _folder_name(study)
        if uid and owner_of(named) not in (None, uid):
            return self.root / kind / _folder_name(f"{study}-{uid[:8]}")
        return named

    def _marked(self, kind: str, uid: str) -> Path | None:
        folders = _entries(self.root / kind) if uid else []
        return next((folder for folder in folders if owner_of(folder) == uid), None)

    def make(self, folder: Path) -> Path:
        """Create a folder under the home and return it.

        Raises:
            BadInput: it cannot be created or written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            then = "Set TUNING_HOME to a folder that can be written."
            raise disk_error(error, f"cannot create the folder {folder}", then) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadInput(f"the folder {folder} cannot be written. Set TUNING_HOME to a folder that can be.")
        return folder


def files_url(given: str) -> str:
    """Return the URL of where files are kept, in one form.

    Raises:
        BadInput: it is of no kind that is known, or has a password in it.
    """
    shown, parts = re.sub(r"://[^/]*@", "://***@", given.partition("?")[0]), urlsplit(given)
    if parts.scheme not in ("file", *FILES_EXTRAS):
        raise BadInput(f"FILES={shown}: must begin with file:///, s3:// or gs://. Give such a URL, or leave it out.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise BadInput(
            f"FILES={shown}: must have no password and no options in it. Credentials come from the environment, as the"
            " store's own tools read them."
        )
    path = parts.path.rstrip("/")
    if parts.scheme == "file":
        if parts.netloc or not path:
            raise BadInput(f"FILES={shown}: must name a folder by its whole path, such as file:///mnt/shared/tuning.")
        return f"file://{path}"
    if not parts.netloc:
        raise BadInput(f"FILES={shown}: names no bucket. Give one, such as {parts.scheme}://bucket/tuning.")
    return f"{parts.scheme}://{parts.netloc}{path}"


def mark(folder: Path, uid: str, database: str = "") -> None:
    """Say of a folder whose it is.

    Args:
        folder: of a study.
        uid: the study's.
        database: where that is, the same for whoever opens it (`Database.place`); empty where it does not matter.
    """
    (folder / MARK).write_text(f"{uid}\n{database}\n" if database else f"{uid}\n", encoding="utf-8")


def owner_of(folder: Path) -> str | None:
    """Return the uid of the study whose a folder is; None where it is nobody's, or of an earlier version."""
    return _marked(folder)[0]


def database_of(folder: Path) -> str | None:
    """Return in which database the study is whose a folder is; None where the folder does not say so."""
    return _marked(folder)[1]


def _marked(folder: Path) -> tuple[str | None, str | None]:
    try:
        uid, database, *_ = [*(folder / MARK).read_text(encoding="utf-8").splitlines(), "", ""]
    except (OSError, ValueError):
        return None, None
    return uid.strip() or None, database or None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _shortened(label: str) -> str:
    """Return as much of a label as leaves room for what is added to it: a name has 255 bytes at most."""
    name = os.fsencode(label)
    while len(os.fsencode(_folder_name(os.fsdecode(name)))) > _LONGEST_LABEL:
        name = name[:-1]
    return name.decode(errors="ignore") if name != os.fsencode(label) else label


def _folder_name(study: str) -> str:
    """Return a study's name as one path component: deleting the study `..` must not delete what lies around it."""
    name = study.replace("%", "%25").replace("/", "%2F")
    return {"": "%", ".": "%2E", "..": "%2E%2E"}.get(name, name)
