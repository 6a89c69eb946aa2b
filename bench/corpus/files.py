"""The user's own texts and images: txt, jsonl, csv, parquet, or a folder of them and of images."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from bench.core.errors import BenchError

TEXT_SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
#: Longest side of an image against its shortest: the short side becomes the model's size, and the long one grows with it.
MOST_EXTREME = 256
KINDS = f"{', '.join(TEXT_SUFFIXES)}, or images ({', '.join(IMAGE_SUFFIXES)})"


def read(path: Path) -> tuple[tuple[str, ...], list[Path]]:
    """The distinct texts, and the image files.

    `.txt`: a text per line. `.jsonl`: a string or an object with the key `text` per line. `.csv`, `.parquet`: the column `text`, or the
    only column. A folder: all such files in the order of their names, and its images; names that begin with a dot are left out. Half a
    surrogate pair, as JSON can hold, becomes U+FFFD.

    Raises:
        BenchError: names the file (and line) and the cure.
    """
    if not path.exists():
        raise BenchError(f"corpus {path}: not found; --corpus wants 'generated', 'docs', a file or a folder")
    if path.is_dir():
        candidates = (file for file in path.rglob("*") if file.suffix.lower() in (*TEXT_SUFFIXES, *IMAGE_SUFFIXES) and file.is_file())
        files = sorted(file for file in candidates if not any(part.startswith(".") for part in file.relative_to(path).parts))
    else:
        files = [path]
        if path.suffix.lower() not in (*TEXT_SUFFIXES, *IMAGE_SUFFIXES):
            raise BenchError(f"corpus {path}: unknown kind of file; use {KINDS}")
    texts: dict[str, None] = {}
    images: list[Path] = []
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            images.append(file)
            continue
        try:
            texts.update(dict.fromkeys(map(without_surrogates, _read_texts(file))))
        except OSError as error:
            raise BenchError(f"corpus {file}: {error.strerror or error}; make it readable") from None
        except UnicodeDecodeError:
            raise BenchError(f"corpus {file}: not UTF-8 text; convert it, for example with iconv -t utf-8") from None
    texts.pop("", None)
    if not texts and not images:
        raise BenchError(f"corpus {path}: holds no text and no image; use {KINDS}")
    return tuple(texts), images


def without_surrogates(text: str) -> str:
    """The text with U+FFFD in place of each half of a surrogate pair, which no tokenizer takes."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def read_image(file: Path) -> bytes:
    """The bytes of an image file that Pillow reads whole.

    Raises:
        BenchError: it cannot be read, or is so narrow that the images made of it would take gigabytes; names the file.
    """
    try:
        encoded = file.read_bytes()
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
            if max(width, height) > MOST_EXTREME * min(width, height):
                size = f"{width} × {height} pixels, one side more than {MOST_EXTREME} times the other"
                raise BenchError(f"corpus {file}: {size}; take it out of the folder")
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "not an image that Pillow reads" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise BenchError(f"corpus {file}: {reason}; convert it to JPEG or PNG, or take it out of the folder") from None
    return encoded


def _read_texts(file: Path) -> Iterator[str]:
    suffix = file.suffix.lower()
    if suffix == ".txt":
        yield from (line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines())
    elif suffix == ".jsonl":
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), start=1):
            if line.strip():
                yield _json_text(file, number, line)
    elif suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines)
            try:
                column = _text_column(file, next(rows, []))
                for row in rows:
                    if row:
                        if len(row) <= column:
                            raise BenchError(f"corpus {file}:{rows.line_num}: has {len(row)} cells; the texts are in column {column + 1}")
                        yield row[column].strip()
            except csv.Error as error:
                raise BenchError(f"corpus {file}:{rows.line_num}: {error}; mend that line") from None
    else:
        yield from _parquet_texts(file)


def _json_text(file: Path, number: int, line: str) -> str:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise BenchError(f"corpus {file}:{number}: not valid JSON ({error.msg}); mend that line") from None
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, str):
        raise BenchError(f"corpus {file}:{number}: wants a string, or an object whose key 'text' is a string")
    return value.strip()


def _text_column(file: Path, names: Iterable[str]) -> int:
    names = [name.strip() for name in names]
    if "text" in names:
        return names.index("text")
    if len(names) == 1:
        return 0
    raise BenchError(f"corpus {file}:1: no column 'text' among {', '.join(names) or 'none'}; name the column that holds the texts 'text'")


def _parquet_texts(file: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        column = names[_text_column(file, names)]
        values = table.read(columns=[column]).column(0).to_pylist()
    except pa.ArrowException as error:
        raise BenchError(f"corpus {file}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    for value in values:
        if value is not None and not isinstance(value, str):
            raise BenchError(f"corpus {file}: column {column!r} holds {type(value).__name__}; it should hold texts")
        yield (value or "").strip()
