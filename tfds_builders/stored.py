"""Base class of all builders: writes records in order, and an index beside them.

Stores what TFDS does not: the order of the records, an index entry for each, near-duplicates, and
the leaks of every protocol. Subclasses generate the records.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import tensorflow_datasets as tfds

from fer_jax import errors
from tfds_builders import duplicates, index, leaks, protocols, shards

Pairs: TypeAlias = Iterator[tuple[index.Entry, dict[str, Any]]]


class StoredBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes index entries beside the records, and the leaks of the protocols to the metadata.

    A subclass sets `PROTOCOLS` (the first is the default) and `GROUP`, builds its info with
    `stored_info`, and generates entries and examples.
    """

    PROTOCOLS: ClassVar[Mapping[str, protocols.Protocol]]
    GROUP: ClassVar[str] = "subject"
    VOTES: ClassVar[tuple[str, ...]] = ()
    """The choice that each number of the feature `votes` counts; () without that feature."""
    UNITS: ClassVar[tuple[str, ...]] = ()
    """FACS names of the numbers of the feature `action_units`; L and R are the subject's sides."""
    UNIT_SHOWN: ClassVar[float] = 0.5
    """The number from which on a unit counts as shown."""

    def stored_info(
        self,
        label_names: Sequence[str],
        features: Mapping[str, Any],
        metadata: Mapping[str, Any],
        encoding: str = "jpeg",
    ) -> tfds.core.DatasetInfo:
        """Creates the info of a set, with the features that every set has.

        Args:
          label_names: the stored classes in index order.
          features: more features.
          metadata: more metadata.
          encoding: format of most stored images, "jpeg" or "png".
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
        info = self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(common | dict(features)),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(
                label_names=list(label_names), group=self.GROUP, **metadata
            ),
            disable_shuffling=True,  # stored in the order of records.csv
        )
        # TFDS looks every new set up on its server, and leaves a temporary folder behind.
        info.initialize_from_bucket = lambda: None
        return info

    def protocol(self, name: str | None) -> protocols.Protocol | None:
        """Returns a protocol of this set, its default, or a fold; None if unknown."""
        return protocols.find(self.PROTOCOLS, name)

    @abc.abstractmethod
    def generate(self, manual_dir: Path | None) -> Mapping[str, Pairs]:
        """Generates the entries and examples of each stored split, in stored order."""

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Pairs]:
        is_manual = self.MANUAL_DOWNLOAD_INSTRUCTIONS is not None
        return self.generate(Path(dl_manager.manual_dir) if is_manual else None)

    def _generate_examples(self) -> None:
        raise NotImplementedError("records come from `generate`")  # abstract in TFDS

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        """Writes the records of all splits, then the index; TFDS adds the description."""
        del download_config  # configures downloads and TFDS's writer, both unused
        from tensorflow_datasets.core import splits

        entries: list[index.Entry] = []
        infos = []
        for split, pairs in self._split_generators(dl_manager).items():
            template = self._get_filename_template(split_name=split)
            examples = _examples(pairs, entries)
            lengths, size = shards.write(examples, self.info.features, template)
            infos.append(splits.SplitInfo(split, lengths, size, template))
        self.info.set_splits(splits.SplitDict(infos))
        self.finish(entries)

    def finish(self, entries: Sequence[index.Entry]) -> None:
        """Writes the index and the near-duplicates after all records are written."""
        folder = Path(self.data_dir)
        looks = duplicates.stack([entry.look for entry in entries])
        pairs = leaks.write(folder, entries, looks)
        counts = {}
        for name, protocol in self.PROTOCOLS.items():
            names = protocol.label_names or self.info.metadata["label_names"]
            rows = [entry.row for entry in entries if entry.label in names]
            try:
                assigned = protocol.assign(rows, 0)
            except errors.UserError:
                continue  # too few records; opening the set under this protocol reports it
            of = index.splits(entries, assigned)
            counts[name] = {
                "leaks": leaks.count_shared(entries, of),
                "near_duplicates": leaks.count_pairs(pairs, of),
            }
        self.info.metadata.update(
            index_sha256=index.write(folder, entries),
            similar_pairs=len(pairs),
            protocols=counts,
        )


def _examples(pairs: Pairs, entries: list[index.Entry]) -> Iterator[Any]:
    """Yields the examples, and appends each entry to `entries`."""
    for entry, example in pairs:
        entries.append(entry)
        yield example
