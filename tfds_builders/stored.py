"""The base of every builder here: records are written in order, and an index beside them.

Keeps what TFDS does not: the order, what is known of each record, near-duplicates, and
what every named protocol would leak. Where records come from is the subclass's business.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import duplicates, index, protocols

DUPLICATES = "duplicates.csv"
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
        self, label_names: Sequence[str], features: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> tfds.core.DatasetInfo:
        """The info of a set with the features that every set has, and its own."""
        common = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
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
        write_duplicates(folder, entries, pairs)
        leaks = {}
        for name, protocol in self.PROTOCOLS.items():
            names = protocol.label_names or self.info.metadata["label_names"]
            rows = [one.row for one in entries if one.label in names]
            assigned = protocol.assign(rows, 0)
            leaks[name] = {
                "leaks": count_shared(entries, assigned),
                "near_duplicates": count_pairs(entries, pairs, assigned),
            }
        self.info.metadata.update(
            index_sha256=index.write(folder, entries),
            similar_pairs=len(pairs),
            protocols=leaks,
        )


def write_duplicates(folder: Path, entries: Sequence[index.Entry], pairs: np.ndarray) -> None:
    """Lists all pairs of records that look alike, with the number of bits that differ."""
    with open(folder / DUPLICATES, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "other", "bits", "split", "other_split", "label", "other_label"])
        for first, second in pairs:
            one, other = entries[first], entries[second]
            bits = duplicates.distance(one.look, other.look)
            table.writerow([one.id, other.id, bits, one.split, other.split, one.label, other.label])


def count_shared(entries: Sequence[index.Entry], assigned: Mapping[str, str]) -> int:
    """Groups with records in more than one split."""
    groups: dict[str, list[str]] = {split: [] for split in protocols.SPLITS}
    for one in entries:
        if one.id in assigned:
            groups[assigned[one.id]].append(one.subject)
    return protocols.shared_groups(groups)


def count_pairs(
    entries: Sequence[index.Entry], pairs: np.ndarray, assigned: Mapping[str, str]
) -> int:
    """Pairs that look alike with one in another split than the other."""
    splits = np.array([protocols.SPLITS.index(assigned[one.id]) if one.id in assigned else -1
                       for one in entries])  # fmt: skip
    first, second = splits[pairs[:, 0]], splits[pairs[:, 1]]
    return int(((first != second) & (first >= 0) & (second >= 0)).sum())
