"use strict";
// Search, filters, order, size, colours: everything that asks for another look at the same jobs.

const control = (id) => document.getElementById(id);

function drawChips() {
  // Counted apart from all other fields, which are only looked through where somebody asks for them.
  const states = new Map();
  for (const { state } of store.jobs.values()) states.set(state, (states.get(state) ?? 0) + 1);
  const chips = [];
  if (states.size > 1) {
    for (const state of Object.keys(ICONS).filter((name) => states.has(name))) {
      chips.push(choiceChip("state", state, states.get(state)));
    }
  }
  for (const [field, wanted] of view.filters) {
    if (field === "state") continue;
    for (const value of wanted) chips.push(removableChip(`${labelOf(field)}: ${value || "(empty)"}`, () => setFilter(field, value, false)));
  }
  if (view.cause) chips.push(removableChip(`${wordsOf(view.cause.state)}: ${view.cause.reason || "no reason given"}`, () => { view.cause = null; }));
  keepFocus(control("chips"), () => control("chips").replaceChildren(...chips));
}

/** Redraws a part of the page; whoever had the focus in it gets it back. */
function keepFocus(element, redraw) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  redraw();
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

function choiceChip(field, value, amount) {
  const isChosen = view.filters.get(field)?.has(value) ?? false;
  const chip = h("button", { type: "button", className: "chip", "aria-pressed": String(isChosen), "data-key": `${field}=${value}`, "data-state": field === "state" ? value : undefined, title: value },
    field === "state" ? h("i", {}) : null, h("span", {}, field === "state" ? wordsOf(value) : value || "(empty)"), h("b", {}, number.format(amount)));
  chip.addEventListener("click", () => { setFilter(field, value, !isChosen); view.cause = null; refresh(); });
  return chip;
}

function removableChip(text, remove) {
  const chip = h("button", { type: "button", className: "chip chip-on", title: `Remove: ${text}`, "aria-label": `Remove the filter ${text}` }, h("span", {}, text), icon("m6 6 8 8M14 6l-8 8"));
  chip.addEventListener("click", () => { remove(); refresh(); });
  return chip;
}

// States have chips of their own, prompts are searched.
const NOT_TICKED = new Set(["state", "line", "params.prompt"]);

function drawFilters() {
  const panel = control("filters");
  panel.hidden = control("filter-toggle").getAttribute("aria-expanded") !== "true";
  const active = [...view.filters.values()].reduce((sum, wanted) => sum + wanted.size, 0) + (view.cause ? 1 : 0);
  control("filter-count").textContent = active;
  control("filter-count").hidden = !active;
  if (panel.hidden) return;
  const groups = [...fields()].filter(([field, values]) => !NOT_TICKED.has(field) && values.size <= MOST_CHOICES)
    .map(([field, values]) => h("fieldset", {}, h("legend", {}, labelOf(field)), ...[...values].map(([value, amount]) => choiceChip(field, value, amount))));
  const clear = h("button", { type: "button", className: "link", "data-key": "clear" }, "Clear all");
  clear.addEventListener("click", () => { view.filters.clear(); view.cause = null; view.search = ""; refresh(); });
  keepFocus(panel, () => panel.replaceChildren(...(groups.length ? groups : [h("p", { className: "empty" }, "The jobs differ in nothing that could be ticked.")]), ...(active ? [clear] : [])));
}

function drawFound(items) {
  const all = store.items.length;
  const parts = [];
  if (items.length !== all) parts.push(`${number.format(items.length)} of ${count(all, "result")}`);
  const total = Object.values(head.totals.states).reduce((sum, amount) => sum + amount, 0);
  if (head.shown < total) parts.push(`the newest ${number.format(head.shown)} of ${count(total, "job")} are on this page`);
  if (store.chunksLeft) parts.push("loading …");
  control("found").textContent = parts.join(" · ");
  if (!items.length && !store.chunksLeft && view.mode === "sheet") {
    control("found").textContent = all ? "Nothing matches. Fewer words or filters may." : "There are no jobs yet.";
  }
}

function drawControls() {
  for (const mode of ["sheet", "grid", "attention"]) {
    const isChosen = view.mode === mode;
    control(mode).hidden = !isChosen;
    control(`tab-${mode}`).setAttribute("aria-selected", String(isChosen));
    control(`tab-${mode}`).tabIndex = isChosen ? 0 : -1;
  }
  document.body.dataset.mode = view.mode;
  if (control("search").value !== view.search) control("search").value = view.search;
  control("sort").value = view.sort;
}

/** Arrow keys go from tab to tab. */
function steerTabs(bar) {
  bar.addEventListener("keydown", (event) => {
    const tabs = [...bar.querySelectorAll("[role=tab]")];
    const here = tabs.indexOf(event.target);
    const goal = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (here < 0 || goal === undefined) return;
    event.preventDefault();
    tabs[(goal + tabs.length) % tabs.length].click();
    if (tabs[0].isConnected) tabs[(goal + tabs.length) % tabs.length].focus();
  });
}

const THEMES = ["auto", "light", "dark"];
const THEME_ICONS = { auto: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14", light: "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7M10 1.5v2m0 13v2M1.5 10h2m13 0h2M4 4l1.4 1.4m9.2 9.2L16 16M16 4l-1.4 1.4M5.4 14.6 4 16", dark: "M16.5 12A7 7 0 1 1 8 3.5a5.5 5.5 0 0 0 8.500 8.500z" };
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  control("theme").replaceChildren(icon(THEME_ICONS[theme]));
  control("theme").setAttribute("aria-label", `Colours: ${{ auto: "as the system", light: "light", dark: "dark" }[theme]}`);
  control("theme").title = control("theme").getAttribute("aria-label");
  remember("gallery-theme", theme);
}

/** A browser may forbid a page from disk to keep anything. */
function remember(key, value) {
  try { localStorage.setItem(key, value); } catch { /* it is only a convenience */ }
}
function remembered(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function wireToolbar() {
  steerTabs(document.querySelector(".views"));
  for (const tab of document.querySelectorAll(".views [role=tab]")) {
    tab.addEventListener("click", () => { view.mode = tab.dataset.mode; refresh(); });
  }
  control("search").addEventListener("input", () => {
    view.search = control("search").value;
    if (view.mode === "attention") view.mode = "sheet";
    refresh();
  });
  control("search").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && view.mode === "sheet") { event.preventDefault(); focusTile(sheet.active); }
  });
  control("sort").addEventListener("change", () => { view.sort = control("sort").value; refresh(); });
  control("size").addEventListener("input", () => {
    view.size = Number(control("size").value);
    remember("gallery-size", view.size);
    refresh();
  });
  control("filter-toggle").addEventListener("click", () => {
    const isOpen = control("filter-toggle").getAttribute("aria-expanded") === "true";
    control("filter-toggle").setAttribute("aria-expanded", String(!isOpen));
    refresh();
  });
  control("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select, textarea, dialog")) { event.preventDefault(); control("search").focus(); }
    if (event.key === "Escape" && !lightbox.element.open && control("filter-toggle").getAttribute("aria-expanded") === "true") control("filter-toggle").click();
  });
  setTheme(THEMES.includes(remembered("gallery-theme")) ? remembered("gallery-theme") : "auto");
  view.size = Math.min(2, Math.max(0.5, Number(remembered("gallery-size")) || 1));
  control("size").value = view.size;
}
