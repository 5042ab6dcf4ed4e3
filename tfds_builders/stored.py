"""The base of every builder here: records are written in order, and an index beside them.

Keeps what TFDS does not: the order, what is known of each record, near-duplicates, and
what every named protocol would leak. Where records come from is the subclass's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import duplicates, index, leaks, protocols

_KEYS = 2**128  # TFDS deals records to its temporary files by their keys: these fill them evenly


class StoredBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes `Entry`s beside the records and says in the metadata what protocols leak.

    A subclass sets `PROTOCOLS` (the first is the default) and `GROUP`, builds its info with
    `stored_info`, and passes what it generates through `stored`.
    """

    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]]
    GROUP: ClassVar[str] = "subject"
    _entries: list[index.Entry]

    def stored_info(
        self,
        label_names: Sequence[str],
        features: Mapping[str, Any],
        metadata: Mapping[str, Any],
        encoding: str = "jpeg",
    ) -> tfds.core.DatasetInfo:
        """The info of a set with the features that every set has, and its own.

        `encoding` is "jpeg" or "png", what most of the pictures are stored as.
        """
        common = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format=encoding),
            "label": tfds.features.ClassLabel(names=list(label_names)),
            "id": tfds.features.Text(),
            "subject": tfds.features.Text(),
            "face_box": tfds.features.Tensor(shape=(4,), dtype=np.int32),
            "face_source": tfds.features.Text(),
            "landmarks": tfds.features.Tensor(shape=(5, 2), dtype=np.float32),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(common | dict(features)),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(
                label_names=list(label_names), group=self.GROUP, **metadata
            ),
            disable_shuffling=True,  # stored in the order of records.csv
        )

    def protocol(self, name: str | None) -> protocols.Protocol | None:
        """A protocol of this set: its own, its default, or a fold; None if unknown."""
        return protocols.find(self.PROTOCOLS, name)

    def stored(
        self, pairs: Iterator[tuple[index.Entry, dict[str, Any]]], most: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Keys and examples of one split in order, noting the entries; at most `most`."""
        step = _KEYS // (most + 1)
        for number, (entry, example) in enumerate(pairs):
            self._entries.append(entry)
            yield number * step, example

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        self._entries = []
        super()._download_and_prepare(dl_manager, download_config)
        self.finish(self._entries)

    def finish(self, entries: Sequence[index.Entry]) -> None:
        """Writes the index and the near-duplicates when all records are written."""
        folder = Path(self.data_dir)
        pairs = duplicates.pairs([one.look for one in entries])
        leaks.write_pairs(folder, entries, pairs)
        found = {}
        for name, protocol in self.PROTOCOLS.items():
            names = protocol.label_names or self.info.metadata["label_names"]
            rows = [one.row for one in entries if one.label in names]
            assigned = protocol.assign(rows, 0)
            found[name] = {
                "leaks": leaks.count_shared(entries, assigned),
                "near_duplicates": leaks.count_pairs(entries, pairs, assigned),
            }
        self.info.metadata.update(
            index_sha256=index.write(folder, entries),
            similar_pairs=len(pairs),
            protocols=found,
        )
