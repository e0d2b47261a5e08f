"use strict";
// What the page knows: the jobs, and the items (one for each file, or one for a job without any).

const head = JSON.parse(document.getElementById("head").textContent);

const store = {
  jobs: new Map(),
  items: [],
  version: 0,
  chunksLeft: head.chunks.length,
};

const listeners = new Set();
let announced = false;

/** Calls `listener` once a frame at most, after the jobs changed. */
function onChange(listener) {
  listeners.add(listener);
}

function announce() {
  store.version += 1;
  if (announced) return;
  announced = true;
  // Not requestAnimationFrame: a page in a background tab goes on loading.
  const isLoading = store.items.length > 0 && store.chunksLeft > 0;
  setTimeout(() => {
    announced = false;
    rebuildItems();
    for (const listener of listeners) listener();
    // The first pictures at once; then not everything anew for every file.
  }, isLoading ? 250 : 0);
}

/** What every data file calls with its rows; so does the server with what changed. */
function galleryRows(rows) {
  for (const row of rows) {
    row.params ??= {};
    row.tags ??= [];
    row.meta ??= {};
    row.files ??= [];
    row.prompt = promptOf(row);
    const before = store.jobs.get(row.key);
    row.revision = (before?.revision ?? 0) + 1;
    store.jobs.set(row.key, row);
  }
  announce();
}

function rebuildItems() {
  const manifestPlace = new Map(head.manifests.map((name, place) => [name, place]));
  const jobs = [...store.jobs.values()];
  jobs.sort((a, b) =>
    (manifestPlace.get(a.manifest) ?? 0) - (manifestPlace.get(b.manifest) ?? 0)
    || a.index - b.index || a.repeat - b.repeat || a.key - b.key);
  store.items = [];
  for (const job of jobs) {
    if (!job.files.length) store.items.push(itemOf(job, null, 0));
    job.files.forEach((file, n) => store.items.push(itemOf(job, file, n)));
  }
}

function itemOf(job, file, n) {
  return { job, file, id: `${job.key}.${n}`, kind: kindOf(job, file), aspect: aspectOf(job, file) };
}

function kindOf(job, file) {
  if (!file || file.gone) return "state";
  const [main] = file.type.split("/");
  if (file.thumb || main === "image") return "image";
  if (main === "video" || main === "audio") return main;
  return file.text === undefined ? "other" : "text";
}

/** Width over height: of the picture, else as its parameters ask for it. */
function aspectOf(job, file) {
  if (file?.w && file.h) return file.w / file.h;
  if (file && /^(audio|text)\//.test(file.type)) return 1;
  const asked = /^(\d+(?:\.\d+)?)\s*[:x\/]\s*(\d+(?:\.\d+)?)$/.exec(
    job.params.aspect_ratio ?? job.params.size ?? "");
  const [wide, high] = asked ? [asked[1], asked[2]] : [job.params.width ?? job.params.img_width, job.params.height ?? job.params.img_height];
  const ratio = Number(wide) / Number(high);
  if (ratio > 0 && ratio < 100) return ratio;
  return file?.type.startsWith("video/") ? 16 / 9 : 1;
}

function promptOf(job) {
  const prompt = job.params.prompt ?? job.params.text ?? job.params.positivePrompt;
  return typeof prompt === "string" ? prompt : "";
}

/** The prompt, or what else tells the job apart: a picture's text for those who do not see it. */
function nameOf(job) {
  return job.prompt || job.id;
}

/** A value as it reads in a text. */
function plain(value) {
  if (typeof value === "string") return value;
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A path relative to the page as a URL: a `#`, `?` or `%` in it is part of a name. */
function urlOf(path) {
  return path.split("/").map(encodeURIComponent).join("/");
}

/** A new element; text is only ever text. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name in element && !name.startsWith("aria-") && name !== "role" && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A drawing of lines on 20 × 20. */
function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

const wordsOf = (state) => state.replace("_", " ");
const number = new Intl.NumberFormat("en");

function count(amount, one, many = `${one}s`) {
  return `${number.format(amount)} ${amount === 1 ? one : many}`;
}

function dollars(amount) {
  const cents = amount >= 1 || Math.abs(amount - Math.round(amount * 100) / 100) < 5e-5;
  return "$" + amount.toLocaleString("en", { minimumFractionDigits: cents ? 2 : 4, maximumFractionDigits: cents ? 2 : 4 });
}

function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  const minutes = Math.floor(total / 60);
  if (minutes < 60) return total % 60 ? `${minutes} min ${String(total % 60).padStart(2, "0")} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function bytes(amount) {
  if (amount < 1000) return `${amount} bytes`;
  const units = ["kB", "MB", "GB"];
  let power = -1;
  do { amount /= 1000; power += 1; } while (amount >= 999.5 && power < 2);
  return `${amount < 9.95 ? amount.toFixed(1) : Math.round(amount)} ${units[power]}`;
}
