"use strict";
// The grid: any two things in which jobs differ as columns and rows, a third as tabs. What is missing says why.

const grid = {
  element: document.getElementById("grid"), plot: null, inner: null,
  xs: [], ys: [], cells: new Map(), rows: new Map(), active: [0, 0], items: [], drawn: "",
};
const MOST_COLUMNS = 60;

/** Fields fit to be an axis, the likeliest first: parameters, then vars and columns, model, repeat. */
function axisFields() {
  const rank = (field) => field === "params.prompt" || field === "params.seed" ? 4
    : field.startsWith("params.") ? 0 : field.startsWith("meta.") ? 1 : field === "model" ? 0 : 3;
  return [...fields()].filter(([field]) => field !== "state")
    .sort(([a, first], [b, second]) => rank(a) - rank(b) || first.size - second.size).map(([field]) => field);
}

function chooseAxes() {
  const known = axisFields();
  const isKnown = (field) => known.includes(field);
  if (!isKnown(view.x) || !isKnown(view.y) || view.x === view.y) [view.x, view.y] = bestAxes(known);
  if (view.z && (!isKnown(view.z) || view.z === view.x || view.z === view.y)) view.z = "";
}

/** The two fields whose grid has the fewest empty cells and shows the most jobs, few to a cell. */
function bestAxes(known) {
  const jobs = [...store.jobs.values()].slice(0, 3000);
  let best = ["", ""], most = 0;
  for (const x of known.filter((field) => fields().get(field).size <= 12).slice(0, 8)) {
    for (const y of known.slice(0, 12)) {
      if (x === y || fields().get(x).size > fields().get(y).size) continue;
      const cells = new Set(), xs = new Set(), ys = new Set();
      let shown = 0;
      for (const job of jobs) {
        const [[first], [second]] = [valuesOf(job, x), valuesOf(job, y)];
        if (first === undefined || second === undefined) continue;
        shown += 1;
        cells.add(`${first}\n${second}`);
        xs.add(first);
        ys.add(second);
      }
      const score = cells.size ** 2 / (xs.size * ys.size) / jobs.length;
      if (xs.size > 1 && ys.size > 1 && score > most * 1.001) [best, most] = [[x, y], score];
    }
  }
  return best;
}

/** What the prompts of one entry have in common, the rest as …. */
function entryLabels() {
  const prompts = new Map();
  for (const job of store.jobs.values()) {
    const line = job.source ?? "";
    if (!prompts.has(line)) prompts.set(line, new Set());
    if (prompts.get(line).size < 50) prompts.get(line).add(nameOf(job));
  }
  return new Map([...prompts].map(([line, texts]) => [line, commonText([...texts]) || line]));
}

function commonText(texts) {
  let [head, ...others] = texts, tail = head;
  if (!others.length) return head;
  for (const text of others) {
    let i = 0;
    while (i < head.length && head[i] === text[i]) i += 1;
    head = head.slice(0, i);
    i = 0;
    while (i < tail.length && tail[tail.length - 1 - i] === text[text.length - 1 - i]) i += 1;
    tail = tail.slice(tail.length - i);
  }
  return head.length + tail.length ? `${head}…${tail}` : "";
}

function drawGrid(items, isAsked) {
  if (view.mode !== "grid") return;
  const focused = grid.element.contains(document.activeElement) ? document.activeElement : null;
  // A list that is open would close under the hand.
  if (!isAsked && focused?.tagName === "SELECT") return;
  const wasInPlot = focused?.closest(".plot") && !isAsked;
  chooseAxes();
  if (!view.y) {
    grid.element.replaceChildren(h("p", { className: "empty" }, "A grid needs jobs that differ in two things: parameters, vars, columns, models or repeats."));
    return;
  }
  const tabs = tabValues(items);
  const shown = view.z ? items.filter((item) => valuesOf(item.job, view.z).includes(view.tab)) : items;
  sortIntoCells(shown);
  const kept = grid.plot && grid.drawn === axesKey() ? [grid.plot.scrollLeft, grid.plot.scrollTop] : [0, 0];
  grid.drawn = axesKey();
  grid.element.replaceChildren(axisBar(), ...(tabs.length ? [tabBar(tabs)] : []), ...gridNotes(shown), plotFrame());
  layoutGrid();
  grid.plot.scrollTo(...kept);
  paintGrid();
  if (wasInPlot) grid.plot.querySelector(".plot-body [tabindex='0']")?.focus({ preventScroll: true });
}

const axesKey = () => [view.x, view.y, view.z, view.tab].join("\n");

function tabValues(items) {
  if (!view.z) { view.tab = ""; return []; }
  const isInGrid = ({ job }) => valuesOf(job, view.x).length && valuesOf(job, view.y).length;
  const there = new Set(items.filter(isInGrid).flatMap((item) => valuesOf(item.job, view.z)));
  const values = [...fields().get(view.z).keys()].filter((value) => there.has(value));
  if (!values.includes(view.tab)) view.tab = values[0] ?? "";
  return values;
}

function sortIntoCells(items) {
  grid.cells = new Map();
  const [xs, ys] = [new Set(), new Set()];
  for (const item of items) {
    for (const x of valuesOf(item.job, view.x)) for (const y of valuesOf(item.job, view.y)) {
      const key = JSON.stringify([x, y]);
      if (!grid.cells.has(key)) grid.cells.set(key, []);
      grid.cells.get(key).push(item);
      xs.add(x);
      ys.add(y);
    }
  }
  const inOrder = (field, there) => [...fields().get(field).keys()].filter((value) => there.has(value));
  grid.allXs = inOrder(view.x, xs);
  grid.xs = grid.allXs.slice(0, MOST_COLUMNS);
  grid.ys = inOrder(view.y, ys);
  grid.items = grid.ys.flatMap((y) => grid.xs.flatMap((x) => cellItems(x, y)));
  grid.labels = view.x === "line" || view.y === "line" || view.z === "line" ? entryLabels() : new Map();
  grid.active = [Math.min(grid.active[0], Math.max(0, grid.ys.length - 1)), Math.min(grid.active[1], Math.max(0, grid.xs.length - 1))];
}

const cellItems = (x, y) => grid.cells.get(JSON.stringify([x, y])) ?? [];
const valueLabel = (field, value) => (field === "line" ? grid.labels.get(value) ?? value : value) || "(empty)";

function axisBar() {
  const choice = (key, label, optional) => {
    const select = h("select", { id: `axis-${key}` });
    if (optional) select.append(h("option", { value: "" }, "none"));
    for (const field of axisFields()) {
      select.append(h("option", { value: field }, `${labelOf(field)} (${number.format(fields().get(field).size)})`));
    }
    select.value = view[key];
    select.addEventListener("change", () => {
      const other = { x: "y", y: "x" }[key];
      // Choosing the other axis's field turns the grid.
      if (other && view[other] === select.value) view[other] = view[key];
      view[key] = select.value;
      refresh();
      document.getElementById(`axis-${key}`)?.focus();
    });
    return h("label", { className: "axis" }, h("span", {}, label), select);
  };
  const turn = h("button", { type: "button", id: "axis-turn", title: "Columns become rows and rows columns" }, "Swap");
  turn.addEventListener("click", () => { [view.x, view.y] = [view.y, view.x]; refresh(); document.getElementById("axis-turn")?.focus(); });
  return h("div", { className: "axes" }, choice("x", "Columns"), turn, choice("y", "Rows"), choice("z", "Tabs", true));
}

function tabBar(values) {
  const bar = h("div", { className: "grid-tabs", role: "tablist", "aria-label": labelOf(view.z) });
  for (const value of values.slice(0, 200)) {
    const isChosen = value === view.tab;
    const tab = h("button", { role: "tab", "aria-selected": String(isChosen), "aria-controls": "plot", tabIndex: isChosen ? 0 : -1, title: valueLabel(view.z, value) }, valueLabel(view.z, value));
    tab.addEventListener("click", () => { view.tab = value; refresh(); grid.element.querySelector(".grid-tabs [aria-selected=true]")?.focus(); });
    bar.append(tab);
  }
  steerTabs(bar);
  return bar;
}

function gridNotes(items) {
  if (!items.length) return [h("p", { className: "empty" }, "Nothing matches.")];
  if (grid.allXs.length <= MOST_COLUMNS) return [];
  return [h("p", { className: "notice" }, `The first ${MOST_COLUMNS} of ${number.format(grid.allXs.length)} columns are shown; filter, or swap them with the rows.`)];
}

function plotFrame() {
  grid.inner = h("div", { className: "plot-inner" });
  grid.plot = h("div", { className: "plot", id: "plot", role: "table", "aria-label": `${labelOf(view.y)} by ${labelOf(view.x)}`, "aria-rowcount": grid.ys.length + 1, "aria-colcount": grid.xs.length + 1 }, grid.inner);
  grid.plot.addEventListener("scroll", () => requestAnimationFrame(paintGrid), { passive: true });
  grid.plot.addEventListener("keydown", steerGrid);
  return grid.plot;
}

function layoutGrid() {
  const width = grid.element.clientWidth;
  const label = Math.round(Math.min(260, Math.max(92, width * 0.17)));
  const fit = (width - label - 2) / Math.max(1, grid.xs.length);
  const cell = Math.round(Math.min(340 * view.size, Math.max((width < 480 ? 88 : 116) * view.size, fit)));
  const aspects = grid.items.slice(0, 400).map(clampedAspect).sort((a, b) => a - b);
  const aspect = aspects.length && aspects.at(-1) - aspects[0] < 0.05 ? aspects[0] : 1;
  grid.label = label;
  grid.cellWidth = cell;
  grid.cellHeight = Math.round(cell / aspect);
  const header = h("div", { className: "plot-head", role: "row", "aria-rowindex": 1 },
    h("span", { className: "corner", role: "columnheader" }, h("span", {}, `→ ${labelOf(view.x)}`), h("span", {}, `↓ ${labelOf(view.y)}`)));
  for (const x of grid.xs) header.append(h("span", { className: "column", role: "columnheader", title: valueLabel(view.x, x) }, valueLabel(view.x, x)));
  grid.rows.clear();
  grid.inner.replaceChildren(header, h("div", { className: "plot-body", role: "rowgroup" }));
  const body = grid.inner.lastChild;
  grid.plot.style.setProperty("--label", `${label}px`);
  grid.plot.style.setProperty("--cell", `${cell}px`);
  grid.plot.style.setProperty("--lines", Math.max(1, Math.floor((grid.cellHeight - 16) / 18)));
  grid.plot.style.setProperty("--row", `${grid.cellHeight}px`);
  body.style.height = `${grid.ys.length * grid.cellHeight}px`;
  grid.inner.style.width = `${label + grid.xs.length * cell}px`;
}

function paintGrid() {
  if (view.mode !== "grid" || !grid.plot?.isConnected) return;
  const from = Math.max(0, Math.floor(grid.plot.scrollTop / grid.cellHeight) - 3);
  const until = Math.min(grid.ys.length, Math.ceil((grid.plot.scrollTop + grid.plot.clientHeight) / grid.cellHeight) + 3);
  for (const [r, row] of grid.rows) if (r < from || r >= until) { if (!row.contains(document.activeElement)) { row.remove(); grid.rows.delete(r); } }
  const body = grid.inner.lastChild;
  for (let r = from; r < until; r += 1) {
    if (grid.rows.has(r)) continue;
    const row = rowElement(r);
    row.style.top = `${r * grid.cellHeight}px`;
    grid.rows.set(r, row);
    body.insertBefore(row, grid.rows.get(r + 1) ?? null);
  }
}

function rowElement(r) {
  const y = grid.ys[r];
  const row = h("div", { className: "plot-row", role: "row", "aria-rowindex": r + 2 },
    h("span", { className: "row-label", role: "rowheader", title: valueLabel(view.y, y) }, h("span", {}, valueLabel(view.y, y))));
  grid.xs.forEach((x, c) => row.append(cellElement(x, y, r, c)));
  return row;
}

function cellElement(x, y, r, c) {
  const items = cellItems(x, y);
  const isActive = grid.active[0] === r && grid.active[1] === c;
  const cell = h("span", { className: "cell", role: "cell", "data-r": r, "data-c": c });
  if (!items.length) {
    cell.classList.add("cell-none");
    cell.tabIndex = isActive ? 0 : -1;
    cell.append(h("span", { className: "none", title: "no such job" }, "no job"));
    return cell;
  }
  const shown = items.slice(0, 4);
  if (shown.length > 1) cell.classList.add(shown.length > 2 ? "cell-several" : "cell-two");
  for (const [place, item] of shown.entries()) {
    const tile = tileOf(item, () => openLightbox(grid.items, grid.items.indexOf(item)), true);
    tile.tabIndex = isActive && !place ? 0 : -1;
    cell.append(tile);
  }
  if (items.length > 4) cell.append(h("span", { className: "more" }, `+${number.format(items.length - 4)}`));
  return cell;
}

function steerGrid(event) {
  const cell = event.target.closest(".cell");
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
  if (!cell || !step) return;
  event.preventDefault();
  const r = Math.max(0, Math.min(grid.ys.length - 1, Number(cell.dataset.r) + step[0]));
  const c = Math.max(0, Math.min(grid.xs.length - 1, Number(cell.dataset.c) + step[1]));
  grid.active = [r, c];
  const { plot, cellHeight, cellWidth, label } = grid, top = r * cellHeight, left = c * cellWidth;
  const seenHeight = plot.clientHeight - grid.inner.firstChild.offsetHeight, seenWidth = plot.clientWidth - label;
  if (top < plot.scrollTop) plot.scrollTop = top;
  else if (top + cellHeight > plot.scrollTop + seenHeight) plot.scrollTop = top + cellHeight - seenHeight;
  if (left < plot.scrollLeft) plot.scrollLeft = left;
  else if (left + cellWidth > plot.scrollLeft + seenWidth) plot.scrollLeft = left + cellWidth - seenWidth;
  paintGrid();
  for (const old of plot.querySelectorAll(".cell[tabindex='0'], .cell .tile[tabindex='0']")) old.tabIndex = -1;
  const goal = plot.querySelector(`.cell[data-r='${r}'][data-c='${c}']`);
  const target = goal?.querySelector(".tile") ?? goal;
  if (target) { target.tabIndex = 0; target.focus({ preventScroll: true }); }
}
