"""Latents as files: safetensors, NumPy's npz, or flat tables as Parquet and CSV. None of them ever unpickles anything.

A table has a row for each image and a column for each value, with names that pandas, R and spreadsheets take as they
are: `name`, `split`, `class`, `label`, `z0` … (posterior means), `logvar0` …, and `code0` … where there are codes.
"""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.files import open_regular, utf8_path, write_bytes
from convae.core.names import array_error, unknown_message
from convae.core.types import Shape
from convae.latents.encoding import Encoding

TENSORS = ("mean", "logvar", "codes", "labels")
"""What a file holds for each image beside its texts; the last two where there are any."""
TEXTS = ("names", "splits")
"""Texts of each image; the last where the parts of the data set are known."""
PREFIXES = {"mean": "z", "logvar": "logvar", "codes": "code"}
"""What the columns of a table are called, before the number of the value."""
FORMATS = ("safetensors", "npz", "parquet", "csv")
_Content = tuple[dict[str, Tensor], dict[str, list[str]]]
"""Tensors and texts of the images, by name."""


def writer(format: str) -> Callable[[Path, Encoding], None]:
    """The function that writes a format.

    Raises:
        ConfigError: no such format, or its package is not installed.
    """
    known = {"safetensors": _safetensors, "npz": _npz, "parquet": _parquet, "csv": _csv}
    if format not in known:
        raise ConfigError(unknown_message("format of latents", format, known))
    if format == "parquet":
        arrow()
    return lambda path, encoding: write_bytes(path, known[format](encoding))


def read(path: Path, latent_shape: Shape | None = None) -> Encoding:
    """The latents in a file.

    Args:
        path: the file; its ending says the format.
        latent_shape: of one latent, for CSV, which does not hold it.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
        ConfigError: its format needs a package that is not installed.
    """
    tensors, texts = read_content(path, latent_shape)
    try:
        mean, names = tensors["mean"], texts["names"]
        if tensors["logvar"].shape != mean.shape or {len(names), *map(len, tensors.values())} != {len(mean)}:
            raise ValueError("what it holds of the images are different numbers")
        return Encoding(
            mean, tensors["logvar"], tensors.get("labels"), names, tensors.get("codes"), None, texts.get("splits")
        )
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged, or not a file of latents ({array_error(error)})") from error


def read_content(path: Path, latent_shape: Shape | None = None) -> _Content:
    """What a file holds, by name, whether that is all of an encoding or a part, such as codes alone.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
        ConfigError: its format needs a package that is not installed.
    """
    readers: dict[str, Callable[[Path], _Content]] = {
        ".npz": _read_npz,
        ".npy": _read_npy,
        ".parquet": _read_parquet,
        ".csv": lambda path: _read_csv(path, latent_shape),
    }
    try:
        with open_regular(path):
            pass  # A pipe or a device would be waited for.
        tensors, texts = readers.get(path.suffix.lower(), _read_safetensors)(path)
        for name, tensor in tensors.items():
            if tensor.is_floating_point() != (name in ("mean", "logvar")):
                raise ValueError(f"its {name} are {tensor.dtype}")
        return tensors, texts
    except (OSError, EOFError, ValueError, KeyError, TypeError, SafetensorError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        raise DataError(f"{path}: damaged, or not a file of latents ({array_error(error)})") from error


def _tensors(encoding: Encoding) -> dict[str, Tensor]:
    found = {name: getattr(encoding, name) for name in TENSORS}
    return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}


def _texts(encoding: Encoding) -> dict[str, list[str]]:
    found = {name: getattr(encoding, name) for name in TEXTS}
    return {name: list(texts) for name, texts in found.items() if texts is not None}


def _safetensors(encoding: Encoding) -> bytes:
    # Names are bytes and may be no UTF-8; escaped, they are text whatever they are.
    texts = {name: json.dumps(texts) for name, texts in _texts(encoding).items()}
    content: bytes = save(_tensors(encoding), texts)
    return content


def _read_safetensors(path: Path) -> _Content:
    with utf8_path(path) as opened, safe_open(opened, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        metadata = file.metadata() or {}
        return tensors, {name: json.loads(metadata[name]) for name in TEXTS if name in metadata}


def _npz(encoding: Encoding) -> bytes:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in _tensors(encoding).items()}
    arrays |= {name: np.array(texts, str) for name, texts in _texts(encoding).items()}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _read_npz(path: Path) -> _Content:
    with np.load(path, allow_pickle=False) as file:
        tensors = {name: torch.from_numpy(file[name]) for name in TENSORS if name in file}
        return tensors, {name: file[name].tolist() for name in TEXTS if name in file}


def _read_npy(path: Path) -> _Content:
    """An array: latents if it holds floats, otherwise codes."""
    with path.open("rb") as file:
        values = torch.from_numpy(np.load(file, allow_pickle=False))
    return ({"mean": values} if values.is_floating_point() else {"codes": values.long()}), {}


def columns(encoding: Encoding, tensors: Sequence[str] = ("mean", "logvar", "codes")) -> dict[str, Any]:
    """The columns of a table: lists of texts with None where one is missing, and arrays of numbers.

    Args:
        encoding: the images.
        tensors: which of `PREFIXES` get columns.
    """
    count = len(encoding)
    labels = None if encoding.labels is None else encoding.labels.tolist()
    table = image_columns(encoding.names, encoding.splits, labels, encoding.classes)
    for name in tensors:
        values = getattr(encoding, name)
        if values is not None:
            flat = values.reshape(count, -1).numpy()
            table |= {f"{PREFIXES[name]}{number}": flat[:, number] for number in range(flat.shape[1])}
    return table


def image_columns(
    names: Sequence[str], splits: Sequence[str] | None, labels: Sequence[int] | None, classes: Sequence[str] | None
) -> dict[str, Any]:
    """The columns of a table that say which image a row is of: its name, part of the data set, class and label.

    Args:
        names: of the images.
        splits: the part that each is in.
        labels: the number of each one's class, -1 where it is missing.
        classes: the names of the numbers.
    """
    numbers = [-1] * len(names) if labels is None else labels
    called = [_as_utf8(name) for name in classes or ()]
    return {
        "name": [_as_utf8(name) for name in names],
        "split": [None] * len(names) if splits is None else list(splits),
        "class": [called[number] if 0 <= number < len(called) else None for number in numbers],
        "label": [int(number) if number >= 0 else None for number in numbers],
    }


def _as_utf8(name: str) -> str:
    """A name as tables take it: names are bytes, and those that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def csv_text(table: dict[str, Any]) -> str:
    """A table as CSV: floats with the digits that give the same float32 again, nothing where a value is missing."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*map(_cells, table.values()), strict=True))
    return stream.getvalue()


def _cells(values: Sequence[Any] | NDArray[Any]) -> Sequence[Any]:
    """A column as CSV writes it."""
    if not isinstance(values, np.ndarray):
        return ["" if value is None else f"{value:.10g}" if isinstance(value, float) else value for value in values]
    if values.dtype.kind != "f":
        return list(values.tolist())
    digits = 9 if values.dtype.itemsize <= 4 else 17
    return [f"{value:.{digits}g}" for value in values.tolist()]


def _csv(encoding: Encoding) -> bytes:
    return csv_text(columns(encoding)).encode("utf-8")


def _read_csv(path: Path, latent_shape: Shape | None) -> _Content:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    head, *rows = rows or [[]]
    if {len(row) for row in rows} - {len(head)}:
        raise ValueError("its rows have different numbers of cells")
    table = dict(zip(head, zip(*rows, strict=True), strict=True)) if rows else {}
    return _from_table(table, {"mean": latent_shape, "codes": latent_shape and latent_shape[1:]})


def _from_table(table: dict[str, Any], shapes: dict[str, Shape | None]) -> _Content:
    """Tensors and texts from the columns of a table; `shapes` are those of what one image has."""
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
            kind = np.int64 if name == "codes" else np.float32
            values = torch.from_numpy(np.stack([np.asarray(table[key]).astype(kind) for key in found], axis=1))
            shape = shapes.get(name, shapes.get("mean"))
            if name == "codes" and shape is not None and len(found) != math.prod(shape):
                shape = (-1, *shape)  # several levels, or the latents of a hierarchy
            tensors[name] = values if shape is None else values.view(len(values), *shape)
    return tensors, texts


def write_table(path: Path, table: dict[str, Any]) -> Path:
    """Writes a table as CSV or Parquet, as the file's ending says.

    Raises:
        ConfigError: another ending, or the package for Parquet is not installed.
        OutputError: the file cannot be written.
    """
    require_table(path)
    if path.suffix.lower() == ".csv":
        write_bytes(path, csv_text(table).encode("utf-8"))
    else:
        write_bytes(path, _parquet_bytes(arrow_table(table)))
    return path


def require_table(path: Path) -> None:
    """Checks, before there is anything to write, that a table can be written to a file of this name.

    Raises:
        ConfigError: as `write_table`.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ConfigError(f"{path}: a table is a .csv or .parquet file, not '{path.suffix}'")
    if suffix == ".parquet":
        arrow()


def arrow() -> Any:
    """The package that reads and writes Parquet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("parquet needs a package that is not installed: pip install 'convae[parquet]'") from error
    return pyarrow


def arrow_table(table: dict[str, Any]) -> Any:
    """A table of `columns` as one of Arrow: texts, integers and floats."""
    kinds = {"name": arrow().string(), "split": arrow().string(), "class": arrow().string(), "label": arrow().int64()}
    return arrow().table({name: arrow().array(values, kinds.get(name)) for name, values in table.items()})


def _parquet(encoding: Encoding) -> bytes:
    """The flat table; the shapes that the values had are in the schema's metadata, under `shapes`."""
    shapes = {name: list(tensor.shape[1:]) for name, tensor in _tensors(encoding).items() if name in PREFIXES}
    return _parquet_bytes(arrow_table(columns(encoding)).replace_schema_metadata({"shapes": json.dumps(shapes)}))


def _parquet_bytes(table: Any) -> bytes:
    stream = io.BytesIO()
    arrow().parquet.write_table(table, stream)
    return stream.getvalue()


def _read_parquet(path: Path) -> _Content:
    parquet = arrow().parquet
    # Opened here, so that a missing file is an error of the operating system.
    with path.open("rb") as file:
        table = parquet.read_table(file)
    shapes = json.loads((table.schema.metadata or {}).get(b"shapes", b"{}"))
    texts = {"name", "split", "class", "label"}
    read = {
        name: column.to_pylist() if name in texts else column.to_numpy()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return _from_table(read, {name: tuple(shape) for name, shape in shapes.items()})
