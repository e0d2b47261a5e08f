"""Files as parameters: patterns become jobs, contents are identities, faults name file and line."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import faults_of, jobs_of

from runner.errors import InputError
from runner.job import Job
from runner.manifest import inputs as module
from runner.manifest import load

PNG = b"\x89PNG\r\n\x1a\n"
CALM = settings(deadline=None, max_examples=40)
FOLDER = "model: bg-removal\nprompts:\n  - file: photos/*.png\n"
NAMES = st.text("abcXYZ019 -_", min_size=1, max_size=12).filter(lambda name: name == name.strip())


def png(note: str = "") -> bytes:
    return PNG + note.encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def jobs_in(folder: Path, text: str, files: dict[str, bytes], **more: Any) -> list[Job]:
    """The jobs of a manifest in a folder with these files."""
    for name, content in {"animals.yaml": text.encode(), **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return list(load(folder / "animals.yaml").jobs(**more))


def faults_in(folder: Path, text: str, files: dict[str, bytes]) -> list[str]:
    with pytest.raises(InputError) as caught:
        jobs_in(folder, text, files)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_a_folder_of_photos_is_a_manifest_of_three_lines(tmp_path: Path) -> None:
    files = {f"photos/{name}.png": png(name) for name in ("c", "a", "b")}
    jobs = jobs_in(
        tmp_path, FOLDER, {**files, "photos/.hidden.png": png("x"), "photos/x.txt": b"x"}
    )
    assert [job.source for job in jobs] == [f"photos/{name}.png" for name in "abc"]
    for job, name in zip(jobs, "abc", strict=True):
        assert job.params == {"image": {"sha256": sha256(png(name))}}
        assert job.inputs == {f"photos/{name}.png": sha256(png(name))}
        assert job.meta == {"file": f"photos/{name}.png", "stem": name}


def test_the_parameter_can_be_named_and_the_file_be_told_in_words(tmp_path: Path) -> None:
    text = """
model: m
params: {style: {file: style.png}}
prompts:
  - prompt: "{{stem}} in winter"
    id: "{{stem}}"
    params: {init_image: {file: "photos/*.png"}}
output: "{stem}-{init_image}-{style}.{ext}"
"""
    files = {"style.png": png("s"), "photos/fox.png": png("f")}
    (job,) = jobs_in(tmp_path, text, files)
    assert job.params == {
        "prompt": "fox in winter",
        "init_image": {"sha256": sha256(png("f"))},
        "style": {"sha256": sha256(png("s"))},
    }
    assert (job.id, job.output) == ("fox", "fox-fox-style.{ext}")


def test_a_video_or_audio_is_the_parameter_of_that_name(tmp_path: Path) -> None:
    text = "model: m\nprompts:\n  - file: a.mp4\n  - file: b.mp3\n"
    files = {"a.mp4": b"\0\0\0\x18ftypisom....", "b.mp3": b"ID3...."}
    assert [list(job.params) for job in jobs_in(tmp_path, text, files)] == [["video"], ["audio"]]


def test_a_column_holds_the_paths_of_files() -> None:
    text = "model: m\nprompts: [{file: a.csv, columns: {Photo: file.image}}]"
    files: dict[str, str | bytes] = {
        "a.csv": "prompt,Photo,file.mask,note\na fox,fox.png,mask.png,x\nan owl,,,y\n",
        "fox.png": png("fox"),
        "mask.png": png("mask"),
    }
    fox, owl = jobs_of(text, files)
    assert fox.params == {
        "prompt": "a fox",
        "image": {"sha256": sha256(png("fox"))},
        "mask": {"sha256": sha256(png("mask"))},
    }
    assert (fox.meta, owl.params) == ({"note": "x"}, {"prompt": "an owl"})


def test_files_stand_anywhere_in_a_parameter_and_paths_are_templates() -> None:
    text = """
model: m
matrix: {view: [{file: one.png}, {file: two.png}]}
prompts:
  - {prompt: "{{sku}}", file: rows.jsonl, params: {refs: [{file: "{{sku}}.png"}, plain]}}
"""
    rows = '{"sku": "one", "params": {"extra": {"deep": {"file": "two.png"}}}}'
    files: dict[str, str | bytes] = {"rows.jsonl": rows, "one.png": png("1"), "two.png": png("2")}
    one, two = ({"sha256": sha256(png(n))} for n in "12")
    jobs = jobs_of(text, files)
    assert [job.params["view"] for job in jobs] == [one, two]
    assert jobs[0].params["refs"] == [one, "plain"]
    assert jobs[0].params["extra"] == {"deep": two}


def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    text = "model: m\nprompts:\n  - file: 'a[1].png'\n"
    (job,) = jobs_of(text, {"a[1].png": png("x"), "a1.png": png("y")})
    assert job.inputs == {"a[1].png": sha256(png("x"))}


def test_a_file_as_a_listing_shows_it_is_that_file_while_it_holds_the_same() -> None:
    text = "model: m\nprompts:\n  - params: {image: {file: a.png, sha256: %s}}\n"
    (job,) = jobs_of(text % sha256(png("x")), {"a.png": png("x")})
    assert job.params == {"image": {"sha256": sha256(png("x"))}}
    (line,) = faults_of(text % sha256(png("x")), {"a.png": png("y")})
    assert "animals.yaml:3: params.image: `a.png` does not hold what its `sha256` says" in line


# Identity


@CALM
@given(st.dictionaries(NAMES, st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_the_content_is_the_identity_whatever_the_files_are_called(
    contents: dict[str, int], data: st.DataObject
) -> None:
    renamed = data.draw(
        st.lists(NAMES, min_size=len(contents), max_size=len(contents), unique=True)
    )
    before = {f"photos/{name}.png": png(str(n)) for name, n in contents.items()}
    after = {
        f"photos/sub/{name}.png": png(str(n))
        for name, n in zip(renamed, contents.values(), strict=True)
    }
    moved = FOLDER.replace("photos/*", "photos/**/*")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = jobs_in(Path(one), FOLDER, before), jobs_in(Path(two), moved, after)
    assert [job.source for job in first] == sorted(before)
    assert sorted(job.id for job in first) == sorted(job.id for job in second)
    assert len({job.id for job in first}) == len(set(contents.values()))
    for job in first:
        (file,) = job.inputs
        assert job.params == {"image": {"sha256": sha256(before[file])}}


def test_another_content_is_another_job(tmp_path: Path) -> None:
    (before,) = jobs_in(tmp_path, FOLDER, {"photos/a.png": png("1")})
    (after,) = jobs_in(tmp_path, FOLDER, {"photos/a.png": png("2")})
    assert before.id != after.id


def test_the_fingerprint_tells_what_a_pattern_matches(tmp_path: Path) -> None:
    jobs_in(tmp_path, FOLDER, {"photos/a.png": png("1")})
    manifest = load(tmp_path / "animals.yaml")
    before = manifest.fingerprint()
    assert manifest.fingerprint() == before
    (tmp_path / "photos" / "b.png").write_bytes(png("2"))
    assert manifest.fingerprint() != before


def test_each_file_is_looked_at_once(tmp_path: Path) -> None:
    looked: list[Path] = []

    def look(path: Path) -> module.Content:
        looked.append(path)
        return module.look(path)

    text = "model: m\nparams: {image: {file: a.png}}\nprompts: [fox, owl, hare]\n"
    assert len(jobs_in(tmp_path, text, {"a.png": png()}, look=look)) == 3
    assert looked == [tmp_path / "a.png"]


# Faults


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("file: photos/*.jpg", "`photos/*.jpg` matches no file; its folder holds `.PNG`, `.mp3`"),
        ("file: pics/*.jpg", "matches no file: there is no folder `pics`"),
        ("file: photos/b.PNG", "`photos/b.PNG` cannot be found: there is no such file, did you"),
        ("file: photos", "`photos` is a folder, not a file"),
        ("file: empty.png", "`empty.png` is empty"),
        ("file: large.png", "`large.png` has 0.2 MB; at most 0 MB can be sent"),
        ("file: page.jpg", "`page.jpg` is no picture, audio or video"),
        ("file: words.doc", "`words.doc` is no picture, audio or video"),
        ("params: {image: {file: gone.png}}", "`gone.png` cannot be found: there is no such file"),
        ("params: {a: {file: photos/*.PNG}, b: {file: p/*}}", "`a` and `b` both have a pattern"),
        ("params: {a: [{file: photos/*.PNG}]}", "patterns stand in an entry's `file` or right"),
        ("params: {a: {file: photos/*.PNG}}\n    file: a.txt", "crossed with a file of prompts"),
        ("params: {image: x}\n    file: photos/*.PNG", "`file` is the parameter `image`"),
        ("columns: {A: prompt}\n    file: photos/*.PNG", "`columns` describe a file of prompts"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, fault: str
) -> None:
    monkeypatch.setattr(module, "MOST_INPUT_BYTES", 200_000)
    files = {
        "photos/a.PNG": png("a"),
        "photos/a.mp3": b"ID3",
        "empty.png": b"",
        "large.png": png("x" * 200_001),
        "page.jpg": b"<!doctype html><title>Sign in</title>",
        "words.doc": b"only words",
        "a.txt": b"a fox",
    }
    (line,) = faults_in(tmp_path, f"model: m\nprompts:\n  - {entry}\n", files)
    assert line.startswith(("animals.yaml:3: ", "animals.yaml:4: "))
    assert fault in line


def test_a_file_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.hashlib, "file_digest", refuse)
    (line,) = faults_in(tmp_path, FOLDER, {"photos/a.png": png()})
    assert "animals.yaml:3: image: `photos/a.png` cannot be read: Permission denied" in line


def test_a_name_that_no_text_can_hold_is_told(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    try:
        (tmp_path / "photos" / "a\udcff.png").write_bytes(png())
    except OSError:
        pytest.skip("this file system takes no such name")
    (line,) = faults_in(tmp_path, FOLDER, {})
    assert "animals.yaml:3: image: `photos/a?.png` has a name that is no UTF-8 text" in line


def test_a_missing_file_of_a_row_is_told_with_the_row() -> None:
    csv = "prompt,file.image\nfox,a.png\nowl,b.png\n"
    (line,) = faults_of(
        "model: m\nprompts: [{file: a.csv}]", {"a.csv": csv, "a.png": png("an animal")}
    )
    assert line.startswith("a.csv:3: image: `b.png` cannot be found")


def test_a_known_model_that_takes_no_file_says_so_before_any_is_read(tmp_path: Path) -> None:
    text = FOLDER.replace("bg-removal", "imagen").replace("- file", "- prompt: a fox\n    file")
    (line,) = faults_in(tmp_path, text, {f"photos/{n}.png": png(str(n)) for n in range(30)})
    assert "model `imagen` has no parameter `image`" in line


def test_a_column_can_be_no_file_without_a_parameter() -> None:
    (line,) = faults_of("model: m\nprompts: [{file: a.csv, columns: {A: file.}}]", {"a.csv": "A\n"})
    assert "`file.` is nothing a column can be" in line
    both = "model: m\nprompts: [{file: a.csv, columns: {A: file.x, B: params.x}}]"
    (line,) = faults_of(both, {"a.csv": "A,B\n"})
    assert "two columns cannot both be" in line
