"""Downloads from mirrors: size and SHA-256 are checked, downloads are resumed, and no file is left half-written.

The code builds on urllib, because pooch 1.9 supports one address per file and cannot resume a download, which the
562 MB of EMNIST require; scikit-learn's `fetch_file` cannot either. With pooch, the code for resuming, mirrors, the
lock between processes and the detection of login pages would still be needed, in a downloader that pooch would call.
"""

import contextlib
import hashlib
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from snnjax.core import files
from snnjax.core.errors import DownloadError, InputError
from snnjax.data.catalogue import File, Progress, Published

TIMEOUT = 20.0  # seconds without data after which a server is given up
TRIES = 3  # successive rounds over all mirrors without any new data, after which the download fails
WAIT = 1.0  # seconds before the second round; before the third, twice as many
_PIECE = 1 << 16


class _Refused(Exception):
    """Raised if a mirror does not deliver the file; `again` tells whether another attempt may succeed."""

    def __init__(self, reason: object, again: bool) -> None:
        super().__init__(" ".join(str(reason).split()))
        self.again = again


def download(
    published: Published, folder: Path, *, mirror: str | None = None, progress: Progress | None = None
) -> None:
    """Downloads the files of a data set that are missing in a folder, and extracts the required members of archives.

    A file gets its final name once it is complete and its checksum is correct; until then it is .NAME.part, which is
    continued after an interruption. Other processes that download into the same folder wait for this one. Arguments
    and errors are as in `snnjax.data.fetch`.
    """
    mirror = mirror or os.environ.get("SNNJAX_MIRROR")
    if mirror and urlsplit(mirror).scheme not in ("http", "https", "file"):
        raise InputError(f"`mirror` (SNNJAX_MIRROR) must begin with https://, http:// or file://, got {mirror!r}")
    preferred = (f"{mirror.rstrip('/')}/{published.folder}/",) if mirror else ()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        report = progress or _bars(stack)
        stack.enter_context(files.lock(folder, lambda: report("waiting for another download", 0, published.size)))
        for file in published.files:
            names = [path.rpartition("/")[2] for path in file.members] or [file.name]
            part = folder / f".{file.name}.part"
            if all((folder / name).is_file() for name in names):
                part.unlink(missing_ok=True)  # left by a process that was killed after it had extracted everything
                continue
            _receive(file, [*preferred, *published.mirrors], part, report)
            if file.members:
                _extract(part, file.members, folder)
                part.unlink()
            else:
                part.replace(folder / file.name)


def _receive(file: File, mirrors: list[str], part: Path, report: Progress) -> None:
    """Downloads the whole file into `part`, from one or several mirrors; raises DownloadError if all of them fail."""
    reasons: dict[str, _Refused] = {}
    tries = 0
    most = _size(part)
    while mirrors and tries < TRIES:
        time.sleep(WAIT * tries)
        for mirror in mirrors:
            resumed = _size(part) > 0
            try:
                _append(mirror + file.name, file, part, report)
            except _Refused as refused:
                reasons[mirror] = refused
                continue
            with part.open("rb") as whole:
                if hashlib.file_digest(whole, "sha256").hexdigest() == file.sha256:
                    return
            part.unlink()
            # After a resumed download, the earlier bytes may have been wrong, so the mirror is tried again. A file that
            # this mirror sent as a whole would be wrong again.
            reasons[mirror] = _Refused("its SHA-256 is not that of the published file", again=resumed)
        mirrors = [mirror for mirror in mirrors if reasons[mirror].again]
        tries = 0 if _size(part) > most else tries + 1
        most = max(most, _size(part))
    raise DownloadError(f"{file.name} from " + ", ".join(f"{mirror} ({reasons[mirror]})" for mirror in reasons))


def _append(address: str, file: File, part: Path, report: Progress) -> None:
    """Appends the missing bytes to `part`, or writes the whole file if the server does not support ranges."""
    start = _size(part)
    if start >= file.size:
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    with _network_errors(again=start > 0):
        response = urlopen(Request(address, headers=headers), timeout=TIMEOUT)
    with response, part.open("ab") as out:
        # A server that ignores the range sends the file from its beginning.
        start = start if response.status == 206 else 0
        promised = response.headers["Content-Length"]
        if promised not in (None, str(file.size - start)):  # for example the login page of a network
            raise _Refused(f"it offers {promised} bytes, not {file.size - start}", again=False)
        out.truncate(start)
        while start < file.size:
            with _network_errors(again=True):
                piece = response.read1(min(_PIECE, file.size - start))
            if not piece:
                if promised is None:
                    out.truncate(0)  # without a length, these bytes may be anything
                raise _Refused(f"it ended after {start} of {file.size} bytes", again=promised is not None)
            out.write(piece)
            start += len(piece)
            report(file.name, start, file.size)
        out.flush()
        os.fsync(out.fileno())


@contextlib.contextmanager
def _network_errors(again: bool) -> Iterator[None]:
    """Converts network errors to _Refused; `again` applies to servers that cannot be reached."""
    try:
        yield
    except HTTPError as error:
        error.close()
        passing = error.code >= 500 or error.code in (408, 429)
        raise _Refused(f"HTTP {error.code} {error.reason}", again=passing) from error
    except URLError as error:
        raise _Refused(getattr(error.reason, "strerror", None) or error.reason, again) from error
    except (OSError, HTTPException) as error:
        reason = f"it sent nothing for {TIMEOUT:g} s" if isinstance(error, TimeoutError) else str(error)
        raise _Refused(reason or type(error).__name__, again=True) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _extract(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Writes the members of a zip or tar archive, whose checksum is known, into a folder, each under its last name."""
    streams: Iterable[tuple[str, Any]]
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(archive):
            zipped = stack.enter_context(zipfile.ZipFile(archive))
            streams = ((name, zipped.open(name)) for name in members)
        else:
            tar = stack.enter_context(tarfile.open(archive))
            streams = ((entry.name, tar.extractfile(entry)) for entry in tar if entry.name in members)
        for name, content in streams:
            with content, files.atomic_write(folder / name.rpartition("/")[2]) as path, path.open("wb") as out:
                shutil.copyfileobj(content, out, _PIECE)


def _bars(stack: contextlib.ExitStack) -> Progress:
    """Reports progress with a bar per file on the error stream, if that is a terminal; `stack` closes the bars."""
    bars: dict[str, tqdm] = {}

    def report(name: str, done: int, total: int) -> None:
        if name not in bars:
            bars[name] = stack.enter_context(tqdm(desc=name, total=total, unit="B", unit_scale=True, disable=None))
        bars[name].update(done - bars[name].n)

    return report
