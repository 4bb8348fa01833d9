"""Flat tables, as CSV and Parquet: a row for each image and a column for each value.

Column names are valid in pandas, R and spreadsheets: `name`, `split`, `class`, `label`, `z0` … (posterior means),
`logvar0` …, and `code0` … for models with codes.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.files import write_bytes
from convae.core.types import Shape
from convae.latents.encoding import Encoding

PREFIXES = {"mean": "z", "logvar": "logvar", "codes": "code"}
"""Prefix of the columns of each tensor; the index of the value follows."""
Content = tuple[dict[str, Tensor], dict[str, list[str]]]
"""Tensors and texts of the images, by name."""


def encoding_columns(encoding: Encoding, tensors: Sequence[str] = ("mean", "logvar", "codes")) -> dict[str, Any]:
    """The columns of an encoding: lists of strings, with None for missing ones, and arrays of numbers.

    Args:
        encoding: the encoding.
        tensors: tensors to include, of `PREFIXES`.
    """
    labels = None if encoding.labels is None else encoding.labels.tolist()
    table = image_columns(encoding.names, encoding.splits, labels, encoding.classes)
    for name in tensors:
        values = getattr(encoding, name)
        if values is not None:
            flat = values.reshape(len(encoding), -1).numpy()
            table |= {f"{PREFIXES[name]}{number}": flat[:, number] for number in range(flat.shape[1])}
    return table


def image_columns(
    names: Sequence[str], splits: Sequence[str] | None, labels: Sequence[int] | None, classes: Sequence[str] | None
) -> dict[str, Any]:
    """The columns that identify the image of each row: name, split, class and label.

    Args:
        names: names of the images.
        splits: split of each image.
        labels: class number of each image, -1 if missing.
        classes: class names by number.
    """
    numbers = [-1] * len(names) if labels is None else labels
    class_names = [_as_utf8(name) for name in classes or ()]
    return {
        "name": [_as_utf8(name) for name in names],
        "split": [None] * len(names) if splits is None else list(splits),
        "class": [class_names[number] if 0 <= number < len(class_names) else None for number in numbers],
        "label": [int(number) if number >= 0 else None for number in numbers],
    }


def _as_utf8(name: str) -> str:
    """A name with bytes that are not UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def require_table(path: Path) -> None:
    """Checks that a table can be written to a file of this name.

    Raises:
        ConfigError: the suffix is neither .csv nor .parquet, or the package for Parquet is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ConfigError(f"{path}: expected a .csv or .parquet file, got '{path.suffix}'")
    if suffix == ".parquet":
        import_arrow()


def write_table(path: Path, table: dict[str, Any]) -> Path:
    """Writes columns as CSV or Parquet, by the suffix of the file.

    Raises:
        ConfigError: as for `require_table`.
        OutputError: the file cannot be written.
    """
    require_table(path)
    is_csv = path.suffix.lower() == ".csv"
    write_bytes(path, csv_text(table).encode("utf-8") if is_csv else _parquet_bytes(arrow_table(table)))
    return path


def csv_text(table: dict[str, Any]) -> str:
    """Columns as CSV. Floats have as many digits as float32 needs to be restored; missing values are empty."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*map(_cells, table.values()), strict=True))
    return stream.getvalue()


def _cells(values: Sequence[Any] | NDArray[Any]) -> Sequence[Any]:
    """The cells of a column for the CSV writer."""
    if not isinstance(values, np.ndarray):
        return ["" if value is None else f"{value:.10g}" if isinstance(value, float) else value for value in values]
    if values.dtype.kind != "f":
        return list(values.tolist())
    digits = 9 if values.dtype.itemsize <= 4 else 17
    return [f"{value:.{digits}g}" for value in values.tolist()]


def encode_csv(encoding: Encoding) -> bytes:
    """An encoding as CSV."""
    return csv_text(encoding_columns(encoding)).encode("utf-8")


def read_csv(path: Path, latent_shape: Shape | None) -> Content:
    """The content of a CSV file.

    Args:
        path: the file.
        latent_shape: shape of one latent, which CSV does not store.

    Raises:
        ValueError: the file is not such a table.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    head, *rows = rows or [[]]
    if {len(row) for row in rows} - {len(head)}:
        raise ValueError("its rows have different numbers of cells")
    table = dict(zip(head, zip(*rows, strict=True), strict=True)) if rows else {}
    return _from_table(table, {"mean": latent_shape, "codes": latent_shape and latent_shape[1:]})


def import_arrow() -> Any:
    """Imports the package that reads and writes Parquet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet needs the package pyarrow: pip install 'convae[parquet]'") from error
    return pyarrow


def arrow_table(table: dict[str, Any]) -> Any:
    """Columns as an Arrow table: strings, integers and floats."""
    arrow = import_arrow()
    types = {"name": arrow.string(), "split": arrow.string(), "class": arrow.string(), "label": arrow.int64()}
    return arrow.table({name: arrow.array(values, types.get(name)) for name, values in table.items()})


def encode_parquet(encoding: Encoding) -> bytes:
    """An encoding as Parquet; the shapes of its tensors are in the metadata of the schema, under `shapes`."""
    tensors = {name: getattr(encoding, name) for name in PREFIXES}
    shapes = {name: list(tensor.shape[1:]) for name, tensor in tensors.items() if tensor is not None}
    table = arrow_table(encoding_columns(encoding))
    return _parquet_bytes(table.replace_schema_metadata({"shapes": json.dumps(shapes)}))


def _parquet_bytes(table: Any) -> bytes:
    stream = io.BytesIO()
    import_arrow().parquet.write_table(table, stream)
    return stream.getvalue()


def read_parquet(path: Path) -> Content:
    """The content of a Parquet file.

    Raises:
        ValueError: the file is not such a table.
        ConfigError: the package for Parquet is not installed.
    """
    parquet = import_arrow().parquet
    with path.open("rb") as file:  # so that a missing file is an OSError
        table = parquet.read_table(file)
    shapes = json.loads((table.schema.metadata or {}).get(b"shapes", b"{}"))
    texts = {"name", "split", "class", "label"}
    read = {
        name: column.to_pylist() if name in texts else column.to_numpy()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return _from_table(read, {name: tuple(shape) for name, shape in shapes.items()})


def _from_table(table: dict[str, Any], shapes: dict[str, Shape | None]) -> Content:
    """Tensors and texts from columns; `shapes` are those of the tensors of one image."""
    texts = {"names": list(table["name"])} if "name" in table else {}
    if "split" in table and all(table["split"]):
        texts["splits"] = list(table["split"])
    labels = [-1 if label in (None, "") else int(label) for label in table.get("label", ())]
    tensors = {"labels": torch.tensor(labels, dtype=torch.int64)} if max(labels, default=-1) >= 0 else {}
    for name, prefix in PREFIXES.items():
        found = [key for key in table if key.removeprefix(prefix).isdecimal()]
        if found != [f"{prefix}{number}" for number in range(len(found))]:
            raise ValueError(f"its columns {prefix}0 … are not in order")
        if found:
            dtype = np.int64 if name == "codes" else np.float32
            values = torch.from_numpy(np.stack([np.asarray(table[key]).astype(dtype) for key in found], axis=1))
            shape = shapes.get(name, shapes.get("mean"))
            if name == "codes" and shape is not None and len(found) != math.prod(shape):
                shape = (-1, *shape)  # several levels, or the latents of a hierarchy
            tensors[name] = values if shape is None else values.view(len(values), *shape)
    return tensors, texts
