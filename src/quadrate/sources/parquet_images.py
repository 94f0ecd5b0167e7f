"""Images in Parquet files, as Hugging Face's data sets have them (extra `parquet`).

An image column holds the contents of image files: binary, or structs with `bytes` and `path`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quadrate.core.files import open_regular
from quadrate.core.names import is_printable
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError
from quadrate.sources.image_files import ImageFile, Images
from quadrate.sources.images import ImageBytes

_LABELS = ("label", "labels", "fine_label")
_ROWS = 64  # of which images are taken at a time; pyarrow keeps a group of rows


def find_parquet_images(path: Place, labels: bool) -> Images:
    """Find the images of a Parquet file with one image column; no image is read.

    Labels are the integers of the column `label`, `labels` or `fine_label`.

    Raises:
        QuadrateError: If pyarrow is missing, the file is damaged, has no image column or several,
            or no labels where they are wanted.
    """
    with _opened(path) as table:
        column = _image_column(path, table.schema_arrow)
        label = _label_column(path, table.schema_arrow) if labels else None
        count = table.metadata.num_rows
        if not count:
            raise QuadrateError(f"{path}: no images; its tables are empty")

    def part(start: int, stop: int) -> Iterator[ImageFile]:
        with _opened(path) as table:
            for number, row in _rows(table, [column, *([label] if label else [])], start, stop):
                yield _image(path, number, row[column], row[label] if label else None)

    return Images(str(path), count, part)


@contextmanager
def _opened(path: Place) -> Iterator[Any]:
    """A Parquet file; what is wrong with it becomes one line."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise QuadrateError(
            f"{path} needs pyarrow, which is missing: pip install 'quadrate[parquet]'"
        ) from None
    with open_regular(path) as file:
        try:
            yield parquet.ParquetFile(file)
        except QuadrateError:
            raise
        except (ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise QuadrateError(f"{path}: not a readable Parquet file ({reason})") from None


def _image_column(path: Place, schema: Any) -> str:
    from pyarrow import types

    def holds_images(kind: Any) -> bool:
        if types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    found = [field.name for field in schema if holds_images(field.type)]
    if len(found) != 1:
        raise QuadrateError(
            f"{path}: expected one column of images, binary or structs with bytes; it has"
            f" {', '.join(map(ascii, found)) or 'none'} among"
            f" {', '.join(map(ascii, schema.names[:20]))}"
        )
    return str(found[0])


def _label_column(path: Place, schema: Any) -> str:
    from pyarrow import types

    for name in _LABELS:
        if name in schema.names and types.is_integer(schema.field(name).type):
            return name
    raise QuadrateError(
        f"{path}: no labels; expected a column of integers called {', '.join(_LABELS)}"
    )


def _rows(
    table: Any, columns: list[str], start: int, stop: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows from one number to another, with their numbers; groups of rows before are not read."""
    first = 0
    for group in range(table.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        if first < stop and start < first + count:
            number = first
            for batch in table.iter_batches(_ROWS, row_groups=[group], columns=columns):
                for row in batch.to_pylist():
                    if start <= number < stop:
                        yield number, row
                    number += 1
        first += count


def _image(path: Place, number: int, value: Any, label: int | None) -> ImageFile:
    where = f"{path}: row {number}"
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise QuadrateError(f"{where}: it has no image; expected the contents of an image file")
    name = value.get("path") if isinstance(value, dict) else None
    if not (isinstance(name, str) and is_printable(name) and name):
        name = f"{number:08d}"
    return ImageFile(ImageBytes(where, data), name, label)
