"""Shared by tests of several sets: sources without images, and damaged files."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import IO

import pytest

from fer_jax import errors
from fer_jax.faces.decode import decode
from tests.tfds_builders import small_kdef
from tfds_builders import (
    prepare as build,
)
from tfds_builders import (
    prepared,
    sources,
)
from tfds_builders.encode import encode_png


@dataclasses.dataclass(frozen=True)
class NamesOnly:
    """A source of file names and label files, without images."""

    names: tuple[str, ...]
    texts: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    path: pathlib.Path = pathlib.Path("whole")

    def sizes(self) -> dict[str, int]:
        return dict.fromkeys((*self.names, *self.texts), 1)

    def read(self, name: str, limit: int = sources.MAX_MEMBER_BYTES) -> bytes:
        return self.texts[name]

    def stream(self, name: str) -> IO[bytes]:
        raise sources.MemberError(name)


def assigned(builder, source: NamesOnly, protocol: str) -> dict[str, str]:
    """Assigns the records to splits; checks that their order does not matter."""
    rows = [one.row for one in builder.index(source)[0]]
    chosen = builder.protocol(protocol)
    splits = prepared.assign(rows, chosen, builder.label_names, 0, builder.name)
    assert prepared.assign(rows[::-1], chosen, builder.label_names, 0, builder.name) == splits
    return dict(splits)


def png(image_id: str, side: int = 48) -> bytes:
    return encode_png(decode(small_kdef.draw(image_id, side)))


def truncate(file: pathlib.Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def claim_huge(file: pathlib.Path) -> None:
    """Sets the size in the header of a JPEG or PNG to 60,000 x 60,000 pixels."""
    data = bytearray(file.read_bytes())
    if data[:2] == b"\xff\xd8":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    else:
        data[16:24] = struct.pack(">II", 60_000, 60_000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    file.write_bytes(bytes(data))


def escape(target: pathlib.Path, inner: str) -> pathlib.Path:
    """Creates a zip with a file name that points outside."""
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(inner, small_kdef.draw("x"))
    return target


def refused(name: str, manual_dir: pathlib.Path, data: pathlib.Path, variant: str | None = None):
    """Returns the error message of a preparation that must fail and write nothing."""
    with pytest.raises(errors.UserError) as stopped:
        build.prepare(name, variant, str(data), str(manual_dir))
    assert not any(data.rglob("*.array_record*"))
    message = str(stopped.value)
    assert message.startswith("expected")
    assert "found" in message
    return message


def check_refusal(
    name: str,
    damage: Callable[[pathlib.Path], pathlib.Path],
    expected: str,
    tree: pathlib.Path,
    tmp_path: pathlib.Path,
    variant: str | None = None,
) -> None:
    """Checks that a damaged copy of `tree` is refused with a message that contains `expected`."""
    manual_dir = damage(pathlib.Path(shutil.copytree(tree, tmp_path / "damaged")))
    assert expected in refused(name, manual_dir, tmp_path / "data", variant)
