"use strict";
// Puts it together: loads the data files one after the other, shows what is asked for, follows a run.

/** Shows what is asked for. `isAsked`: by the reader, not because jobs changed. */
function refresh(isAsked = true) {
  writeAddress();
  drawControls();
  drawChips();
  drawFilters();
  const items = wantedItems();
  drawFound(items);
  if (view.mode === "sheet") layoutSheet(items);
  drawGrid(items, isAsked);
  drawAttention();
}

onChange(() => {
  drawOverview();
  updateAttentionCount();
  refresh(false);
  updateLightbox();
});

/** What is open stays open when its job changes. */
function updateLightbox() {
  if (!lightbox.element.open) return;
  const open = lightbox.items[lightbox.index];
  const now = store.items.find((item) => item.id === open.id);
  if (!now || now.job.revision === open.job.revision) return;
  lightbox.items = lightbox.items.map((item) => store.items.find((other) => other.id === item.id) ?? item);
  showItem(lightbox.index);
}

function loadChunk(place) {
  if (place >= head.chunks.length) return;
  const script = h("script", { src: `.gallery/data/${head.chunks[place]}` });
  script.addEventListener("load", () => {
    store.chunksLeft -= 1;
    script.remove();
    announce();
    loadChunk(place + 1);
  });
  script.addEventListener("error", () => {
    control("found").replaceWith(h("p", { className: "notice", role: "alert" },
      "The folder “.gallery” is not beside this page or is another one's. Copy it along with the page, or write both anew with: ", h("code", {}, "runner gallery")));
  });
  document.body.append(script);
}

function follow() {
  const live = control("live");
  const source = new EventSource(`events?attempt=${head.live.attempt}&job=${head.live.job}`);
  const tell = (word) => { live.hidden = false; live.textContent = word; live.dataset.live = word; };
  source.addEventListener("open", () => tell("live"));
  source.addEventListener("error", () => tell("not connected"));
  source.addEventListener("stale", () => location.reload());
  source.addEventListener("rows", (event) => {
    const { rows, totals } = JSON.parse(event.data);
    head.totals = totals;
    galleryRows(rows);
    head.shown = store.jobs.size;
  });
}

wireToolbar();
readAddress();
drawOverview();
drawControls();
let lastWidth = control("view").clientWidth;
new ResizeObserver(() => {
  const width = control("view").clientWidth;
  // Behind an open result the scroll bar is gone, and comes back.
  if (width !== lastWidth && store.items.length && !lightbox.element.open) { lastWidth = width; refresh(false); }
}).observe(control("view"));
window.addEventListener("hashchange", () => { readAddress(); refresh(); });
if (head.chunks.length) loadChunk(0); else announce();
if (head.live) follow();
