"use strict";
// The night in a few figures, and how it went over time.

const IDLE_S = 900;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
const MOST_BARS = 64;

function drawOverview() {
  const { states, spent, files } = head.totals;
  const total = Object.values(states).reduce((sum, amount) => sum + amount, 0);
  const saved = states.saved ?? 0;
  const times = completionTimes();
  const figures = [
    [number.format(files), filesWord(files)],
    [`${number.format(saved)} of ${number.format(total)}`, "jobs saved"],
    [dollars(spent), head.simulated ? "simulated cost" : "spent"],
    times.length > 1 && [duration(workingTime(times)), "of work"],
  ].filter(Boolean);
  document.getElementById("figures").replaceChildren(...figures.map(([value, name]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  drawThroughput(times);
}

function filesWord(amount) {
  const kinds = new Set(store.items.filter((item) => item.kind !== "state").map((item) => item.kind));
  const [one, many] = kinds.size === 1 ? { image: ["picture", "pictures"], video: ["video", "videos"], audio: ["sound", "sounds"], text: ["text", "texts"] }[[...kinds][0]] ?? ["file", "files"] : ["file", "files"];
  return amount === 1 ? one : many;
}

function completionTimes() {
  const times = [];
  for (const job of store.jobs.values()) if (job.completed) times.push(job.completed);
  return Float64Array.from(times).sort();
}

/** The time in which results came, without the hours between runs; from the first submit on. */
function workingTime(times) {
  let first = times[0];
  for (const job of store.jobs.values()) if (job.submitted && job.submitted < first) first = job.submitted;
  let seconds = Math.min(IDLE_S, times[0] - first);
  for (let i = 1; i < times.length; i += 1) {
    const gap = times[i] - times[i - 1];
    if (gap < IDLE_S) seconds += gap;
  }
  return seconds;
}

function drawThroughput(times) {
  const figure = document.getElementById("throughput");
  if (!times.length) return;
  const [first, last] = [times[0], times.at(-1)];
  const step = STEPS_S.find((seconds) => (last - first) / seconds < MOST_BARS) ?? (last - first) / MOST_BARS;
  const start = Math.floor(first / step) * step;
  const bars = new Array(Math.floor((last - start) / step) + 1).fill(0);
  figure.hidden = bars.length < 6;
  if (figure.hidden) return;
  for (const time of times) bars[Math.floor((time - start) / step)] += 1;
  const peak = Math.max(...bars);
  figure.replaceChildren(barChart(bars, peak, start, step),
    h("figcaption", {}, h("span", {}, clock(first, last)), h("span", {}, `peak ${number.format(perMinute(peak, step))} a minute`), h("span", {}, clock(last, first))));
}

const perMinute = (amount, step) => Math.round(amount * 60 / step * (amount * 60 / step < 10 ? 10 : 1)) / (amount * 60 / step < 10 ? 10 : 1);

// Made once: they are slow to make.
const CLOCKS = {
  second: new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  minute: new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" }),
  day: new Intl.DateTimeFormat([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }),
};

/** A time of day, as exactly as it takes to tell it from the other. */
function clock(time, other) {
  const date = new Date(time * 1000);
  if (Math.abs(time - other) < 900) return CLOCKS.second.format(date);
  const isSameDay = date.toDateString() === new Date(other * 1000).toDateString();
  return (isSameDay ? CLOCKS.minute : CLOCKS.day).format(date);
}

function barChart(bars, peak, start, step) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${bars.length * 10} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Results over time, from ${clock(start, 0)} on; at most ${perMinute(peak, step)} a minute`);
  bars.forEach((amount, place) => {
    const bar = document.createElementNS(space, "rect");
    const height = amount ? Math.max(3, amount / peak * 100) : 0;
    for (const [name, value] of Object.entries({ x: place * 10 + 1, y: 100 - height, width: 8, height, rx: 1 })) bar.setAttribute(name, value);
    const title = document.createElementNS(space, "title");
    title.textContent = `${clock(start + place * step, step < 60 ? start : 0)}: ${count(amount, "result")}`;
    bar.append(title);
    svg.append(bar);
  });
  return svg;
}
