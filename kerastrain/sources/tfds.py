"""TensorFlow Datasets, from a prepared copy or prepared now."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder

from kerastrain.errors import SourceError, listing, suggest
from kerastrain.files import files_fingerprint
from kerastrain.flat import Flat, Special, from_numpy, labels, tensor_type
from kerastrain.published import chosen_split, one_line, parse_address, quiet_logs
from kerastrain.source import Source
from kerastrain.tensors import numpy_elements

__all__ = ["TfdsSource"]

PREFIX = "tfds:"


class TfdsSource(Source):
    """A data set of TensorFlow Datasets: `tfds:name/config`, or its folder.

    What is prepared on this machine is read without a network; anything else is
    downloaded. Features of features become columns `a.b`, short vectors columns
    `a_0`, `a_1`; images are the bytes of their files.

    Args:
        data: `"tfds:penguins/simple"`, also with `:1.0.0` and `?split=test`; or the
            folder of a prepared data set.
        split: such as `train`, `train[:80%]`, `train+test` or `all`. By default the
            only one, or else `train`.
        data_dir: where prepared data sets lie; by default TFDS_DATA_DIR or else
            `~/tensorflow_datasets`.
        label_names: read a class label as its name rather than its number.
        skip_nested: leave out features that hold sequences or arrays.
    """

    def __init__(
        self,
        data: Any,
        max_bad_rows: float = 0.0,
        *,
        split: str | None = None,
        data_dir: str | None = None,
        label_names: bool = True,
        skip_nested: bool = False,
    ):
        if not isinstance(data, str | Path):
            kind = type(data).__name__
            raise SourceError(f"Expected 'tfds:NAME' or a folder, got {kind}.")
        if Path(data).expanduser().is_dir():
            self._builder, in_address = _from_folder(Path(data).expanduser()), None
        else:
            name, in_address = parse_address(str(data), PREFIX)
            self._builder = _from_name(name, data_dir)
        info = self._builder.info
        self.name = info.full_name.replace("//", "/")
        splits = [name for name in info.splits if name != "all"]
        self._split = chosen_split(in_address or split, splits, self.name)
        self._features = dict(sorted(_leaves(info.features)))
        specials = _specials(self._features) if label_names else {}
        self._flat = Flat(
            pa.schema([(n, _arrow_type(f)) for n, f in self._features.items()]),
            self.name,
            skip_nested=skip_nested,
            special=specials,
        )
        self.schema = self._flat.schema
        self._fingerprint: dict[str, Any] = {}
        self._part = self._split_info()
        self.num_rows = self._part.num_examples

    def scan(
        self, columns: Sequence[str] | None = None, *, batch_rows: int = 65_536
    ) -> Iterator[pa.RecordBatch]:
        names = self.checked_columns(columns)
        size = self._flat.rows_at_once(names, batch_rows)
        read = self._flat.sources(names)
        try:
            for element in numpy_elements(lambda: self._dataset(read).batch(size)):
                arrays = [_array(self._features[n], _at(element, n)) for n in read]
                batch = pa.RecordBatch.from_arrays(arrays, names=read)
                yield self._flat.batch(batch, names)
        except tf.errors.OpError as error:
            raise SourceError(
                f"Cannot read {self.name} in {self._builder.data_dir}: "
                f"{one_line(error)}. Its files are damaged: prepare it anew."
            ) from error

    def fingerprint(self) -> dict[str, Any]:
        if not self._fingerprint:
            info = self._builder.info
            paths = sorted(Path(path) for path in self._part.filepaths)
            local = [path for path in paths if path.is_file()]  # none in a bucket
            self._fingerprint = files_fingerprint(local) | {
                "kind": "tfds",
                "name": info.name,
                "config": info.config_name,
                "version": str(info.version),
                "split": self._split,
                "rows": self.num_rows,
            }
        return self._fingerprint

    def _split_info(self) -> Any:
        try:
            return self._builder.info.splits[self._split]
        except (KeyError, ValueError, AssertionError) as error:
            raise SourceError(
                f"Cannot read split '{self._split}' of {self.name}: {one_line(error)}."
            ) from error

    def _dataset(self, names: Sequence[str]) -> tf.data.Dataset:
        """The named features, in the order in which they were written."""
        images = [n for n in names if _is_image(self._features[n])]
        decoders = tfds.decode.PartialDecoding(
            _nested(dict.fromkeys(names, True)),
            decoders=_nested({n: tfds.decode.SkipDecoding() for n in images}),
        )
        # One file after the other, and nothing kept in memory.
        reading = tfds.ReadConfig(
            try_autocache=False, skip_prefetch=True, interleave_cycle_length=1
        )
        return self._builder.as_dataset(
            split=self._split,
            shuffle_files=False,
            decoders=decoders,
            read_config=reading,
        )


def _from_folder(folder: Path) -> Any:
    """The prepared data set in `folder`, or the only one below it."""
    pattern = "features.json"
    if not (folder / pattern).is_file():
        depths = ("*", "*/*", "*/*/*")
        below = [p.parent for d in depths for p in folder.glob(f"{d}/{pattern}")]
        if len(below) != 1:
            names = listing(sorted(str(path) for path in below), limit=10)
            found = f"{len(below)}: {names}. Name one of them" if below else "none"
            raise SourceError(
                f"{folder} should hold one prepared TensorFlow data set, found {found}."
            )
        folder = below[0]
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # json, protobuf and tfds raise errors of their own
        raise SourceError(
            f"{folder} is not a whole TensorFlow data set: {one_line(error)}."
        ) from error


def _from_name(name: str, data_dir: str | None) -> Any:
    """What is prepared, by its files alone; else downloaded and prepared."""
    try:
        plain, options = naming.parse_builder_name_kwargs(name, data_dir=data_dir)
        return read_only_builder.builder_from_files(str(plain), **options)
    except tfds.core.DatasetNotFoundError:
        return _prepared_now(name, data_dir)
    except ValueError as error:
        raise SourceError(f"'{PREFIX}{name}': {one_line(error)}.") from error


def _prepared_now(name: str, data_dir: str | None) -> Any:
    try:
        with _quiet():
            builder = tfds.builder(name, data_dir=data_dir)
            builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        place = data_dir or tfds.core.constants.DATA_DIR
        raise SourceError(
            f"There is no TensorFlow data set '{name}', neither in {place} nor among "
            f"the published ones. {suggest(name.partition('/')[0], known)}".rstrip()
        ) from error
    except ImportError as error:
        raise SourceError(
            f"To prepare the TensorFlow data set '{name}' another package is needed: "
            f"{one_line(error)}. Install it with pip."
        ) from error
    except Exception as error:  # each builder downloads and reads in its own way
        raise SourceError(
            f"The TensorFlow data set '{name}' is not on this machine and cannot be "
            f"prepared: {one_line(error)}. Without a network, prepare it where there "
            f"is one (tfds build {name}), copy its folder, and name that one."
        ) from error
    return builder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and without words on stdout, which may be a pipe."""
    tfds.disable_progress_bar()
    try:
        with quiet_logs("urllib3"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def _leaves(features: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Features that are no dict of others, by their path `a.b`."""
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _leaves(feature, f"{prefix}{name}.")
        else:
            yield prefix + name, feature


def _is_image(feature: Any) -> bool:
    return isinstance(feature, tfds.features.Image)


def _arrow_type(feature: Any) -> pa.DataType:
    """A scalar, a vector of fixed length, or some list, which `Flat` refuses."""
    if _is_image(feature):
        return pa.binary()
    info = feature.get_tensor_info()
    if isinstance(info, Mapping):  # a sequence of dicts
        return pa.list_(pa.struct([(name, pa.null()) for name in info]))
    kind = pa.string()
    if info.tf_dtype != tf.string:
        kind = pa.from_numpy_dtype(info.np_dtype)
    return tensor_type(kind, info.shape)


def _specials(features: Mapping[str, Any]) -> dict[str, Special]:
    return {
        name: labels([feature.int2str(i) for i in range(feature.num_classes)])
        for name, feature in features.items()
        if isinstance(feature, tfds.features.ClassLabel) and feature.num_classes
    }


def _array(feature: Any, values: np.ndarray) -> pa.Array:
    """A batch of one feature; texts that are not UTF-8 get the replacement mark."""
    if values.dtype != object or _is_image(feature):
        return from_numpy(values)
    flat = [value.decode("utf-8", "replace") for value in values.reshape(-1)]
    return from_numpy(np.array(flat, dtype=object).reshape(values.shape))


def _at(element: Any, path: str) -> Any:
    for name in path.split("."):
        element = element[name]
    return element


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` -> `{"a": {"b": 1}}`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        inner = nested
        for name in parents:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return nested
