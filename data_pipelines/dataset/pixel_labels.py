"""Pixels of spectrum images whose class somebody knows, from a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from data_pipelines.errors import UserError


def read_pixel_labels(
    path: Path, names: list[str], classes: tuple[str, ...]
) -> dict[str, dict[tuple[int, int, int], int]]:
    """By image, the index of the class of each labelled (frame, row, column). path: .csv with the columns image, row, column,
    class and, for a series, frame.

    Raises UserError, with the line, for a class or an image that is not known, a place that is none, and a pixel of two classes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save it as .csv in UTF-8") from None
    found: dict[str, dict] = {}
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, restval="")
    if missing := {"image", "row", "column", "class"} - set(reader.fieldnames or ()):
        raise UserError(f"{path}: no column {', '.join(sorted(missing))}; columns are image,row,column,class")
    for line in reader:
        at = f"{path}, line {reader.line_num}"
        if line["class"] not in classes:
            raise UserError(f"{at}: no class {line['class']!r}; known: {', '.join(classes)}")
        if line["image"] not in names:
            raise UserError(f"{at}: no image {line['image']!r}; known: {', '.join(names) or 'none, give --images'}")
        try:
            place = (int(line.get("frame") or 0), int(line["row"]), int(line["column"]))
        except ValueError:
            place = (-1,)
        if min(place) < 0:
            raise UserError(f"{at}: row and column are whole numbers from 0")
        kind, known = classes.index(line["class"]), found.setdefault(line["image"], {})
        if known.setdefault(place, kind) != kind:
            raise UserError(f"{at}: the same pixel is {classes[known[place]]} in a line above")
    return found
