"use strict";
// Boxes are drawn over the video in the picture's own pixels, from pieces of the tracks that are asked for as needed.

const byId = (id) => document.getElementById(id);
const video = byId("video"), boxes = byId("boxes"), bars = byId("bars"), hint = byId("hint");
const PIECE = 20, ROW = 16, LABEL = 84; // seconds of boxes in one question; px of the timeline
let state = null, pieces = new Map(), chosen = null, place = 0, busy = false, videoReady = false;

function say(text, wrong = false) {
  hint.textContent = text;
  hint.classList.toggle("wrong", wrong);
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60), rest = (seconds - 60 * minutes).toFixed(1).padStart(4, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

const person = (number) => state.people.find((each) => each.number === number);
const title = (number) => `#${number} ${person(number)?.name ?? ""}`.trim();

function element(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function button(text, action, key = "") {
  const node = element("button", text, key ? { title: key } : {});
  node.addEventListener("click", action);
  return node;
}

function picture(row, alt) {
  const image = element("img", "", { alt, loading: "lazy" });
  image.dataset.row = row;
  image.src = `picture/${row}.jpg`;
  image.addEventListener("error", () => { image.dataset.missing = "yes"; });
  return image;
}

// --- What the server knows

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options).catch(() => null);
  if (answer?.ok) return answer.status === 204 ? {} : answer.json();
  const said = answer ? (await answer.json().catch(() => null))?.error ?? "This could not be done." : "The program has ended.";
  say(said, true);
  return null;
}

async function change(what, told) {
  if (busy) return false;
  busy = true;
  const fresh = await ask("change", what);
  busy = false;
  if (!fresh) return false;
  pieces.clear();
  take(fresh);
  say(told);
  return true;
}

function take(fresh) {
  state = fresh;
  if (chosen !== null && !person(chosen)) chosen = null;
  place = Math.max(0, Math.min(place, state.doubts.length - 1));
  byId("undo").disabled = !state.changes;
  show();
}

async function boxesAt(seconds) {
  const start = Math.max(0, Math.floor(seconds / PIECE)) * PIECE;
  for (const each of [start, start + PIECE]) {
    if (pieces.has(each) || each > state.length) continue;
    const piece = { times: [], frames: [] };
    pieces.set(each, piece);
    ask(`boxes?start=${each}&end=${each + PIECE}`).then((answer) => {
      if (!answer || pieces.get(each) !== piece) return;
      for (const row of answer.boxes) {
        if (piece.times.at(-1) !== row[0]) { piece.times.push(row[0]); piece.frames.push([]); }
        piece.frames.at(-1).push(row);
      }
      draw();
    });
  }
  return pieces.get(start);
}

function shownAt(seconds) { // the boxes of the frame that is on the screen
  const piece = pieces.get(Math.max(0, Math.floor(seconds / PIECE)) * PIECE);
  if (!piece?.times.length) return [];
  let low = 0, high = piece.times.length;
  const now = seconds + 0.25 / state.rate;
  while (low < high) { const middle = (low + high) >> 1; if (piece.times[middle] <= now) low = middle + 1; else high = middle; }
  return low && now - piece.times[low - 1] < 1.5 / state.rate + 0.02 ? piece.frames[low - 1] : [];
}

// --- The picture

let drawnAt = -1;
function draw() {
  if (!state) return;
  const seconds = video.currentTime, scale = window.devicePixelRatio || 1;
  boxesAt(seconds);
  const width = Math.round(boxes.clientWidth * scale), height = Math.round(boxes.clientHeight * scale);
  if (boxes.width !== width || boxes.height !== height) { boxes.width = width; boxes.height = height; }
  const [fit, left, top] = fitting(), pen = boxes.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, boxes.clientWidth, boxes.clientHeight);
  pen.font = "600 14px system-ui, sans-serif";
  pen.textBaseline = "bottom";
  for (const [, , number, x1, y1, x2, y2, seen] of shownAt(seconds)) {
    const known = person(number), colour = known?.colour ?? "#fff", x = left + x1 * fit, y = top + y1 * fit;
    pen.lineWidth = number === chosen ? 5 : 2.5;
    pen.strokeStyle = colour;
    pen.setLineDash(seen ? [] : [6, 6]);
    pen.strokeRect(x, y, (x2 - x1) * fit, (y2 - y1) * fit);
    const words = title(number), wide = pen.measureText(words).width + 8;
    pen.fillStyle = "rgba(0, 0, 0, .75)";
    pen.fillRect(x, Math.max(y - 20, 0), wide, 20);
    pen.fillStyle = "#fff";
    pen.fillText(words, x + 4, Math.max(y - 2, 18));
  }
  byId("clock").textContent = clock(seconds);
  if (Math.abs(seconds - drawnAt) > 0.02) { drawnAt = seconds; drawBars(); }
}

function fitting() { // px on the screen for one of the picture, and where the picture begins
  const fit = Math.min(boxes.clientWidth / state.size[0], boxes.clientHeight / state.size[1]);
  return [fit, (boxes.clientWidth - fit * state.size[0]) / 2, (boxes.clientHeight - fit * state.size[1]) / 2];
}

boxes.addEventListener("click", (event) => {
  const area = boxes.getBoundingClientRect(), [fit, left, top] = fitting();
  const x = (event.clientX - area.left - left) / fit, y = (event.clientY - area.top - top) / fit;
  const hit = shownAt(video.currentTime).filter(([, , , x1, y1, x2, y2]) => x >= x1 && x <= x2 && y >= y1 && y <= y2);
  hit.sort((one, two) => (one[5] - one[3]) * (one[6] - one[4]) - (two[5] - two[3]) * (two[6] - two[4]));
  choose(hit[0]?.[2] ?? null);
});

function seek(seconds) {
  video.pause();
  video.currentTime = Math.max(0, Math.min(seconds, state.length));
}

function follow() {
  draw();
  if (!video.paused) requestAnimationFrame(follow);
}
video.addEventListener("play", () => { byId("play").textContent = "Pause"; follow(); });
video.addEventListener("pause", () => { byId("play").textContent = "Play"; draw(); });
for (const event of ["seeked", "loadeddata", "timeupdate"]) video.addEventListener(event, draw);
window.addEventListener("resize", () => { draw(); drawBars(); });

// --- When everyone is there

function drawBars() {
  const scale = window.devicePixelRatio || 1, wide = byId("timeline").clientWidth, high = ROW * state.people.length + 4;
  if (bars.width !== Math.round(wide * scale) || bars.height !== Math.round(high * scale)) {
    bars.width = Math.round(wide * scale);
    bars.height = Math.round(high * scale);
    bars.style.height = `${high}px`;
  }
  const pen = bars.getContext("2d"), style = getComputedStyle(document.body), at = (seconds) => LABEL + (wide - LABEL) * seconds / state.length;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, wide, high);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  state.people.forEach((each, index) => {
    const y = 2 + index * ROW;
    if (each.number === chosen) { pen.fillStyle = "rgba(128, 128, 128, .3)"; pen.fillRect(0, y, wide, ROW); }
    pen.fillStyle = style.color;
    pen.fillText(title(each.number).slice(0, 12), 4, y + ROW / 2, LABEL - 8);
    pen.fillStyle = each.colour;
    for (const [begun, ended] of each.stays) pen.fillRect(at(begun), y + 2, Math.max(at(ended) - at(begun), 2), ROW - 4);
  });
  pen.fillStyle = style.color;
  pen.fillRect(at(video.currentTime), 0, 1.5, high);
}

bars.addEventListener("click", (event) => {
  const area = bars.getBoundingClientRect(), row = Math.floor((event.clientY - area.top - 2) / ROW), x = event.clientX - area.left;
  if (x > LABEL) seek(state.length * (x - LABEL) / (area.width - LABEL));
  choose(state.people[row]?.number ?? null);
});

// --- Doubts

const QUESTIONS = {
  gap: (doubt) => [`Is ${title(doubt.identity)} the same person after being out of sight?`, "Same person", "Two people",
    null, { do: "split", identity: doubt.identity, frame: doubt.frame }],
  crossing: (doubt) => [`Did ${title(doubt.identity)} and ${title(doubt.other)} keep their numbers when they crossed?`, "Kept", "Swapped",
    null, { do: "swap", identity: doubt.identity, other: doubt.other, frame: doubt.frame }],
  newcomer: (doubt) => [`Is the newcomer ${title(doubt.identity)} really ${title(doubt.other)}?`, "Same person", "Somebody else",
    { do: "merge", identity: doubt.identity, into: doubt.other }, null],
};

function answer(yes) {
  const doubt = state.doubts[place];
  if (!doubt) return;
  const [, , , ifYes, ifNo] = QUESTIONS[doubt.kind](doubt), what = (yes ? ifYes : ifNo) ?? { do: "keep", doubt: doubt.key };
  change(what, "Saved.").then((done) => { if (done) goTo(place); });
}

function goTo(index) {
  place = Math.max(0, Math.min(index, state.doubts.length - 1));
  const doubt = state.doubts[place];
  if (doubt) seek(doubt.kind === "crossing" ? doubt.start : doubt.end);
  showDoubt();
}

function showDoubt() {
  const doubt = state.doubts[place], shown = byId("doubt");
  byId("left").textContent = state.doubts.length ? `${place + 1} of ${state.doubts.length}` : "";
  if (!doubt) { shown.replaceChildren(element("p", "None is left.")); return; }
  const [question, yes, no] = QUESTIONS[doubt.kind](doubt);
  const sides = element("div");
  sides.className = "sides";
  for (const [name, rows] of Object.entries(doubt.sides)) {
    const figure = element("figure"), crops = element("div"), who = name.startsWith("own") ? doubt.identity : doubt.other;
    crops.className = "crops";
    crops.append(...rows.map((row) => picture(row, `${title(who)}, ${name.split(" ")[1]}`)));
    figure.append(element("figcaption", `${title(who)}, ${name.split(" ")[1]}`), crops);
    sides.append(figure);
  }
  const times = element("p"), buttons = element("div");
  times.append(button(clock(doubt.start), () => seek(doubt.start)), " to ", button(clock(doubt.end), () => seek(doubt.end)));
  buttons.className = "buttons";
  buttons.append(button(`${yes} (Y)`, () => answer(true)), button(`${no} (N)`, () => answer(false)),
    button("Before", () => goTo(place - 1), "K"), button("Next", () => goTo(place + 1), "J"));
  shown.replaceChildren(element("p", question), sides, times, buttons);
}

// --- People

function choose(number) {
  chosen = number;
  showPeople();
  draw();
  drawBars();
}

function frameNow() {
  const here = shownAt(video.currentTime);
  return here.length ? here[0][1] : Math.round(video.currentTime * state.rate) + 1;
}

const shownPeople = new Map(); // what is the same as before is not built again: there may be hundreds
function showPeople() {
  byId("count").textContent = state.people.length;
  byId("people").replaceChildren(...state.people.map((each) => {
    const told = JSON.stringify([each.name, each.stays, each.picture]), before = shownPeople.get(each.number);
    if (before?.told === told) {
      before.item.firstChild.setAttribute("aria-pressed", String(each.number === chosen));
      return before.item;
    }
    const item = element("li"), choice = button("", () => { choose(each.number); seek(each.stays[0][0]); });
    choice.setAttribute("aria-pressed", String(each.number === chosen));
    choice.style.borderLeftColor = each.colour;
    if (each.picture !== null) choice.append(picture(each.picture, ""));
    const seconds = each.stays.reduce((sum, [begun, ended]) => sum + ended - begun, 0);
    choice.append(title(each.number), element("br"), element("small", `${clock(each.stays[0][0])}, ${seconds.toFixed(1)} s`));
    item.append(choice);
    shownPeople.set(each.number, { told, item });
    return item;
  }));
  const shown = byId("chosen");
  if (chosen === null) { shown.replaceChildren(); return; }
  const number = chosen, name = element("input", "", { maxlength: 64, "aria-label": `Name of #${number}` });
  name.value = person(number).name;
  name.addEventListener("change", () => change({ do: "rename", identity: number, name: name.value }, "Saved."));
  const other = element("input", "", { inputmode: "numeric", size: 4, "aria-label": `The number that #${number} really is` });
  const naming = element("label", "Name "), merging = element("div"), buttons = element("div");
  naming.append(name);
  merging.className = buttons.className = "buttons";
  const merge = () => {
    const into = Number.parseInt(other.value.replace("#", ""), 10);
    if (!Number.isSafeInteger(into)) { say("Write the number of the person that this is.", true); return; }
    change({ do: "merge", identity: number, into }, `#${number} is now ${title(into)}.`).then((done) => { if (done) choose(into); });
  };
  other.addEventListener("keydown", (event) => { if (event.key === "Enter") merge(); });
  merging.append("is really #", other, button("Merge", merge));
  buttons.append(
    button("Split here", () => change({ do: "split", identity: number, frame: frameNow() }, "From here on it is somebody new."), "S"),
    button("Drop", () => change({ do: "drop", identity: number }, `#${number} was dropped.`), "D"));
  shown.replaceChildren(element("strong", title(number)), naming, merging, buttons);
}

function show() {
  showDoubt();
  showPeople();
  drawBars();
  draw();
}

// --- Keys and buttons

const ACTIONS = {
  " ": () => (video.paused ? video.play() : video.pause()),
  ArrowLeft: () => seek(video.currentTime - 1 / state.rate),
  ArrowRight: () => seek(video.currentTime + 1 / state.rate),
  y: () => answer(true), n: () => answer(false), j: () => goTo(place + 1), k: () => goTo(place - 1),
  u: () => byId("undo").click(),
  s: () => chosen !== null && change({ do: "split", identity: chosen, frame: frameNow() }, "From here on it is somebody new."),
  d: () => chosen !== null && change({ do: "drop", identity: chosen }, `#${chosen} was dropped.`),
};
document.addEventListener("keydown", (event) => {
  if (!state || event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;
  const action = ACTIONS[event.key];
  if (action) { event.preventDefault(); action(); }
});
byId("play").addEventListener("click", ACTIONS[" "]);
byId("back").addEventListener("click", ACTIONS.ArrowLeft);
byId("on").addEventListener("click", ACTIONS.ArrowRight);
byId("speed").addEventListener("change", () => { video.playbackRate = Number(byId("speed").value); });
byId("undo").addEventListener("click", () => { if (state.changes) change({ do: "undo" }, "Taken back."); });
byId("done").addEventListener("click", async () => {
  if (await ask("done", {})) say("The corrected results are being written. You can close this page.");
});

// --- Beginning

function play() {
  if (videoReady || (state.copied && state.progress < 1)) return;
  videoReady = true;
  video.src = "video";
}

async function wait() { // for the pictures, which come while the video is read
  const told = await ask("progress");
  if (!told) return;
  Object.assign(state, told);
  for (const image of document.querySelectorAll("img[data-missing]")) {
    delete image.dataset.missing;
    image.src = `picture/${image.dataset.row}.jpg?${told.progress}`;
  }
  play();
  if (told.failed) say(told.failed, true);
  else if (told.progress < 1) {
    say(`Reading the video: ${Math.round(100 * told.progress)} %`);
    setTimeout(wait, 500);
  } else if (hint.textContent.startsWith("Reading")) say("Y and N answer, J and K go on and back, U takes back.");
}

ask("state").then((first) => {
  if (!first) return;
  byId("title").textContent = first.title;
  document.title = `Review of ${first.title}`;
  byId("picture").style.aspectRatio = `${first.size[0]} / ${first.size[1]}`;
  byId("picture").style.maxHeight = "62vh";
  take(first);
  play();
  wait();
});
