"""Examples to array_record files, in the order in which they come, a few bytes in memory.

TFDS's own writer shuffles, keeps a gigabyte in memory and asks for TensorFlow beyond
that; its files and their names are kept. What is written is the builder's business.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SHARD_BYTES = 2**30  # of examples in one file, as in TFDS
_OPTIONS = "group_size:1"  # random access to single records, as in TFDS


def write(examples: Iterable[Any], features: Any, template: Any) -> tuple[list[int], int]:
    """Writes the examples of one split.

    Args:
      examples: As `tfds.core.GeneratorBasedBuilder` generates them.
      features: The `tfds.features.FeaturesDict` that encodes them.
      template: The `ShardedFileTemplate` of the split.

    Returns:
      The number of examples in each file, and all their bytes.

    Raises:
      OSError: The disk is full, or the folder cannot be written.
    """
    from tensorflow_datasets.core import example_serializer

    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    folder, lengths, sizes = Path(os.fspath(template.data_dir)), [0], [0]
    with contextlib.ExitStack() as last:
        shard = last.enter_context(_shard(_partial(folder, template, 0)))
        for example in examples:
            data = serializer.serialize_example(features.encode_example(example))
            if lengths[-1] and sizes[-1] + len(data) > SHARD_BYTES:
                last.close()
                shard = last.enter_context(_shard(_partial(folder, template, len(lengths))))
                lengths.append(0)
                sizes.append(0)
            with _as_os_error():
                shard.write(data)
            lengths[-1] += 1
            sizes[-1] += len(data)
    for number in range(len(lengths)):
        target = template.sharded_filepath(shard_index=number, num_shards=len(lengths))
        os.replace(_partial(folder, template, number), target)
    return lengths, sum(sizes)


@contextlib.contextmanager
def _shard(path: Path) -> Iterator[Any]:
    """A file of records to write to; closed however it ends, so that no thread is left behind."""
    from array_record.python import array_record_module  # type: ignore[import-untyped]

    with _as_os_error():
        writer = array_record_module.ArrayRecordWriter(str(path), _OPTIONS)
    try:
        yield writer
    finally:
        with _as_os_error():
            writer.close()


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """The library says that a disk is full by errors of other kinds."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise OSError(f"a file of records cannot be written ({error})") from error


def _partial(folder: Path, template: Any, number: int) -> Path:
    """A file before it is known how many there will be."""
    return folder / f"{template.split}.{number}.partial"
