"""A run's records as one tidy table, in memory or as a file: one row a record, whole trials in the plan's order.

Arrow parses the lines, bit for bit, one bounded piece after the other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from plasticbench import storage
from plasticbench.analysis._scan import scan
from plasticbench.analysis.runs import Run, Trial, load_run
from plasticbench.records import read_bytes, read_records, record_length
from plasticbench.storage import Location

_WINDOW_BYTES = 16 << 20
_THREADS = 8  # Arrow parses outside Python's lock, and an object store's answers are waited for
_GROUP_ROWS = 1 << 20
_TEXT = pa.dictionary(pa.int32(), pa.string())
_FIELDS = {"step": pa.int64(), "name": pa.string(), "value": pa.float64()}
_SCHEMA = pa.schema(
    {"trial": _TEXT, "task": _TEXT, "method": _TEXT, "seed": pa.int64(), **_FIELDS, "name": _TEXT}.items()
)
_PARSE = pyarrow.json.ParseOptions(
    explicit_schema=pa.schema(_FIELDS.items()), unexpected_field_behavior="ignore", newlines_in_values=False
)
_READ = pyarrow.json.ReadOptions(use_threads=False)
_WRITERS = {"csv": pyarrow.csv.CSVWriter, "parquet": pyarrow.parquet.ParquetWriter}


class Loaded(NamedTuple):
    """``table`` has the columns ``trial, task, method, seed, step, name, value``; ``plan`` has the trials."""

    table: pd.DataFrame
    plan: Run


def load(run_dir: Location) -> Loaded:
    """What ``plasticbench.load`` gives, of records that are sound."""
    run = load_run(run_dir)
    whole = pa.concat_tables([_SCHEMA.empty_table(), *_tables(run)]).unify_dictionaries()
    return Loaded(whole.to_pandas(split_blocks=True, self_destruct=True), run)


def export(run_dir: str | Path | Location, to: str, out: Path) -> None:
    """Writes the table of ``load`` to a new file, as ``csv`` or ``parquet``, without ever holding all of it.

    The file is there once it is whole. Raises ``ValueError`` as ``load`` does, for another format, and if it exists.
    """
    if to not in _WRITERS:
        raise ValueError(f"--to: must be one of {', '.join(_WRITERS)}, got {to!r}")
    if out.exists():
        raise ValueError(f"--out: {out} exists. Choose another file, or remove it")
    if not out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    run, draft = load_run(storage.connect(run_dir)), out.with_name(out.name + ".new")
    try:
        with _WRITERS[to](str(draft), _SCHEMA) as writer:
            for group in _groups(_tables(run)):
                writer.write_table(group)
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """About a million rows each, as readers of a file like them."""
    waiting = [_SCHEMA.empty_table()]
    for table in tables:
        waiting.append(table)
        if sum(one.num_rows for one in waiting) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting).unify_dictionaries()
            waiting = [_SCHEMA.empty_table()]
    yield pa.concat_tables(waiting).unify_dictionaries()


def _tables(run: Run) -> Iterator[pa.Table]:
    """The records of each trial."""
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(lambda trial: _table(run, trial), run.trials)


def _table(run: Run, trial: Trial) -> pa.Table:
    file = run.path / "records" / f"{trial.id}.jsonl"
    pieces = [_parsed(file, start, data) for start, data in _windows(file, record_length(file))]
    found = pa.concat_tables([pa.schema({**_FIELDS, "name": _TEXT}.items()).empty_table(), *pieces])
    zeros, count = np.zeros(found.num_rows, dtype=np.int32), found.num_rows
    texts = [pa.DictionaryArray.from_arrays(zeros, [text]) for text in (trial.id, trial.task, trial.method)]
    seeds = np.full(count, trial.seed, dtype=np.int64)
    return pa.table([*texts, pa.array(seeds), *found.columns], schema=_SCHEMA)


def _windows(file: Location, end: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a record file, each piece with the byte where it starts; a last line without its end is left."""
    start = 0
    while start < end:
        data = read_bytes(file, start, min(start + _WINDOW_BYTES, end))
        if not (length := data.rfind(b"\n") + 1):
            return
        yield start, data[:length]
        start += length


def _parsed(file: Location, start: int, data: bytes) -> pa.Table:
    try:
        found = pyarrow.json.read_json(pa.BufferReader(data), _READ, _PARSE).select(list(_FIELDS))
        is_sound = not (found["step"].null_count or found["name"].null_count)
    except pa.ArrowInvalid:  # infinities stand there as texts; anything else is told by whoever reads it line by line
        is_sound = False
    if not is_sound:
        found = pa.table(_read(file, start, data), schema=pa.schema(_FIELDS.items()))
    columns = [found["step"], found["name"].dictionary_encode(), found["value"].fill_null(math.nan)]
    return pa.table(columns, names=list(_FIELDS))


def _read(file: Location, start: int, data: bytes) -> dict[str, Any]:
    """The slow way, which names a line that is no record."""
    if (columns := scan(data, '[^"]*')) is not None:
        return {"step": columns.steps, "name": [name.decode() for name in columns.names], "value": columns.values}
    records = list(read_records(file, start, start + len(data)))
    return {"step": [r.step for r in records], "name": [r.name for r in records], "value": [r.value for r in records]}
