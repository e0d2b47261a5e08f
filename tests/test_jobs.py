"""The ready-made manifests expand into what they promise."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runner.job import Job
from runner.manifest import load

ROOT = Path(__file__).parent.parent
JOBS = ROOT / "jobs"
REAL = {"GENEVAL_FILE": "geneval_metadata.jsonl", "PARTIPROMPTS_FILE": "PartiPrompts.tsv"}


def expand(name: str) -> list[Job]:
    manifest = load(JOBS / f"{name}.yaml")
    assert not manifest.notes
    jobs = list(manifest.jobs())
    assert len({job.id for job in jobs}) == len(jobs)
    assert len({job.output for job in jobs}) == len(jobs)
    assert all(job.model == "imagen" for job in jobs)
    return jobs


def real_file(variable: str) -> Path:
    """A real prompt set, when it is named in the environment or lies beside the repository."""
    path = Path(os.environ.get(variable) or ROOT.parent / "shared" / "data" / REAL[variable])
    if not path.exists():
        pytest.skip(f"{variable} is not set")
    return path


@pytest.fixture
def geneval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "tag": "counting",
            "include": [{"class": "cup", "count": n}],
            "prompt": f"a photo of {n} cups",
        }
        for n in range(2, 5)
    ]
    path = tmp_path / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("GENEVAL_FILE", str(path))


def test_the_quickstart_shows_vars_matrix_and_repeat_in_a_dozen_jobs() -> None:
    jobs = expand("quickstart")
    assert len(jobs) == 12
    assert {job.meta.get("season") for job in jobs} == {None, "spring", "autumn"}
    assert {"1:1", "16:9"} <= {job.params["aspect_ratio"] for job in jobs}
    assert max(job.repeat for job in jobs) == 3
    assert {"lighthouse-1x1", "lighthouse-16x9"} <= {job.id for job in jobs}


def test_product_shots_are_filled_from_the_table() -> None:
    jobs = expand("product-shots")
    assert len(jobs) == 12
    assert jobs[0].output == "product-shots/mug-01/mug-01-1x1.{ext}"
    assert "hand-thrown stoneware mug" in jobs[0].params["prompt"]
    assert not any("{{" in job.params["prompt"] for job in jobs)


@pytest.mark.usefixtures("geneval")
def test_geneval_gives_four_pictures_a_prompt_in_its_layout() -> None:
    jobs = expand("geneval")
    assert [job.output.format(n=0, ext="png") for job in jobs[:5]] == [
        *(f"00000/samples/{repeat:04}.png" for repeat in range(4)),
        "00001/samples/0000.png",
    ]
    assert jobs[0].params == {"prompt": "a photo of 2 cups", "aspect_ratio": "1:1"}
    assert jobs[0].meta == {"tag": "counting", "include": [{"class": "cup", "count": 2}]}


def test_partiprompts_turns_categories_into_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "parti.tsv"
    path.write_text("Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\ta note\n")
    monkeypatch.setenv("PARTIPROMPTS_FILE", str(path))
    (job,) = expand("partiprompts")
    assert job.params["prompt"] == "bond"
    assert job.tags == ("Abstract",)
    assert job.meta == {"Challenge": "Basic", "Note": "a note"}
    assert job.output.startswith("partiprompts/Abstract/")


def test_backgrounds_are_removed_from_each_photo_of_the_folder() -> None:
    jobs = list(load(JOBS / "remove-backgrounds.yaml").jobs())
    names = [job.output for job in jobs]
    assert names == [f"remove-backgrounds/{name}.{{ext}}" for name in ("lamp", "mug", "vase")]
    assert {job.model for job in jobs} == {"bg-removal"}
    assert all(set(job.params) == {"image"} for job in jobs)


def test_the_real_geneval_gives_2212_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENEVAL_FILE", str(real_file("GENEVAL_FILE")))
    jobs = expand("geneval")
    assert len(jobs) == 2212
    assert jobs[-1].output == "00552/samples/0003.{ext}"


def test_the_real_partiprompts_give_1632_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTIPROMPTS_FILE", str(real_file("PARTIPROMPTS_FILE")))
    assert len(expand("partiprompts")) == 1632


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_manifest_names_a_schema_that_is_there(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == ROOT / "schemas" / "manifest.json"
