"""What kernels rest on: raw addresses that stay in bounds, tables of letters, numba's cache."""

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.sketches import assert_same
from tracemill.corpus.kernels.jit import kernel
from tracemill.corpus.kernels.letters import CASES, CODES, TAGS
from tracemill.corpus.kernels.texts import parts, places
from tracemill.corpus.sketch import sketch

PAGE = mmap.PAGESIZE


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by mprotect, of POSIX")
def test_nothing_behind_a_page_is_read() -> None:
    """Texts that end where memory ends: one byte too far would be the end of this process."""
    memory = mmap.mmap(-1, 2 * PAGE)
    memory[:PAGE] = ("Some Words of text, é " * PAGE).encode()[:PAGE]
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(ctypes.c_void_p(address + PAGE), ctypes.c_size_t(PAGE), 0) == 0, os.strerror(
        ctypes.get_errno()
    )
    for size in [*range(1, 140), PAGE]:
        raw = memory[PAGE - size : PAGE]
        skip = next(at for at in range(2) if raw[at] & 0xC0 != 0x80)
        data = pa.foreign_buffer(address + PAGE - size + skip, size - skip, memory)
        ends = pa.py_buffer(np.array([0, size - skip], np.int32))
        assert_same(pa.Array.from_buffers(pa.string(), 1, [None, ends, data]))
    protect(ctypes.c_void_p(address + PAGE), ctypes.c_size_t(PAGE), 3)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_bytes_that_are_no_text_do_no_harm(raw: list[bytes]) -> None:
    """Arrow does not check its strings: what comes out is of no use, but the same each time."""
    ends = pa.py_buffer(np.cumsum([0, *map(len, raw)]).astype(np.int32))
    data = pa.py_buffer(b"".join(raw))
    texts = pa.Array.from_buffers(pa.string(), len(raw), [None, ends, data])
    once, again = (sketch(texts, plain=False, threads=1) for _ in range(2))
    assert all(np.array_equal(left, right) for left, right in zip(once, again, strict=True))
    ranges = zip(once.offsets[:-1], once.offsets[1:], strict=True)
    assert all((np.diff(once.shingles[a:b].astype(np.int64)) > 0).all() for a, b in ranges)


def test_letters_above_the_tables_are_their_own_lower_case() -> None:
    codes = [chr(code) for code in range(CASES, CODES)]
    assert [each for each in codes if each.lower() != each or each.isspace()] == []
    looked_through = [ord(each) for each in codes if f"A{each}Σ".lower().endswith("ς")]
    assert TAGS[0] <= min(looked_through) <= max(looked_through) < TAGS[1]


def test_places_of_texts_are_not_copies() -> None:
    texts = pa.array(["first text, longer than a view", None, "", "last"], pa.large_string())
    found = places(texts.slice(1))
    assert found.lengths.tolist() == [0, 0, 4]
    assert ctypes.string_at(int(found.addresses[2]), 4) == b"last"
    data = texts.buffers()[2]
    assert data is not None
    assert found.addresses[2] == data.address + 30


@given(st.lists(st.integers(0, 3_000_000), max_size=50))
def test_parts_cover_all_texts_once(lengths: list[int]) -> None:
    found = parts(np.array(lengths, np.int64))
    assert [at for part in found for at in range(part.start, part.stop)] == [*range(len(lengths))]
    assert all(sum(lengths[part][1:]) <= 1 << 20 for part in found)


def test_a_kernel_that_cannot_be_kept_is_compiled_all_the_same() -> None:
    def double(value: int) -> int:
        return 2 * value

    double.__code__ = double.__code__.replace(co_filename="<no file>")
    assert kernel(double)(21) == 42


def test_the_cache_sees_changes_in_what_a_kernel_calls(tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(
        "from called import step\nfrom tracemill.corpus.kernels.jit import kernel\n"
        "@kernel\ndef run(value):\n    return step(value)\n"
        "print(run(20), sum(run.stats.cache_hits.values()))\n"
    )
    called = tmp_path / "called.py"
    lines = "from tracemill.corpus.kernels.jit import part\n@part\ndef step(value):\n"
    told = []
    for change in ("value + 1", "value + 1", "value + 2"):
        called.write_text(f"{lines}    return {change}\n")
        command = [sys.executable, "-W", "error", "-c", "import caller"]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        ran = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
        )
        told.append(ran.stdout.split())
    assert told == [["21", "0"], ["21", "1"], ["22", "0"]]
