"""YAML files with line numbers, and faults told in plain words.

Scalars follow YAML 1.2's core schema: only `true` and `false` are booleans, `16:9`, `no` and
`2026-01-31` stay text. Keys are always text. There are no custom tags.
"""

from runner.documents.environment import fill_environment
from runner.documents.places import Key, Located, Place, path_text
from runner.documents.problems import MOST_PROBLEMS, ProblemList, did_you_mean
from runner.documents.scalars import kind_of, scalar_of
from runner.documents.text_file import missing_file, open_text
from runner.documents.validation import fault_words, keys_of, validation_problems
from runner.documents.yaml_file import YamlFile

__all__ = [
    "MOST_PROBLEMS",
    "Key",
    "Located",
    "Place",
    "ProblemList",
    "YamlFile",
    "did_you_mean",
    "fault_words",
    "fill_environment",
    "keys_of",
    "kind_of",
    "missing_file",
    "open_text",
    "path_text",
    "scalar_of",
    "validation_problems",
]
