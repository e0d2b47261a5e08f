"""What editors say of a manifest or config by its schema is what reading it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runner.config import config_schema, load_settings
from runner.documents import YamlFile
from runner.errors import InputError
from runner.manifest import load, manifest_schema

ROOT = Path(__file__).parent.parent
MANIFESTS = sorted((ROOT / "jobs").glob("*.yaml"))


def refused(schema: dict[str, Any], path: Path) -> bool:
    """Whether the schema refuses a file, as an editor would that reads YAML 1.2."""
    value = YamlFile(path, path.name).read().value
    return not jsonschema.Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_manifest_that_comes_along_is_well(path: Path) -> None:
    assert not refused(manifest_schema(), path)


def test_the_example_config_is_well() -> None:
    assert not refused(config_schema(), ROOT / "config.example.yaml")


HEAD = "model: imagen\nprompts: [a fox]\n"
WELL = [
    HEAD,
    HEAD + "name: night 1\n",
    HEAD + "name: Füchse_2.a-b  c\n",
    HEAD + "params: {aspect_ratio: '1:1', seed: 7}\n",
    HEAD + "vars: {season: [spring, 7], place: here}\n",
    HEAD + "matrix: {seed: [1, 2], aspect_ratio: '1:1'}\n",
    HEAD + "repeat: 3\ntags: [a, 7]\n",
    HEAD + "tags: a, b\n",
    "prompts: [{prompt: a fox, model: imagen, repeat: 2, tags: x, id: fox, params: {seed: 1}}]\n",
    "model: imagen\nprompts:\n  - file: list.csv\n    columns: {Text: prompt, S: params.seed}\n",
    HEAD + "params:\n",
]
FAULTY = [
    "",
    "- a fox\n",
    "a fox\n",
    "model: imagen\n",
    "model: imagen\nprompts: []\n",
    "model: imagen\nprompts: a fox\n",
    "model: imagen\nprompts: {a: fox}\n",
    "model: imagen\nprompts: [7]\n",
    "model: imagen\nprompts: [[a fox]]\n",
    "model: imagen\nprompts: [{prompt: 7}]\n",
    "model: imagen\nprompts: [{promt: a fox}]\n",
    "model: imagen\nprompts: [{prompt: a fox, repeat: 0}]\n",
    "model: imagen\nprompts: [{prompt: a fox, repeat: two}]\n",
    "model: imagen\nprompts: [{prompt: a fox, params: [1]}]\n",
    "model: imagen\nprompts: [{prompt: a fox, tags: {a: b}}]\n",
    "model: imagen\nprompts: [{file: list.csv, columns: {Text: promt}}]\n",
    "model: imagen\nprompts: [{file: list.csv, columns: {Text: params.}}]\n",
    "model: imagen\nprompts: [{file: ''}]\n",
    HEAD + "promts: [an owl]\n",
    HEAD + "parameters: {seed: 1}\n",
    HEAD + "params: [seed]\n",
    HEAD + "repeat: 0\n",
    HEAD + "repeat: 1.5\n",
    HEAD + "repeat: true\n",
    HEAD + "repeat: 100001\n",
    HEAD + "vars: [spring]\n",
    HEAD + "vars: {season: []}\n",
    HEAD + "vars: {season: }\n",
    HEAD + "vars: {season: [{a: b}]}\n",
    HEAD + "matrix: {seed: []}\n",
    HEAD + "tags: [[a]]\n",
    HEAD + "tags: 7\n",
    HEAD + "name: a/b\n",
    HEAD + "name: ''\n",
    HEAD + "name: night.\n",
    HEAD + "name: 'night '\n",
    HEAD + "name: 'night: 1'\n",
    HEAD + "name: .hidden\n",
    HEAD + "name: 7\n",
    HEAD + "output: ''\n",
    HEAD + "output: 7\n",
    "model: a b\nprompts: [a fox]\n",
    "model: 7\nprompts: [a fox]\n",
    "model: [imagen]\nprompts: [a fox]\n",
]


@pytest.mark.parametrize("text", WELL + FAULTY)
def test_a_manifest_has_one_verdict(tmp_path: Path, text: str) -> None:
    path = tmp_path / "night.yaml"
    path.write_text(text, "utf-8")
    (tmp_path / "list.csv").write_text("Text,S\na fox,7\n", "utf-8")
    is_faulty = text in FAULTY

    assert reading_fails(lambda: list(load(path).jobs())) == is_faulty
    assert refused(manifest_schema(), path) == is_faulty


def reading_fails(read: Any) -> bool:
    try:
        read()
    except InputError:
        return True
    return False


CONFIGS_WELL = [
    "run: {concurrency: 4, budget: 0.5, prices: {imagen: 0.04}, drain: 15m, breaker: 0}\n",
    "api: {base_url: 'https://api.segmind.com', key: SG_1, rpm: 60, timeout: 90}\n",
    "ledger: my.db\noutput: pictures\n",
    "run: {on_doubt: hold, on_expired: resubmit, doubt_wait: 1h30m}\n",
    "notify: ['ntfy://topic']\n",
    "notify: ntfy://topic\n",
    "notify: {urls: ['ntfy://topic'], on: [end, idle], prompts: true}\n",
    "run:\n",
    "api:\n  key:\n  rpm:\n",
    "api: {rpm: '${RPM}', timeout: '${WAIT}', base_url: '${WHERE}'}\n",
    "run: {drain: 500ms, retention: 1.5h, doubt_wait: 0.5}\n",
]
CONFIGS_FAULTY = [
    "- run\n",
    "runs: {concurrency: 4}\n",
    "run: {concurency: 4}\n",
    "run: {concurrency: 0}\n",
    "run: {concurrency: many}\n",
    "run: {concurrency: 1.5}\n",
    "run: {concurrency: true}\n",
    "run: {budget: -1}\n",
    "run: {budget: much}\n",
    "run: {prices: {imagen: -1}}\n",
    "run: {prices: [imagen]}\n",
    "run: {breaker: -1}\n",
    "run: {on_doubt: ask}\n",
    "run: {drain: soon}\n",
    "run: {drain: 0}\n",
    "run: {drain: 1h soon}\n",
    "run: {drain: true}\n",
    "run: 4\n",
    "api: {rpm: 0}\n",
    "api: {base_url: api.segmind.com}\n",
    "api: {base_url: 'ftp://api.segmind.com'}\n",
    "api: {base_url: 'https://api.segmind.com/v2'}\n",
    "api: {timeout: 5 minutes}\n",
    "ledger: 7\n",
    "output: [a]\n",
    "notify: 7\n",
    "notify: [7]\n",
    "notify: {url: ['ntfy://topic']}\n",
    "notify: {urls: ['ntfy://topic'], on: [ending]}\n",
    "notify: {urls: ['ntfy://topic'], prompts: perhaps}\n",
]


@pytest.mark.parametrize("text", CONFIGS_WELL + CONFIGS_FAULTY)
def test_a_config_has_one_verdict(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, "utf-8")
    is_faulty = text in CONFIGS_FAULTY

    environ = {"RPM": "60", "WAIT": "90s", "WHERE": "https://api.segmind.com"}
    assert reading_fails(lambda: load_settings(path, environ, {})) == is_faulty
    assert refused(config_schema(), path) == is_faulty
