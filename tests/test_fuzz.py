"""Files from anywhere: thousands of damaged ones are read or refused, in time and within memory."""

import gzip
import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from snnjax import data
from snnjax.core import files
from snnjax.export import pytorch
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Network, stage

IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 3]) + bytes(range(60))
FIRST = Conv(2, kernel=3, threshold=2, learners=STDP())
LAST = Conv(2, kernel=3, learners=RSTDP())
SMALL = Network("small", (6, 9, 9), 2, (stage(FIRST, pool=Pool(2, 1)), stage(LAST)))


def mutations(whole: bytes, count: int):
    """Copies with bytes changed, runs of bytes cut out, doubled or swapped, and cut short."""
    random = np.random.default_rng(0)
    for number in range(count):
        changed = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            start = random.integers(0, max(len(changed), 1))
            length = random.integers(1, 9)
            kind = (number + random.integers(0, 2)) % 5
            if kind == 0:
                changed[start : start + length] = random.bytes(length)
            elif kind == 1:
                del changed[start : start + length]
            elif kind == 2:
                changed[start:start] = changed[start : start + length]
            elif kind == 3:
                changed[start : start + length] = bytes([random.choice([0, 1, 127, 128, 255])]) * length
            else:
                del changed[start:]
        yield bytes(changed)


def read_or_refused(path, function, *arguments):
    """What is read; None where it is refused, by a message that names the file."""
    try:
        return function(*arguments)
    except ValueError as error:
        assert str(path) in str(error)
        return None


def test_2000_damaged_idx_files(tmp_path):
    path, read = tmp_path / "images", 0
    for packed in (IMAGES, gzip.compress(IMAGES)):
        for changed in mutations(packed, 1000):
            path.write_bytes(changed)
            array = read_or_refused(path, data.read_idx, path, 3)
            read += array is not None
            assert array is None or (array.dtype, array.ndim) == (np.uint8, 3)
    assert 0 < read < 1000


def test_1500_damaged_checkpoints(tmp_path):
    path = tmp_path / "checkpoint.npz"
    arrays = {"weights/layer1": np.ones((2, 3), np.float32), "learning/layer1": np.int32(3)}
    files.save_checkpoint(path, arrays, dict(phase=1, done=0, phases=[], epochs=[], diagnoses={}))
    whole, read = path.read_bytes(), 0
    for changed in mutations(whole, 1500):
        path.write_bytes(changed)
        found = read_or_refused(path, files.load_checkpoint, path)
        read += found is not None
        assert found is None or found[0]["weights/layer1"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert read < 500


def peak_of(function, *arguments) -> int:
    """The most bytes that a call holds, which is to be refused."""
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"damaged|at most|must hold"):
        function(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def archive(array_header: bytes, body: bytes, packed: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        file.writestr("checksum.npy", array_header + body)
    return stream.getvalue()


def npy(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


BODY = bytes(50 << 20)
COMPRESSED = archive(npy("(13107200,)"), BODY, packed=True)
BOMBS = {
    "promises": archive(npy("(1000000000000,)"), b"1234"),
    "objects": archive(npy("(2,)", "|O"), b"12345678" * 2),
    # In its local header and in the directory it promises 1,000 bytes.
    "lies": COMPRESSED.replace(len(npy("(13107200,)") + BODY).to_bytes(4, "little"), b"\xe8\x03\0\0"),
    "unpacks": COMPRESSED,
    "flipped": archive(npy("(3,)"), b"123456789012").replace(b"123456789012", b"123456789013"),
}
READERS = {
    "checkpoint": files.load_checkpoint,
    "data": data.load,
    "state_dict": lambda path: pytorch.read(path, SMALL),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("reader", READERS)
def test_npz_files_that_promise_or_unpack_to_much_take_little_memory(tmp_path, monkeypatch, bomb, reader):
    if bomb == "unpacks" and reader == "data":
        pytest.skip("data may be as large")
    monkeypatch.setattr("snnjax.export.pytorch._state_dict.MOST_BYTES", 1 << 20)
    path = tmp_path / "bomb.npz"
    path.write_bytes(BOMBS[bomb])
    assert peak_of(READERS[reader], path) < 4 << 20
    if bomb == "flipped":
        with pytest.raises(ValueError, match=r"is damaged .*: Bad CRC-32"):
            READERS[reader](path)
