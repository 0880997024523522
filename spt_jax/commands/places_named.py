"""Options that name a folder or file of this machine or of an object store, and those that take only the first."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

from data_pipelines.errors import UserError
from data_pipelines.places import Place, RemotePath, is_remote, place

Named = Annotated[
    Place,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: place(words[0]),
        is_instance=lambda found: isinstance(found, Path | RemotePath),
        str_from_instance=lambda found: [str(found)],
    ),
]
"""As Path of an option, and also gs://BUCKET/NAME, s3://BUCKET/NAME and memory://NAME."""


def refuse_remote(command: Any) -> None:
    """Raises UserError where an option of this machine's files names an object store: it would become a folder "s3:"."""
    for field in fields(command):
        value = getattr(command, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Path) and is_remote(each):
                name = field.name.replace("_", "-")
                raise UserError(f"{place(each)}: {name} takes what lies on this machine; copy it here, or give another")
