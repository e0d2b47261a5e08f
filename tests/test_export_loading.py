"""Every export, and the output itself, loaded back by the libraries that people use, row for row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from ledgers import job
from saved import Contents, adopt, picture, save

from runner.job import Job
from runner.ledger import Ledger
from runner.report.export.columns import EARLY_ROWS, Survey, columns_of
from runner.report.export.exporting import Form, export
from runner.report.export.lines import write_rows
from runner.report.export.rows import Item
from runner.report.export.source import Wanted
from runner.report.metadata import keep_metadata

HOW = "the libraries that load datasets are not installed: pip install -e '.[test,datasets]'"
datasets = pytest.importorskip("datasets", reason=HOW)
pq = pytest.importorskip("pyarrow.parquet", reason=HOW)
wds = pytest.importorskip("webdataset", reason=HOW)

# Other people's code warns of other people's code.
pytestmark = pytest.mark.filterwarnings("ignore")
COUNT = 24
SHARD_BYTES = 1500


def jobs() -> list[Job]:
    """What differs from job to job in every way that a manifest allows."""
    found = []
    for number in range(COUNT):
        params: dict[str, Any] = {
            "prompt": f'prompt {number} "quoted", 雪,\n<b>two lines</b>',
            "guidance": 7 if number % 2 else 7.5,
            "steps": 30 if number % 3 else "auto",
            "image": "https://example.com/a.png",
        }
        if number > 20:
            params["seed"] = number
        meta = {"category": None if number < 5 else f"c{number % 2}", "deep": {"a": [number]}}
        # `dev` and `train` are words that loaders look for in names.
        id_ = {3: "train", 4: "dev-1", 5: "Ein Hund. Groß/klein"}.get(number, f"j{number}")
        tags = ("wild",) if number % 4 == 0 else ()
        found.append(
            job(number, id=id_, params=params, meta=meta, tags=tags, output=f"m/{number}.{{ext}}")
        )
    return found


def contents(number: int) -> Contents:
    kind = ("PNG", "JPEG", "WEBP")[number % 3]
    suffix = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[kind]
    return [(f"m/{number}.{suffix}", f"image/{kind.lower()}", picture(number, kind))]


class Shop:
    """Saved jobs, where they are exported to, and what must come back."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.output, self.dest = ledger, folder / "output", folder / "dest"
        self.folder = folder

    async def export(self, form: str, test_share: float = 0.0, *, paths: bool = False) -> None:
        wanted = Wanted(self.ledger, self.output, "m", test_share=test_share)
        done = await export(wanted, self.dest, Form(form, SHARD_BYTES, paths))
        assert done.outcome.exported.total() == COUNT

    def load(self, name: str, **options: Any) -> Any:
        return datasets.load_dataset(name, cache_dir=str(self.folder / "cache"), **options)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with await Ledger.open(tmp_path / "runner.db", durable=False) as ledger:
        made = Shop(ledger, tmp_path)
        await adopt(ledger, made.output, jobs())
        for number, each in enumerate(jobs()):
            await save(ledger, made.output, each.id, contents(number))
        yield made


def check_rows(rows: list[dict[str, Any]], data_of: Callable[[dict[str, Any]], bytes]) -> None:
    """Each job is there once, with its bytes and everything that is known of it."""
    assert len(rows) == COUNT
    found = {row["id"]: row for row in rows}
    for number, each in enumerate(jobs()):
        row = found[each.id]
        data = data_of(row)
        assert data == contents(number)[0][2]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        params = each.params
        assert row["prompt"] == params["prompt"]
        assert (row["model"], row["manifest"], row["index"]) == ("imagen", "m", number)
        assert (row["cost"], row["request_id"]) == (0.04, f"r-{each.id}")
        assert row["guidance"] == params["guidance"]
        assert row["steps"] == str(params["steps"])
        assert row["param_image"] == params["image"]
        assert (row["category"] or None) == each.meta["category"]
        assert json.loads(row["deep"]) == each.meta["deep"]


def raw(split: Any, column: str = "image") -> list[dict[str, Any]]:
    """The rows with pictures as they are stored."""
    return list(split.cast_column(column, datasets.Image(decode=False)))


def stored(row: dict[str, Any]) -> bytes:
    image = row["image"]
    return image["bytes"] or Path(image["path"]).read_bytes()


def both(found: Any) -> list[dict[str, Any]]:
    """The rows of a train and a test split, which have no prompt in common."""
    sides = [raw(found[name]) for name in ("train", "test")]
    prompts = [{row["prompt"] for row in side} for side in sides]
    assert prompts[0]
    assert prompts[1]
    assert not prompts[0] & prompts[1]
    return [*sides[0], *sides[1]]


@pytest.mark.parametrize("way", ["data_dir", "data_files"])
async def test_the_output_loads_as_it_is_whatever_else_lies_in_it(shop: Shop, way: str):
    output = shop.output
    await keep_metadata(shop.ledger, output)
    (output / ".gallery").mkdir()
    for name in (
        ".gallery/thumb.png",
        "m/no-row.png",
        "m/half.png.12.part",
        "gallery.html",
        "a.json",
    ):
        (output / name).write_bytes(picture("foreign"))

    where = {"data_dir": str(output), "data_files": str(output / "metadata.jsonl")}
    found = shop.load("imagefolder", **{way: where[way]})

    check_rows(raw(found["train"]), stored)
    assert found["train"][0]["image"].size == (8, 8)


async def test_a_name_that_is_taken_for_a_split_has_a_way_around_it(shop: Shop):
    (shop.output / "m").rename(shop.output / "test")
    await shop.ledger.call(lambda d: d.execute("UPDATE files SET path = 'test' || substr(path, 2)"))

    note = await keep_metadata(shop.ledger, shop.output)

    assert note is not None
    found = shop.load("imagefolder", data_files=str(shop.output / "metadata.jsonl"))
    check_rows(raw(found["train"]), stored)


async def test_an_imagefolder_loads_with_its_splits(shop: Shop):
    await shop.export("imagefolder", 0.3)
    check_rows(both(shop.load("imagefolder", data_dir=str(shop.dest))), stored)


async def test_an_imagefolder_loads_without_splits(shop: Shop):
    await shop.export("imagefolder")
    check_rows(raw(shop.load("imagefolder", data_dir=str(shop.dest))["train"]), stored)


async def test_jsonl_loads_with_its_splits(shop: Shop):
    await shop.export("jsonl", 0.3)

    found = shop.load("json", data_dir=str(shop.dest))

    rows = [*found["train"], *found["test"]]
    check_rows(rows, lambda row: Path(row["path"]).read_bytes())


@pytest.mark.parametrize("paths", [False, True])
async def test_parquet_loads_as_pictures_with_its_splits(shop: Shop, paths: bool):
    await shop.export("parquet", 0.3, paths=paths)

    found = shop.load("parquet", data_dir=str(shop.dest))

    assert isinstance(found["train"].features["image"], datasets.Image)
    assert found["train"][0]["image"].size == (8, 8)
    check_rows(both(found), stored)


async def test_parquet_is_what_it_says_to_pyarrow(shop: Shop):
    await shop.export("parquet")

    files = sorted(shop.dest.glob("*.parquet"))
    tables = [pq.read_table(path) for path in files]
    rows = [row for table in tables for row in table.to_pylist()]

    assert len(files) > 3
    check_rows(rows, lambda row: row["image"]["bytes"])
    assert all(table.schema == tables[0].schema for table in tables)
    types = {field.name: str(field.type) for field in tables[0].schema}
    assert (types["guidance"], types["steps"], types["seed"]) == ("double", "string", "int64")
    assert types["tags"].startswith("list<")
    assert pq.ParquetFile(files[0]).metadata.row_group(0).column(0).compression == "ZSTD"
    assert {row["seed"] for row in rows} == {None, 21, 22, 23}


async def test_parquet_of_texts_holds_the_texts(shop: Shop):
    await adopt(shop.ledger, shop.output, [job(0, manifest="words", id="w")])
    await save(shop.ledger, shop.output, "w", [("w.txt", "text/plain", "ein Füchslein".encode())])

    await export(Wanted(shop.ledger, shop.output, "words"), shop.dest, Form("parquet", SHARD_BYTES))

    (row,) = shop.load("parquet", data_dir=str(shop.dest))["train"]
    assert (row["output"], row["id"], row["cost"]) == ("ein Füchslein", "w", 0.04)


async def test_webdataset_reads_the_tar_files(shop: Shop):
    await shop.export("webdataset")

    paths = [str(path) for path in sorted(shop.dest.glob("*.tar"))]
    samples = list(wds.WebDataset(paths, shardshuffle=False))

    assert len(paths) > 3
    rows = []
    for sample in samples:
        row = json.loads(sample["json"])
        assert sample["txt"].decode() == row["prompt"]
        rows.append(row | {"sample": sample})
    check_rows(
        rows,
        lambda row: next(
            row["sample"][k] for k in ("png", "jpeg", "jpg", "webp") if k in row["sample"]
        ),
    )


async def test_a_type_that_shows_late_in_a_large_file_is_seen_in_time(tmp_path: Path):
    from test_columns import item

    # A loader settles the types after ten megabytes.
    count, long = 2_400, "x" * 5000

    def params(number: int) -> dict[str, Any]:
        late = {"late": number, "day": "some day"} if number == count - 1 else {"day": "2026-01-01"}
        return {"prompt": long, "strength": 1 if number < count - 1 else 0.5, **late}

    items = [item(number, params(number)) for number in range(count)]
    survey = Survey()
    for each in items:
        survey.add(each)

    async def again() -> AsyncIterator[Item]:
        for each in items:
            yield each

    (tmp_path / "a.png").write_bytes(picture(0))
    path = tmp_path / "metadata.jsonl"
    await write_rows(
        path, again, survey, columns_of([survey]), lambda _, row: {"file_name": "a.png", **row}
    )

    assert path.stat().st_size > 10 << 20
    assert count > EARLY_ROWS
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path), cache_dir=str(tmp_path / ".cache")
    )
    rows = found["train"].select_columns(["id", "late", "day", "strength"])
    assert len(rows) == count
    last = next(row for row in rows if row["id"] == f"j{count - 1}")
    assert (last["late"], last["day"], last["strength"]) == (count - 1, "some day", 0.5)
