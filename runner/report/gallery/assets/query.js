"use strict";
// What the reader asks for: words, filters, order, view; kept in the page's address, so that a link shows the same.

const view = {
  mode: "sheet", search: "", filters: new Map(), sort: "manifest", size: 1,
  x: "", y: "", z: "", tab: "", cause: null,
};

const FIXED_FIELDS = ["state", "manifest", "model", "tag"];
// A field with more values than this is searched, not ticked.
const MOST_CHOICES = 60;
const UNTAGGED = "(none)";

/** The values of a field of a job: `state`, `tag`, `params.seed`, `meta.season`, …; tags may be several. */
function valuesOf(job, field) {
  const dot = field.indexOf(".");
  if (dot > 0) {
    const group = field.slice(0, dot) === "params" ? job.params : job.meta;
    const value = group[field.slice(dot + 1)];
    return value === undefined ? [] : [plain(value)];
  }
  if (field === "tag") return job.tags.length ? job.tags : [UNTAGGED];
  if (field === "line") return [job.source ?? ""];
  if (field === "repeat") return [String(job.repeat + 1)];
  return [plain(job[field])];
}

/** How a field is called in front of people. */
function labelOf(field) {
  if (field === "line") return "manifest entry";
  return wordsOf(field.replace(/^(params|meta)\./, ""));
}

let knownFields = { version: -1, fields: new Map() };

/** Every field that differs between jobs, with how many jobs have each value: numbers by size, others as written. */
function fields() {
  if (knownFields.version === store.version) return knownFields.fields;
  const found = new Map();
  const add = (field, value) => {
    let values = found.get(field);
    if (!values) found.set(field, values = new Map());
    values.set(value, (values.get(value) ?? 0) + 1);
  };
  for (const job of store.jobs.values()) {
    for (const field of FIXED_FIELDS) for (const value of valuesOf(job, field)) add(field, value);
    for (const name in job.params) add(`params.${name}`, plain(job.params[name]));
    for (const name in job.meta) add(`meta.${name}`, plain(job.meta[name]));
    add("line", job.source ?? "");
    add("repeat", String(job.repeat + 1));
  }
  for (const [field, values] of found) {
    if (values.size < 2) found.delete(field);
    else if ([...values.keys()].every((value) => value !== "" && !Number.isNaN(Number(value)))) {
      found.set(field, new Map([...values].sort(([a], [b]) => a - b)));
    }
  }
  knownFields = { version: store.version, fields: found };
  return found;
}

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Lower case, without accents: what search compares. */
function folded(text) {
  const lower = text.toLowerCase();
  // eslint-disable-next-line no-control-regex
  return /^[\x00-\x7f]*$/.test(lower) ? lower : lower.normalize("NFKD").replace(/\p{M}/gu, "");
}

function searchable(job) {
  job.searchable ??= folded([
    job.prompt, job.id, job.model, ...job.tags, plain(job.params.negative_prompt),
    ...Object.values(job.meta).map(plain),
  ].join("\n"));
  return job.searchable;
}

function matches(job, words) {
  for (const [field, wanted] of view.filters) {
    if (wanted.size && !valuesOf(job, field).some((value) => wanted.has(value))) return false;
  }
  if (view.cause && (job.state !== view.cause.state || (job.error ?? "") !== view.cause.reason)) return false;
  if (!words.length) return true;
  const text = searchable(job);
  return words.every((word) => text.includes(word));
}

const latencyOf = (job) => job.completed && job.submitted ? job.completed - job.submitted : null;
const descending = (value) => (a, b) => (value(b.job) ?? -Infinity) - (value(a.job) ?? -Infinity) || 0;
const ORDERS = {
  newest: descending((job) => job.completed ?? job.submitted),
  oldest: (a, b) => (a.job.completed ?? a.job.submitted ?? Infinity) - (b.job.completed ?? b.job.submitted ?? Infinity) || 0,
  prompt: (a, b) => collator.compare(nameOf(a.job), nameOf(b.job)),
  model: (a, b) => collator.compare(a.job.model, b.job.model),
  cost: descending((job) => job.cost),
  latency: descending(latencyOf),
};

/** The items that were asked for, in order. */
function wantedItems() {
  const words = folded(view.search).split(/\s+/).filter(Boolean);
  const items = store.items.filter((item) => matches(item.job, words));
  const order = ORDERS[view.sort];
  return order ? items.sort(order) : items;
}

const PLAIN_KEYS = ["mode", "search", "sort", "x", "y", "z", "tab"];
const DEFAULTS = { mode: "sheet", sort: "manifest" };

function writeAddress() {
  const parts = new URLSearchParams();
  for (const key of PLAIN_KEYS) if (view[key] && view[key] !== DEFAULTS[key]) parts.set(key, view[key]);
  for (const [field, wanted] of view.filters) for (const value of wanted) parts.append(`is.${field}`, value);
  const fragment = parts.toString();
  if (fragment === location.hash.slice(1)) return;
  // A browser may refuse so many changes in a moment; the page itself does not depend on it.
  try {
    history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  } catch { /* the next change is told again */ }
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const key of PLAIN_KEYS) view[key] = parts.get(key) ?? DEFAULTS[key] ?? "";
  if (!["sheet", "grid", "attention"].includes(view.mode)) view.mode = "sheet";
  if (!(view.sort in ORDERS)) view.sort = "manifest";
  view.filters = new Map();
  for (const [key, value] of parts) if (key.startsWith("is.")) setFilter(key.slice(3), value, true);
}

function setFilter(field, value, wanted) {
  const values = view.filters.get(field) ?? new Set();
  if (wanted) values.add(value); else values.delete(value);
  if (values.size) view.filters.set(field, values); else view.filters.delete(field);
}
