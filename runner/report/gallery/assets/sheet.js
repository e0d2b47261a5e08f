"use strict";
// The contact sheet: rows of equal height, filled edge to edge. Only what is near the window is in the
// document, however many items there are; places are computed, so nothing ever shifts.

const sheet = {
  element: document.getElementById("tiles"),
  items: [], rows: [], left: [], width: [], nodes: new Map(), spare: new Map(), active: 0,
};
const OVERSCAN_PIXELS = 900;

function rowHeight(width) {
  const base = width < 480 ? 118 : width < 900 ? 165 : width < 1700 ? 205 : 250;
  return Math.round(base * view.size);
}

/** Lays the items out anew; `items` may be the same as before in another width. */
function layoutSheet(items) {
  const width = sheet.element.clientWidth;
  if (!width) return;
  const gap = width < 480 ? 4 : 8, wanted = rowHeight(width);
  const focused = sheet.element.contains(document.activeElement) ? sheet.items[sheet.active]?.id : null;
  sheet.items = items;
  sheet.rows = [];
  sheet.left = new Float64Array(items.length);
  sheet.width = new Float64Array(items.length);
  let start = 0, aspects = 0, top = 0;
  const close = (end, isLast) => {
    const free = width - gap * (end - start - 1);
    const height = isLast ? Math.min(wanted, free / aspects) : free / aspects;
    let left = 0;
    for (let i = start; i < end; i += 1) {
      sheet.left[i] = left;
      sheet.width[i] = clampedAspect(items[i]) * height;
      left += sheet.width[i] + gap;
    }
    sheet.rows.push({ top, height, start, end });
    top += height + gap;
    start = end;
    aspects = 0;
  };
  for (let i = 0; i < items.length; i += 1) {
    aspects += clampedAspect(items[i]);
    if (aspects * wanted + gap * (i - start) >= width) close(i + 1, false);
  }
  if (start < items.length) close(items.length, true);
  sheet.element.style.height = `${Math.max(0, top - gap)}px`;
  // What is shown already and has not changed is only moved.
  sheet.spare = new Map([...sheet.nodes.values()].map((node) => [node.dataset.face, node]));
  sheet.nodes.clear();
  const kept = focused === null ? -1 : items.findIndex((item) => item.id === focused);
  sheet.active = kept >= 0 ? kept : Math.min(sheet.active, Math.max(0, items.length - 1));
  paintSheet();
  for (const node of sheet.spare.values()) node.remove();
  sheet.spare.clear();
  if (kept >= 0) sheet.nodes.get(kept)?.firstChild.focus({ preventScroll: true });
}

const clampedAspect = (item) => Math.min(3, Math.max(0.45, item.aspect));

/** The first row that ends below a height. */
function rowAt(height) {
  let low = 0, high = sheet.rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sheet.rows[middle].top + sheet.rows[middle].height < height) low = middle + 1; else high = middle;
  }
  return low;
}

function paintSheet() {
  if (view.mode !== "sheet") return;
  const offset = -sheet.element.getBoundingClientRect().top;
  const until = offset + window.innerHeight + OVERSCAN_PIXELS;
  // The tile with the focus stays, wherever the window goes.
  const wanted = new Set(sheet.element.contains(document.activeElement) ? [sheet.active] : []);
  for (let r = rowAt(offset - OVERSCAN_PIXELS); r < sheet.rows.length && sheet.rows[r].top < until; r += 1) {
    for (let i = sheet.rows[r].start; i < sheet.rows[r].end; i += 1) wanted.add(i);
  }
  for (const [index, node] of sheet.nodes) {
    if (!wanted.has(index)) { node.remove(); sheet.nodes.delete(index); }
  }
  const fresh = [...wanted].filter((index) => index < sheet.items.length && !sheet.nodes.has(index)).sort((a, b) => a - b);
  for (const index of fresh) placeTile(index);
  updateTabStop();
}

function placeTile(index) {
  const row = sheet.rows[rowOf(index)];
  const item = sheet.items[index];
  const face = `${item.id} ${item.job.revision}`;
  const node = sheet.spare.get(face) ?? h("div", { className: "place", role: "listitem", "data-face": face },
    tileOf(item, () => openLightbox(sheet.items, sheet.items.findIndex((other) => other.id === item.id))));
  sheet.spare.delete(face);
  node.firstChild.tabIndex = -1;
  node.setAttribute("aria-setsize", sheet.items.length);
  node.setAttribute("aria-posinset", index + 1);
  Object.assign(node.style, {
    left: `${sheet.left[index]}px`, top: `${row.top}px`, width: `${sheet.width[index]}px`, height: `${row.height}px`,
  });
  sheet.nodes.set(index, node);
  // In the order of the items, which is the order of reading.
  let before = null;
  for (let next = index + 1; next < index + 12 && !before; next += 1) before = sheet.nodes.get(next) ?? null;
  if (node.parentNode !== sheet.element || node.nextSibling !== before) sheet.element.insertBefore(node, before);
}

function rowOf(index) {
  let low = 0, high = sheet.rows.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sheet.rows[middle].end <= index) low = middle + 1; else high = middle;
  }
  return low;
}

/** One tile takes part in the order of Tab; the arrows go from there. */
function updateTabStop() {
  const shown = [...sheet.nodes.keys()];
  const holder = sheet.nodes.has(sheet.active) ? sheet.active : Math.min(...shown);
  for (const [index, node] of sheet.nodes) node.firstChild.tabIndex = index === holder ? 0 : -1;
}

function focusTile(index) {
  if (!sheet.items.length) return;
  sheet.active = Math.max(0, Math.min(index, sheet.items.length - 1));
  const row = sheet.rows[rowOf(sheet.active)];
  const bar = document.getElementById("toolbar").offsetHeight;
  const top = sheet.element.getBoundingClientRect().top + row.top;
  if (top < bar) window.scrollBy(0, top - bar - 8);
  else if (top + row.height > window.innerHeight) window.scrollBy(0, top + row.height - window.innerHeight + 8);
  if (!sheet.nodes.has(sheet.active)) placeTile(sheet.active);
  sheet.nodes.get(sheet.active).firstChild.focus({ preventScroll: true });
  paintSheet();
}

/** The item above or below, by where its middle is. */
function neighbour(index, step) {
  const target = sheet.rows[rowOf(index) + step];
  if (!target) return index;
  const middle = sheet.left[index] + sheet.width[index] / 2;
  let found = target.start;
  while (found < target.end - 1 && sheet.left[found] + sheet.width[found] < middle) found += 1;
  return found;
}

sheet.element.addEventListener("focusin", (event) => {
  for (const [index, node] of sheet.nodes) if (node.contains(event.target)) sheet.active = index;
  updateTabStop();
});
sheet.element.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const screen = Math.max(1, Math.floor(window.innerHeight / rowHeight(sheet.element.clientWidth)) - 1);
  const page = (step) => Array.from({ length: screen }).reduce((index) => neighbour(index, step), sheet.active);
  const moves = {
    ArrowRight: () => sheet.active + 1, ArrowLeft: () => sheet.active - 1,
    ArrowDown: () => neighbour(sheet.active, 1), ArrowUp: () => neighbour(sheet.active, -1),
    Home: () => 0, End: () => sheet.items.length - 1, PageDown: () => page(1), PageUp: () => page(-1),
  };
  if (!(event.key in moves)) return;
  event.preventDefault();
  focusTile(moves[event.key]());
});
let painting = false;
window.addEventListener("scroll", () => {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => { painting = false; paintSheet(); });
}, { passive: true });
