"use strict";
// Copying, and what is copied: a prompt, a command, or an entry that a manifest takes as it is.

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page that is not from this machine and not encrypted has no clipboard of its own.
    const area = h("textarea", { value: text, className: "visually-hidden" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(`${what} copied`);
}

let toastTimer = 0;
function toast(text) {
  const element = document.getElementById("toast");
  // Above an open dialog only what is in it is seen.
  (document.querySelector("dialog[open]") ?? document.body).append(element);
  element.textContent = text;
  element.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => element.classList.remove("shown"), 1800);
}

/** A job as an entry of `prompts:`: JSON values, which are YAML as well. */
function manifestEntry(job) {
  const { prompt, ...params } = job.params;
  const lines = [];
  if (prompt !== undefined) lines.push(`prompt: ${yaml(prompt)}`);
  lines.push(`model: ${yaml(job.model)}`);
  if (Object.keys(params).length) lines.push(`params: ${yaml(params)}`);
  if (job.tags.length) lines.push(`tags: ${yaml(job.tags)}`);
  return lines.map((line, place) => `${place ? "    " : "  - "}${line}\n`).join("");
}

function yaml(value) {
  if (Array.isArray(value)) return `[${value.map(yaml).join(", ")}]`;
  if (value && typeof value === "object") {
    return `{${Object.entries(value).map(([key, inner]) => `${yaml(key)}: ${yaml(inner)}`).join(", ")}}`;
  }
  if (typeof value !== "string") return JSON.stringify(value);
  // `{{` would name a column. JSON leaves some characters as they are that end a line in YAML.
  return JSON.stringify(value.replaceAll("{{", "\\{{"))
    .replace(/[\u007f-\u009f\u00ad\u2028\u2029\ufeff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function copyButton(label, text, what) {
  const button = h("button", { type: "button", className: "copy" }, label);
  button.addEventListener("click", () => copy(typeof text === "function" ? text() : text, what));
  return button;
}
