"""From an entry and its rows to jobs: layers of parameters, names filled in, ids and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.documents import Place, did_you_mean
from runner.errors import Problem
from runner.job import Job
from runner.manifest import catalogue, identity
from runner.manifest.batch import Batch, ExpansionError, Origin
from runner.manifest.crossing import Choice, choices, names_in_matrix
from runner.manifest.definitions import Entry
from runner.manifest.inputs import UnusableInput, files_in, is_file, names_of
from runner.manifest.naming import BUILTIN_FIELDS, NamingError, UnknownField
from runner.manifest.rows import NOTHING, Row
from runner.manifest.template import Template, TemplateError, fill_value, names_in, plain_text

_MOST_PREFIX_BYTES = 200
_NO_ID = Template(("",), ())


@dataclass(frozen=True, slots=True)
class _Layers:
    """A row's parameters before crossing; `base` is what no axis of `matrix` changes."""

    row: Row
    prompt: Template | None
    id: Template
    base: Mapping[str, Any]
    matrix: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class _Request:
    """One wanted request with the names that its id and output may use."""

    row: Row
    params: Mapping[str, Any]
    vars: Mapping[str, Any]
    id: str | None

    def value_of(self, field: str) -> Any:
        """The value of a parameter, column or var, in this order; UnknownField if none."""
        for names in (self.params, self.row.columns, self.vars, self._names_of_file()):
            if field in names:
                return _as_name(names[field])
        raise UnknownField(field)

    def known_names(self) -> Iterable[str]:
        """What `value_of` knows."""
        return {*self.params, *self.row.columns, *self.vars, *self._names_of_file()}

    def _names_of_file(self) -> Mapping[str, str]:
        file = next(files_in(self.params), None)
        return names_of(file) if file is not None else {}


@dataclass(frozen=True, slots=True)
class _QuickPath:
    """What rows that bring nothing but a prompt have in common."""

    params: Mapping[str, Any]
    digest: identity.PromptIdentity
    output_prefix: str


class Plan:
    """One entry made ready, so that each of its rows costs little."""

    def __init__(self, batch: Batch, entry: Entry, place: Place, origin: Origin) -> None:
        self._batch = batch
        self._entry = entry
        self._place = place
        self._origin = origin
        self._model = entry.model or batch.header.model or ""
        self._prompt = self._template(entry.prompt, "prompt")
        self._id = self._template(entry.id, "id")
        self._tags = tuple(dict.fromkeys((*batch.header.tags, *entry.tags)))
        self._repeat = entry.repeat or batch.header.repeat
        self._quick = self._quick_path()

    def _template(self, text: str | None, column: str) -> Template | None:
        try:
            return None if text is None else Template.parse(text)
        except TemplateError as error:
            line = self._place.line_of((column,))
            raise ExpansionError(Problem(self._batch.shown, str(error), line, column)) from None

    def _quick_path(self) -> _QuickPath | None:
        header = self._batch.header
        params = {**header.params, **self._entry.params}
        params.pop("prompt", None)
        prefix = self._batch.output.prefix_of_id
        if prefix is None or len(prefix.encode()) > _MOST_PREFIX_BYTES or self._prompt or self._id:
            return None
        if not {*header.matrix} <= {"prompt", *self._entry.params} or "{{" in plain_text(params):
            return None
        if any(catalogue.value_faults(self._model, params)) or any(files_in(params)):
            return None
        digest = identity.PromptIdentity(self._batch.name, self._model, params)
        return _QuickPath(params, digest, prefix)

    def jobs(self, row: Row, index: int) -> Iterator[Job]:
        """The jobs of a row, the first at `index`; ExpansionError if it does not make any."""
        prompt = row.prompt
        if (
            self._quick
            and prompt
            and not row.columns
            and "{{" not in prompt
            and not prompt.isspace()
        ):
            return self._quick_jobs(self._quick, prompt, row.line, index)
        return self._crossed_jobs(row, index)

    def _quick_jobs(self, quick: _QuickPath, prompt: str, line: int, index: int) -> Iterator[Job]:
        params = {"prompt": prompt, **quick.params}
        source = f"{self._origin.given}:{line}"
        name = self._batch.name
        for repeat in range(self._repeat):
            try:
                id_ = quick.digest.content_id(prompt, repeat)
            except UnicodeEncodeError:
                raise self._origin.unsendable(line) from None
            output = f"{quick.output_prefix}{id_}.{{ext}}"
            yield Job(
                id_, name, self._model, params, index, repeat, self._tags, NOTHING, output, source
            )

    def _crossed_jobs(self, row: Row, index: int) -> Iterator[Job]:
        try:
            layers = self._layers(row)
            for offset, choice in enumerate(self._choices(layers)):
                request = self._request(layers, choice)
                self._check(request)
                yield from self._repeats(request, index + offset, *self._content_of(request))
        except TemplateError as error:
            raise self._origin.row_error(row.line, str(error)) from None

    def _layers(self, row: Row) -> _Layers:
        header = self._batch.header
        prompt = self._prompt
        if prompt is None and row.prompt is not None:
            prompt = Template.parse(row.prompt)
        id_ = self._id or (_NO_ID if row.id is None else Template.parse(row.id))
        base = {**header.params, **self._entry.params, **row.params}
        pinned = {*self._entry.params, *row.params}
        if prompt is not None:
            pinned.add("prompt")
            base.pop("prompt", None)
        matrix = {axis: values for axis, values in header.matrix.items() if axis not in pinned}
        base = {key: value for key, value in base.items() if key not in matrix}
        return _Layers(row, prompt, id_, base, matrix)

    def _choices(self, layers: _Layers) -> Iterator[Choice]:
        header_vars, columns = self._batch.header.vars, layers.row.columns
        params = {*layers.base, *layers.matrix, *(("prompt",) if layers.prompt else ())}
        texts = {*(layers.prompt.names if layers.prompt else ()), *names_in(layers.base)}
        known = {*columns, *header_vars}
        unknown = texts.union(names_in_matrix(layers.matrix)) - known
        unknown.update(name for name in layers.id.names if name not in known | params)
        if unknown:
            raise self._unknown_name(layers, min(unknown), known)
        fields = {*self._batch.output.fields} - params - {*BUILTIN_FIELDS}
        free_vars = {name: v for name, v in header_vars.items() if name not in columns}
        return choices(free_vars, layers.matrix, texts | {*layers.id.names} | fields)

    def _request(self, layers: _Layers, choice: Choice) -> _Request:
        row = layers.row
        values = {**choice.vars, **row.columns}
        params = {**layers.base, **choice.axes}
        filled = {key: fill_value(value, values) for key, value in params.items()}
        if layers.prompt is not None:
            filled = {"prompt": layers.prompt.fill(values), **filled}
        id_ = None
        if layers.id is not _NO_ID:
            id_ = layers.id.fill({**filled, **values}, _id_text)
            id_ += "".join(self._suffixes(layers, choice, filled))
            if fault := identity.id_fault(id_):
                raise self._origin.row_error(row.line, fault, "id")
        return _Request(row, filled, choice.vars, id_)

    def _suffixes(
        self, layers: _Layers, choice: Choice, params: Mapping[str, Any]
    ) -> Iterator[str]:
        """What tells apart the jobs that a named entry is crossed into."""
        for name, value in choice.vars.items():
            if name not in layers.id.names and len(self._batch.header.vars[name]) > 1:
                yield f"-{identity.slug(plain_text(value))}"
        for axis, values in layers.matrix.items():
            if axis not in layers.id.names and len(values) > 1:
                yield f"-{identity.slug(plain_text(_as_name(params[axis])))}"

    def _check(self, request: _Request) -> None:
        params, row = request.params, request.row
        for name, message in catalogue.missing_faults(self._model, params):
            raise self._origin.row_error(row.line, message, name)
        for name, message in catalogue.value_faults(self._model, params):
            file, line, column = self._origin_of(row, name)
            raise ExpansionError(Problem(file, message, line, column))
        if not params:
            raise self._origin.row_error(row.line, "has neither a prompt nor parameters")

    def _content_of(self, request: _Request) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """The parameters with files as what they hold, and the sha256 of each by its name."""
        if not any(files_in(request.params)):
            return request.params, NOTHING
        params, files = {}, dict[str, str]()
        for name, value in request.params.items():
            try:
                params[name] = self._batch.inputs.resolved(value, files)
            except UnusableInput as error:
                file, line, column = self._origin_of(request.row, name)
                raise ExpansionError(Problem(file, str(error), line, column)) from None
        return params, files

    def _origin_of(self, row: Row, name: str) -> tuple[str, int, str]:
        """Where the value of a parameter was written: file, line and key."""
        batch, header = self._batch, self._batch.header
        if name in row.params or (name == "prompt" and row.prompt is not None):
            return self._origin.shown, row.line, name
        if name in self._entry.params:
            return batch.shown, self._place.line_of(("params", name)), f"params.{name}"
        if name == "prompt" and self._prompt is not None:
            return self._origin.shown, row.line, name
        section = "matrix" if name in header.matrix else "params"
        return batch.shown, batch.place.line_of((section, name)), f"{section}.{name}"

    def _repeats(
        self, request: _Request, index: int, params: Mapping[str, Any], files: Mapping[str, str]
    ) -> Iterator[Job]:
        row = request.row
        meta = {**request.vars, **row.meta} if request.vars else row.meta
        tags = tuple(dict.fromkeys((*self._tags, *row.tags))) if row.tags else self._tags
        source = row.source or f"{self._origin.given}:{row.line}"
        for repeat in range(row.repeat or self._repeat):
            id_ = self._id_of(request, params, repeat)
            builtin = {"id": id_, "model": self._model, "index": index, "repeat": repeat}
            builtin["tag"] = tags[0] if tags else row.columns.get("tag", "untagged")
            output = self._output(request, builtin)
            yield Job(
                id_,
                self._batch.name,
                self._model,
                params,
                index,
                repeat,
                tags,
                meta,
                output,
                source,
                files,
            )

    def _id_of(self, request: _Request, params: Mapping[str, Any], repeat: int) -> str:
        if request.id is not None:
            return identity.repeat_id(request.id, repeat)
        try:
            return identity.content_id(self._batch.name, self._model, params, repeat)
        except ValueError:
            raise self._origin.unsendable(request.row.line) from None

    def _output(self, request: _Request, builtin: Mapping[str, Any]) -> str:
        batch = self._batch

        def value_of(field: str) -> Any:
            return builtin[field] if field in builtin else request.value_of(field)

        try:
            return batch.output.format(value_of)
        except UnknownField as error:
            known = sorted({*BUILTIN_FIELDS, *request.known_names()})
            near = did_you_mean(error.field, known) or f"; there are {', '.join(known)}"
            message = f"has no value for `{{{error.field}}}`{near}"
            same_as: object = ("output", error.field)
        except NamingError as error:
            message, same_as = str(error), ("output", str(error))
        row = request.row
        message += f" (for the job of {row.source or f'{self._origin.given}:{row.line}'})"
        line = batch.place.line_of(("output",))
        raise ExpansionError(Problem(batch.shown, message, line, "output"), same_as)

    def _unknown_name(self, layers: _Layers, name: str, known: set[str]) -> ExpansionError:
        listed = ", ".join(f"`{known_name}`" for known_name in sorted(known))
        hint = did_you_mean(name, known) or (f"; there are {listed}" if listed else "")
        message = f"nothing fills `{{{{{name}}}}}`{hint or '; there are no `vars`'}"
        row = layers.row
        for key, names in self._names_of_entry().items():
            # Not the row's fault: told once for all rows, where the entry says it.
            if name in names and (row.source or self._origin.shown != self._batch.shown):
                place = Problem(self._batch.shown, "", self._place.line_of((key,)), key)
                row_name = row.source or f"{self._origin.given}:{row.line}"
                message += f" (for the row of {row_name})"
                return ExpansionError(replace(place, message=message), (place, name))
        return self._origin.row_error(row.line, message)

    def _names_of_entry(self) -> dict[str, tuple[str, ...]]:
        return {
            "prompt": self._prompt.names if self._prompt else (),
            "id": self._id.names if self._id else (),
            "params": names_in(self._entry.params),
        }


def _as_name(value: Any) -> Any:
    """A file as names take it: without folder and suffix."""
    return names_of(value["file"])["stem"] if is_file(value) else value


def _id_text(value: Any) -> str:
    text = plain_text(_as_name(value))
    return text if identity.id_fault(text) is None else identity.slug(text)
