"use strict";
// One result as a tile, whatever it is: a picture, a video, a sound, a text, or what became of it.

const ICONS = {
  play: "M6.5 4.5v11l9-5.5z",
  audio: "M8 15V5l8-2v10M8 15a2.3 2.3 0 1 1-2.3-2.3H8M16 13a2.3 2.3 0 1 1-2.3-2.3H16",
  file: "M5 2.5h6.5L15 6v11.5H5zM11 2.5V6.5h4",
  pending: "M10 5v5l3 2M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15",
  submitting: "M10 16V4M5 9l5-5 5 5",
  submitted: "M10 2.5a7.5 7.5 0 0 1 7.5 7.5M10 17.5A7.5 7.5 0 0 1 2.5 10",
  completed: "M10 4v12M5 11l5 5 5-5",
  saved: "M5 2.5h6.5L15 6v11.5H5zM8 10l4 4m0-4-4 4",
  failed: "m5 5 10 10M15 5 5 15",
  blocked: "M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15M4.7 4.7l10.6 10.6",
  invalid: "M10 3 2.5 16.5h15zM10 8v4m0 2v.4",
  expired: "M6 3h8M6 17h8M7 3c0 4 6 5 6 7s-6 3-6 7m6-14c0 4-6 5-6 7s6 3 6 7",
  in_doubt: "M7.5 7.5a2.5 2.5 0 1 1 3.5 2.3c-.7.4-1 .9-1 1.7m0 3v.4M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15",
};

/** What stands in for a result that is not there. */
function stateMark(item) {
  const { job, file } = item;
  if (file?.gone) return { state: "gone", icon: ICONS.saved, word: "file is gone" };
  return { state: job.state, icon: ICONS[job.state] ?? ICONS.file, word: wordsOf(job.state) };
}

/** The inside of a tile. `small`: there is room for the picture only. */
function faceOf(item, small = false) {
  const { job, file } = item;
  switch (item.kind) {
    case "image": return pictureFace(item);
    case "video": return [
      h("video", { src: `${urlOf(file.path)}#t=0.1`, muted: true, preload: "metadata", playsInline: true, tabIndex: -1, "aria-label": nameOf(job) }),
      h("span", { className: "play" }, icon(ICONS.play)),
    ];
    case "text": return [h("span", { className: "face face-text" }, file.text)];
    case "audio": return [h("span", { className: "face" }, icon(ICONS.audio), small ? null : h("span", { className: "face-words" }, nameOf(job)))];
    case "other": return [h("span", { className: "face" }, icon(ICONS.file), h("span", { className: "face-state" }, file.path.split(".").pop()))];
    default: return [stateFace(item, small)];
  }
}

function stateFace(item, small) {
  const mark = stateMark(item);
  return h("span", { className: "face face-ended", "data-state": mark.state },
    icon(mark.icon),
    h("span", { className: "face-state" }, mark.word),
    small ? null : h("span", { className: "face-words" }, nameOf(item.job)));
}

function pictureFace(item) {
  const { job, file } = item;
  const sources = [file.thumb && urlOf(file.thumb), urlOf(file.path)].filter(Boolean);
  const picture = h("img", { src: sources.shift(), alt: nameOf(job), loading: "lazy", decoding: "async", draggable: false });
  if (file.w) { picture.width = file.w; picture.height = file.h; }
  picture.onerror = () => {
    if (sources.length) picture.src = sources.shift();
    else picture.replaceWith(stateFace({ ...item, file: { ...file, gone: true } }, false));
  };
  return [picture];
}

/** A tile that opens the item; `open` is called instead of following its link. */
function tileOf(item, open, small = false) {
  const { job, file } = item;
  const tile = h("a", {
    className: "tile", href: file && !file.gone ? urlOf(file.path) : "#",
    "data-item": item.id, "data-kind": item.kind,
    "aria-label": item.kind === "image" ? undefined : `${nameOf(job)}, ${item.kind === "state" ? stateMark(item).word : item.kind}`,
  }, ...faceOf(item, small));
  if (file?.colour) tile.style.backgroundColor = `#${file.colour}`;
  if (!small && item.kind !== "state") tile.append(h("span", { className: "caption", "aria-hidden": "true" }, nameOf(job)));
  tile.addEventListener("click", (event) => {
    // Asking for a new tab or window means the file itself.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(item);
  });
  return tile;
}
