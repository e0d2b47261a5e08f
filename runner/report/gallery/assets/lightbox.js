"use strict";
// One result large, with everything known of it; arrows go through what was shown around it.

const lightbox = { element: document.getElementById("lightbox"), items: [], index: 0, opener: null };

function openLightbox(items, index) {
  lightbox.opener = document.activeElement;
  lightbox.items = items;
  if (!lightbox.element.open) lightbox.element.showModal();
  document.documentElement.classList.add("behind");
  showItem(index);
  document.getElementById("details").focus({ preventScroll: true });
}

function showItem(index) {
  const { items } = lightbox;
  if (index < 0 || index >= items.length) return;
  lightbox.index = index;
  const item = items[index];
  document.getElementById("stage").replaceChildren(...stageOf(item));
  document.getElementById("position").textContent = `${number.format(index + 1)} of ${number.format(items.length)}`;
  document.getElementById("previous").disabled = index === 0;
  document.getElementById("next").disabled = index === items.length - 1;
  document.getElementById("details").replaceChildren(...detailsOf(item));
  document.getElementById("details").scrollTop = 0;
  for (const near of [items[index + 1], items[index - 1]]) {
    if (near?.kind === "image") new Image().src = urlOf(near.file.path);
  }
}

function stageOf(item) {
  const { job, file } = item;
  const name = nameOf(job);
  switch (item.kind) {
    case "image": return largePicture(item);
    case "video": return [h("video", { src: urlOf(file.path), controls: true, autoplay: true, loop: true, playsInline: true, "aria-label": name })];
    case "audio": return [h("div", { className: "sound" }, icon(ICONS.audio), h("audio", { src: urlOf(file.path), controls: true, "aria-label": name }))];
    case "text": return [h("pre", { className: "reading", tabIndex: 0 }, file.text)];
    case "other": return [h("div", { className: "sound" }, icon(ICONS.file), h("a", { href: urlOf(file.path), target: "_blank", rel: "noopener" }, `Open ${file.path.split("/").pop()}`))];
    default: return [stateFace(item, false)];
  }
}

function largePicture(item) {
  const { job, file } = item;
  const large = h("img", { className: "large", src: urlOf(file.path), alt: nameOf(job), draggable: false });
  if (file.w) { large.width = file.w; large.height = file.h; }
  const small = file.thumb ? h("img", { className: "low", src: urlOf(file.thumb), alt: "" }) : null;
  large.addEventListener("load", () => { large.classList.add("loaded"); small?.remove(); });
  // A small picture is not blown up to a blur.
  for (const each of [large, small]) if (each && file.w) Object.assign(each.style, { maxWidth: `${file.w * 1.6}px`, maxHeight: `${file.h * 1.6}px` });
  // What a browser cannot show, or what is gone, is still there as a thumbnail.
  large.addEventListener("error", () => { if (small) large.remove(); else large.replaceWith(stateFace({ ...item, file: { ...file, gone: true } }, false)); });
  large.addEventListener("click", () => document.getElementById("stage").classList.toggle("zoomed"));
  document.getElementById("stage").classList.remove("zoomed");
  return small ? [small, large] : [large];
}

function detailsOf(item) {
  const { job, file } = item;
  const { prompt, ...params } = job.params;
  const facts = [
    ["State", stateChip(item)],
    job.error && ["Reason", job.error],
    ["Model", job.model],
    ...Object.entries(params).map(([name, value]) => [wordsOf(name), plain(value), "parameter"]),
    ...Object.entries(job.meta).map(([name, value]) => [wordsOf(name), plain(value), "column"]),
    job.tags.length && ["Tags", job.tags.join(", ")],
    job.cost !== undefined && ["Cost", head.simulated ? `${dollars(job.cost)} (simulated)` : dollars(job.cost)],
    latencyOf(job) !== null && ["Took", duration(Math.max(0, latencyOf(job)))],
    (job.completed ?? job.submitted) && [job.completed ? "Finished" : "Submitted", new Date((job.completed ?? job.submitted) * 1000).toLocaleString()],
    job.repeat > 0 && ["Repeat", String(job.repeat + 1)],
    job.attempts > 1 && ["Submits", String(job.attempts)],
    ["Job", h("code", {}, job.id)],
    job.request_id && ["Request", h("code", {}, job.request_id)],
    head.manifests.length > 1 && ["Manifest", job.manifest],
    job.source && ["Written in", h("code", {}, job.source)],
    file && ["File", fileLink(file)],
  ].filter(Boolean);
  const list = h("dl", { className: "facts" });
  for (const [name, value] of facts) list.append(h("dt", {}, name), h("dd", {}, value));
  return [
    h("p", { className: "prompt", dir: "auto" }, nameOf(job)),
    h("div", { className: "actions" },
      copyButton("Copy prompt", job.prompt || job.id, "Prompt"),
      copyButton("Copy as manifest entry", () => manifestEntry(job), "Manifest entry"),
      head.needs[job.state] ? copyButton("Copy retry command", head.needs[job.state].command, "Command") : null),
    list,
  ];
}

function stateChip(item) {
  const mark = stateMark(item);
  const word = item.file?.gone ? `${wordsOf(item.job.state)}, but its file is gone; the next run fetches it again` : mark.word;
  return h("span", { className: "state-chip", "data-state": mark.state }, h("i", {}), word);
}

function fileLink(file) {
  const facts = [file.w && `${file.w} × ${file.h}`, file.bytes !== undefined && bytes(file.bytes), file.type].filter(Boolean).join(", ");
  const name = file.gone ? h("span", {}, file.path) : h("a", { href: urlOf(file.path), target: "_blank", rel: "noopener" }, file.path);
  return h("span", {}, name, h("small", {}, facts));
}

function closeLightbox() {
  lightbox.element.close();
}

lightbox.element.addEventListener("close", () => {
  document.documentElement.classList.remove("behind");
  document.body.append(document.getElementById("toast"));
  document.getElementById("stage").replaceChildren();
  // Back to where one is now, not to where one began.
  if (view.mode === "sheet" && lightbox.items === sheet.items) focusTile(lightbox.index);
  else lightbox.opener?.focus?.();
});
lightbox.element.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("video, audio, input")) return;
  const moves = { ArrowRight: 1, ArrowLeft: -1, Home: -lightbox.index, End: lightbox.items.length - 1 - lightbox.index };
  if (event.key in moves) { event.preventDefault(); showItem(lightbox.index + moves[event.key]); }
  if (event.key === "z") document.getElementById("stage").classList.toggle("zoomed");
});
document.getElementById("close").addEventListener("click", closeLightbox);
document.getElementById("previous").addEventListener("click", () => showItem(lightbox.index - 1));
document.getElementById("next").addEventListener("click", () => showItem(lightbox.index + 1));
document.getElementById("stage").addEventListener("click", (event) => { if (event.target.id === "stage") closeLightbox(); });

let swipeFrom = null;
const stageElement = document.getElementById("stage");
stageElement.addEventListener("touchstart", (event) => { swipeFrom = event.touches.length === 1 ? event.touches[0] : null; }, { passive: true });
stageElement.addEventListener("touchend", (event) => {
  if (!swipeFrom || stageElement.classList.contains("zoomed")) return;
  const across = event.changedTouches[0].clientX - swipeFrom.clientX, down = event.changedTouches[0].clientY - swipeFrom.clientY;
  if (Math.abs(across) > 48 && Math.abs(across) > 2 * Math.abs(down)) showItem(lightbox.index + (across < 0 ? 1 : -1));
}, { passive: true });
