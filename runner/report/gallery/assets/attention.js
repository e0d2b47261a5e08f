"use strict";
// What ended short of saved, by cause, the most frequent first, with the command that tries again.

function causesNow() {
  const found = new Map();
  for (const job of store.jobs.values()) {
    if (!(job.state in head.needs)) continue;
    const reason = job.error ?? "";
    const key = JSON.stringify([job.state, reason]);
    const cause = found.get(key) ?? { state: job.state, reason, count: 0, first: job };
    cause.count += 1;
    found.set(key, cause);
  }
  return [...found.values()].sort((a, b) => b.count - a.count);
}

/** How many jobs of a state there are in all, shown on this page or not. */
const totalOf = (state) => head.totals.states[state] ?? 0;

function goneFiles() {
  return store.items.filter((item) => item.file?.gone).length;
}

function updateAttentionCount() {
  const total = Object.keys(head.needs).reduce((sum, state) => sum + totalOf(state), goneFiles());
  const badge = document.getElementById("attention-count");
  badge.textContent = number.format(total);
  badge.hidden = !total;
}

function drawAttention() {
  if (view.mode !== "attention") return;
  const element = document.getElementById("attention");
  const causes = causesNow();
  const blocks = Object.keys(head.needs)
    .map((state) => [state, causes.filter((cause) => cause.state === state)])
    .filter(([state]) => totalOf(state))
    .sort(([a], [b]) => totalOf(b) - totalOf(a))
    .map(([state, own]) => stateBlock(state, own));
  if (goneFiles()) {
    blocks.push(block("gone", `${count(goneFiles(), "file is", "files are")} no longer in the folder`,
      "fetched again at no cost as long as the API's media server has them", head.run, []));
  }
  if (blocks.length && causes.some((cause) => cause.state !== "invalid")) {
    blocks.push(h("section", { className: "after" }, h("p", {}, "After a retry, run them:"), commandLine(head.run)));
  }
  element.replaceChildren(...(blocks.length ? blocks : [allIsWell()]));
}

function allIsWell() {
  const waiting = [...store.jobs.values()].some((job) => job.state !== "saved");
  return h("p", { className: "empty" }, waiting ? "Nothing has failed so far." : "Nothing has failed: every result is here.");
}

function stateBlock(state, causes) {
  const { meaning, command } = head.needs[state];
  return block(state, `${number.format(totalOf(state))} ${wordsOf(state)}`, meaning, command, causes);
}

function block(state, title, meaning, command, causes) {
  const shown = causes.reduce((sum, cause) => sum + cause.count, 0);
  const list = h("ol", { className: "causes" });
  for (const cause of causes.slice(0, 100)) {
    const show = h("button", { type: "button", className: "link" }, cause.count === 1 ? "Show it" : `Show ${number.format(cause.count)}`);
    show.addEventListener("click", () => {
      Object.assign(view, { mode: "sheet", cause, search: "", filters: new Map() });
      refresh();
      window.scrollTo(0, 0);
    });
    list.append(h("li", {}, h("span", { className: "cause-count" }, `${number.format(cause.count)} ×`),
      h("span", { className: "cause-reason" }, cause.reason || "no reason given"), show));
  }
  return h("section", { className: "need", "data-state": state },
    h("h2", {}, icon(ICONS[state] ?? ICONS.saved), h("span", {}, title)), h("p", { className: "meaning" }, `${meaning}.`),
    causes.length ? list : null, shown < totalOf(state) ? h("p", { className: "meaning" }, `Of ${number.format(shown)} the cause is on this page, which shows the newest jobs only.`) : null, command ? commandLine(command) : null);
}

function commandLine(command) {
  return h("div", { className: "command" }, h("code", {}, command), copyButton("Copy", command, "Command"));
}
