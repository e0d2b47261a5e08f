"""The files that jobs send: uploaded once for each content, or put into the request itself."""

from runner.inputs.inputs import InputRules, Inputs

__all__ = ["InputRules", "Inputs"]
