"""Downloads of data sets, from real servers on this machine that behave well or badly."""

import contextlib
import gzip
import hashlib
import http.server
import importlib.resources
import io
import os
import sys
import tarfile
import threading

import pytest
from command import until
from made_files import CIFAR, EMNIST, FILES, RNG, idx, zipped

from snnjax.core import files
from snnjax.core.errors import DownloadError, InputError
from snnjax.data import download, fetch, find, load
from snnjax.data.catalogue import CATALOGUE, File, Published

CONTENT = {"one.gz": RNG.bytes(300_000), "two.gz": RNG.bytes(1_000)}


class Server(http.server.ThreadingHTTPServer):
    """A server in a thread: how it behaves, and what it was asked for (path, Range)."""

    def __init__(self, behave, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave, self.content, self.asked, self.released = behave, content, [], threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Range"]))
        with contextlib.suppress(OSError):  # the client may have gone
            self.server.behave(self, self.server.content.get(self.path.rpartition("/")[2], b""))

    def log_message(self, *_):
        pass


def part_of(count, resumes, then=lambda handler, content: None):
    """Sends so many bytes, and breaks off."""

    def behave(handler, content):
        wanted = handler.headers["Range"] if resumes else None
        rest = content[int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0 :]
        head = b"HTTP/1.0 %d OK\r\nContent-Length: %d\r\n\r\n" % (206 if wanted else 200, len(rest))
        handler.wfile.write(head + rest[:count])
        then(handler, content)

    return behave


good = part_of(300_000_000, resumes=True)


def wait(handler, content):
    """Sends nothing."""
    handler.server.released.wait(20)


def answer(text):
    return lambda handler, content: handler.wfile.write(text)


def status(code):
    return lambda handler, content: handler.send_error(code)


def at_first(behave, times, later=good):
    """A server that behaves otherwise later."""
    return lambda handler, content: (behave if len(handler.server.asked) <= times else later)(handler, content)


@pytest.fixture
def serve():
    """Starts servers."""
    servers = []

    def start(behave=good, content=CONTENT):
        servers.append(Server(behave, content))
        return servers[-1]

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """A cache of its own, no proxy, and little patience."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")] + ["SNNJAX_MIRROR"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "WAIT", 0.01)
    return tmp_path / "cache" / "snnjax" / "data" / "set"  # where the files of `publish` go


@pytest.fixture
def publish(monkeypatch):
    """Lets sets of the catalogue be other files, on these servers or at these addresses."""

    def publish(*servers, name="mnist", content=CONTENT, members=None) -> Published:
        real = CATALOGUE[name].published
        table = [
            File(file, len(raw), hashlib.sha256(raw).hexdigest(), members or known.members)
            for (file, raw), known in zip(content.items(), real.files, strict=False)
        ]
        published = Published("set", tuple(getattr(each, "address", each) for each in servers), tuple(table))
        for each, entry in CATALOGUE.items():
            if entry.published is real:
                monkeypatch.setitem(CATALOGUE, each, entry._replace(published=published))
        return published

    return publish


def held(folder) -> dict[str, bytes]:
    """The files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


BAD = {
    "404": (status(404), "HTTP 404 Not Found", 1),
    "page": (answer(b"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nLog in!"), "it offers 7 bytes, not 300000", 1),
    "endless page": (answer(b"HTTP/1.0 200 OK\r\n\r\nLog in!"), "it ended after 7 of 300000 bytes", 1),
    "wrong": (lambda handler, content: good(handler, content[::-1]), "its SHA-256 is not that of the publish", 1),
    "truncating": (part_of(100_000, resumes=False), "it ended after 100000 of 300000 bytes", 4),
    "silent": (wait, "it sent nothing for 0.3 s", 3),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mirror_is_named_and_the_next_one_taken(serve, publish, folder, kind):
    behave, reason, asked = BAD[kind]
    bad, other = serve(behave), serve()
    publish(bad)
    with pytest.raises(DownloadError) as caught:
        fetch("mnist")
    assert str(caught.value).startswith(f"mnist cannot be downloaded: one.gz from {bad.address} ({reason}")
    assert "\n" not in str(caught.value)
    assert len(bad.asked) == asked
    assert not held(folder).keys() - {".one.gz.part"}
    publish(bad, other)
    assert held(fetch("mnist")) == CONTENT
    assert other.asked[0] == ("/one.gz", "bytes=100000-" if kind == "truncating" else None), "a page is not continued"


CLUMSY = {
    "stalling": (part_of(100_000, resumes=True, then=wait), [None, 100_000, 200_000, None]),
    "breaking": (part_of(70_000, resumes=True), [None, 70_000, 140_000, 210_000, 280_000, None]),
    "forgetful": (at_first(part_of(200_000, False), 1, part_of(300_000, False)), [None, 200_000, None]),
    "overloaded": (at_first(status(503), 2), [None] * 4),
    "too slow": (at_first(status(429), 1, at_first(status(408), 2)), [None] * 4),
}


@pytest.mark.parametrize("kind", CLUMSY)
def test_a_clumsy_server_is_asked_again(serve, publish, kind):
    """It is continued where it broke off; more often than a server that gives nothing is asked."""
    behave, starts = CLUMSY[kind]
    server = serve(behave)
    publish(server)
    assert held(fetch("mnist")) == CONTENT
    assert [wanted for _, wanted in server.asked] == [start and f"bytes={start}-" for start in starts]


def test_files_at_hand_are_not_asked_for_and_parts_of_other_programs_are_not_trusted(serve, publish, folder, capfd):
    server, said = serve(), []
    publish(server)
    assert fetch("mnist", progress=lambda *each: said.append(each)) == folder
    assert [each[::2] for each in said if each[1] == each[2]] == [("one.gz", 300_000), ("two.gz", 1_000)]
    assert said == sorted(said)
    (folder / "two.gz").unlink()
    fetch("mnist")
    assert [path for path, _ in server.asked] == ["/one.gz", "/two.gz", "/two.gz"]
    (folder / ".one.gz.0123abcd.gz").write_bytes(b"half of it")
    for size in (150_000, 300_001):
        (folder / "one.gz").unlink()
        (folder / ".one.gz.part").write_bytes(b"x" * size)
        assert held(fetch("mnist")) == CONTENT
    publish("http://127.0.0.1:1/")
    assert held(fetch("mnist")) == CONTENT
    assert capfd.readouterr() == ("", ""), "bars are for terminals"


def test_a_download_waits_for_another_one_and_continues_what_that_left(serve, publish, folder):
    server, said = serve(), []
    publish(server)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".one.gz.part").write_bytes(CONTENT["one.gz"][:100_000])
    waiting = threading.Thread(target=lambda: fetch("mnist", progress=lambda *each: said.append(each)))
    with files.lock(folder):
        waiting.start()
        until(lambda: said)
        assert said[0] == ("waiting for another download", 0, 301_000)
        assert not server.asked
    waiting.join()
    assert held(folder) == CONTENT
    assert server.asked[0] == ("/one.gz", "bytes=100000-")


def test_a_mirror_of_ones_own_is_tried_first(serve, publish, monkeypatch, folder, tmp_path):
    own, other = serve(), serve()
    publish(other)
    monkeypatch.setenv("SNNJAX_MIRROR", f"{own.address}sets/")
    assert held(fetch("mnist")) == CONTENT
    assert [path for path, _ in own.asked] == ["/sets/set/one.gz", "/sets/set/two.gz"]
    with pytest.raises(InputError, match=r"`mirror` \(SNNJAX_MIRROR\) must begin with https://.* got 'share/set'"):
        fetch("mnist", mirror="share/set")
    with pytest.raises(InputError, match=r"`dataset` must be one of digits, .*, got 'cifar'"):
        fetch("cifar")
    folder.rename(tmp_path / "set")
    assert held(fetch("mnist", mirror=tmp_path.as_uri())) == CONTENT, "a mirror may be a folder"
    assert (len(own.asked), len(other.asked)) == (2, 0)


def tarred(entries: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


OTHERS = {"../evil": b"1", "/tmp/evil": b"2", "in/other": b"3", "one": b"4", "in/../../evil": b"5"}
WANTED = {"one": b"one", "two": b"two" * 99_999}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_of_archives_only_the_wanted_is_written(serve, publish, folder, tmp_path, monkeypatch, pack):
    """Also after a break while they are extracted."""
    content = {"all": pack(OTHERS | {f"in/{name}": each for name, each in WANTED.items()})}
    server = serve(content=content)
    publish(server, content=content, members=("in/one", "in/two"))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left on device") as caught:
            fetch("mnist")
    assert not isinstance(caught.value, DownloadError)
    assert [*held(folder)] == [".all.part"]
    for _ in range(2):
        assert held(fetch("mnist")) == WANTED
        (folder / ".all.part").write_bytes(content["all"])  # as if killed just before its removal
    assert not [*tmp_path.rglob("*evil*")]
    assert len(server.asked) == 1


SETS = {
    "mnist": {f"{name}.gz": gzip.compress(idx(array)) for name, array in FILES.items()},
    "emnist_letters": {"gzip.zip": zipped({f"gzip/{n}.gz": gzip.compress(raw) for n, raw in EMNIST.items()})},
    "cifar10": {"cifar-10-binary.tar.gz": tarred({f"cifar-10-batches-bin/{n}": each[0] for n, each in CIFAR.items()})},
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_downloads_itself(serve, publish, monkeypatch, folder, name):
    """The sets of one archive come together."""
    server = serve(content=SETS[name])
    published = publish(server, name=name, content=SETS[name])
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # it is not even imported
    assert find(name).kind == "absent"
    data = load(name)
    assert find(name) == ("cache", folder)
    assert (data.name, len(data.test_images)) == (name, dict(mnist=7, emnist_letters=26, cifar10=3)[name])
    assert data.digest == load(name).digest == load(name, folder).digest
    for other in [other for other, entry in CATALOGUE.items() if entry.published is published]:
        assert load(other).name == other
    assert len(server.asked) == len(published.files)


def test_offline_and_without_a_cache_there_is_one_line(serve, publish, monkeypatch, folder, tmp_path):
    publish("http://127.0.0.1:1/", "http://127.0.0.2:1/", content=SETS["mnist"])
    monkeypatch.setattr(download, "WAIT", 20)  # nobody waits for servers that cannot be reached
    refused = r"mnist cannot be downloaded: .*\.gz from http://127.0.0.1:1/ \(Connection refused\), http:.*--data_dir"
    with pytest.raises(DownloadError, match=refused):
        load("mnist")
    publish(serve(content=SETS["mnist"]), content=SETS["mnist"])
    path = fetch("mnist") / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=f"{path} is truncated or damaged.*: remove {folder}, and the set is downl"):
        load("mnist")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert find("mnist").kind == "absent"
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        load("mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "emnist", "cifar10"])
def test_sizes_and_checksums_are_those_that_tensorflow_datasets_knows(name):
    path = importlib.resources.files("tensorflow_datasets") / "url_checksums" / f"{name}.txt"
    known = [line.split("\t") for line in path.read_text().splitlines()]
    table = next(each.published for each in CATALOGUE.values() if each.published and each.published.folder == name)
    assert {(file.name, file.size, file.sha256) for file in table.files} == {(n, int(s), d) for _, s, d, n in known}
    assert {url for url, *_ in known} <= {mirror + file.name for mirror in table.mirrors for file in table.files}
