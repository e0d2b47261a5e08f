"""Parquet files as `datasets` reads and writes them: pictures as `{bytes, path}`, typed columns, zstd."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runner.report.export.columns import Columns, Kind
from runner.report.export.rows import Item
from runner.report.export.shards import Written
from runner.report.export.source import Broken, text_of, whole_bytes, whole_path

# What readers fetch at a time, and what lies in memory here.
ROW_GROUP_BYTES = 32 << 20
ROW_GROUP_ROWS = 1000
_TYPES = {
    Kind.TRUTH: (pa.bool_(), "bool"),
    Kind.WHOLE: (pa.int64(), "int64"),
    Kind.NUMBER: (pa.float64(), "float64"),
    Kind.TEXT: (pa.string(), "string"),
}
_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True, slots=True)
class Table:
    """The table that items become rows of. `paths`: files are named, not held."""

    output: Path
    columns: Columns
    medium: str
    paths: bool

    @property
    def payload(self) -> str:
        """The column that holds what was made."""
        return "output" if self.medium == "text" else self.medium

    def schema(self) -> pa.Schema:
        """Arrow types, and beside them the features that `datasets` restores from the file."""
        is_text = self.medium == "text"
        fields = [(self.payload, pa.string() if is_text else _FILE)]
        # Sound and moving pictures are features of the same names.
        features = {self.payload: _value("string") if is_text else {"_type": self.medium.title()}}
        for where, name in self.columns.names.items():
            kind = self.columns.kinds[where]
            if kind is Kind.TEXTS:
                fields.append((name, pa.list_(pa.string())))
                features[name] = {"feature": _value("string"), "_type": "Sequence"}
            else:
                arrow, known_as = _TYPES[kind]
                fields.append((name, arrow))
                features[name] = _value(known_as)
        info = json.dumps({"info": {"features": features}})
        return pa.schema(fields, metadata={"huggingface": info})

    def row(self, item: Item) -> dict[str, Any]:
        """An item as a row. Raises Broken."""
        row = self.columns.row(item.fields())
        if self.medium == "text":
            return {self.payload: text_of(whole_bytes(self.output, item)), **row}
        held: dict[str, Any]
        if self.paths:
            held = {"bytes": None, "path": str(whole_path(self.output, item))}
        else:
            name = f"{item.key}.{item.extension}"
            held = {"bytes": whole_bytes(self.output, item), "path": name}
        return {self.payload: held, **row}


def write_parquet(path: Path, items: Sequence[Item], table: Table) -> Written:
    """Writes the items to a new Parquet file, a row group at a time."""
    written, schema = Written(), table.schema()
    texts = [name for name in table.columns.names.values() if name not in ("id", "sha256")]
    with (
        path.open("wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts) as writer,
    ):
        for rows in _groups(items, table, written):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=len(rows))
            written.items += len(rows)
    return written


def _groups(
    items: Sequence[Item], table: Table, written: Written
) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    size = 0
    for item in items:
        try:
            row = table.row(item)
        except Broken as error:
            written.broken.append(str(error))
            continue
        held = 0 if table.paths else item.size_bytes
        if rows and (size + held > ROW_GROUP_BYTES or len(rows) == ROW_GROUP_ROWS):
            yield rows
            rows, size = [], 0
        rows.append(row)
        size += held
    if rows:
        yield rows


def _value(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "_type": "Value"}
