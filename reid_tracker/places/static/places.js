"use strict";
// Places are drawn in the picture's own pixels; the drawing is an SVG of the picture's size laid over it.

const NS = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const drawing = byId("drawing"), list = byId("list"), hint = byId("hint"), picture = byId("picture");
let size = [1, 1], colors = ["#fff"], places = [], begun = null, dragged = null, saved = true;

const kind = (place) => (place.points.length === 2 ? "line" : "zone");
const color = (index) => colors[index % colors.length];

function say(text, wrong = false) {
  hint.textContent = text;
  hint.classList.toggle("wrong", wrong);
}

function draw() {
  const unit = size[0] / (drawing.clientWidth || size[0]); // px of the picture that are one on the screen
  drawing.replaceChildren();
  const add = (name, attributes) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    drawing.append(node);
    return node;
  };
  const shown = begun ? [...places, begun] : places;
  shown.forEach((place, index) => {
    const points = place.points, closed = place !== begun && points.length > 2;
    add(closed ? "polygon" : "polyline", {
      points: points.map((point) => point.join(",")).join(" "), stroke: color(index), "stroke-width": 2.5 * unit,
      fill: closed ? color(index) : "none", "fill-opacity": 0.18,
    });
    if (place !== begun && points.length === 2) { // the arrow shows which way is in: left, seen from the first point
      const [[x1, y1], [x2, y2]] = points, along = [x2 - x1, y2 - y1], length = Math.hypot(...along) || 1;
      const middle = [(x1 + x2) / 2, (y1 + y2) / 2], reach = (24 * unit) / length;
      const tip = [middle[0] + along[1] * reach, middle[1] - along[0] * reach];
      add("line", { x1: middle[0], y1: middle[1], x2: tip[0], y2: tip[1], stroke: color(index), "stroke-width": 2.5 * unit });
      const [x, y] = [middle[0] + along[1] * reach * 1.5, middle[1] - along[0] * reach * 1.5];
      add("text", { x, y, fill: color(index), "font-size": 14 * unit, "text-anchor": "middle", "dominant-baseline": "central" })
        .textContent = "in";
    }
    points.forEach(([x, y], corner) => {
      const handle = add("circle", { cx: x, cy: y, r: 6 * unit, fill: color(index), class: "handle" });
      handle.dataset.place = index;
      handle.dataset.corner = corner;
    });
  });
}

function show() {
  list.replaceChildren(...places.map((place, index) => {
    const row = document.createElement("li"), swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = color(index);
    const name = document.createElement("input");
    name.value = place.name;
    name.setAttribute("aria-label", `Name of the ${kind(place)}`);
    name.maxLength = 64;
    name.addEventListener("input", () => { place.name = name.value; changed(); });
    const turn = document.createElement("button");
    turn.textContent = "Turn";
    turn.title = "Swap in and out";
    turn.setAttribute("aria-label", `Swap in and out of ${place.name}`);
    turn.hidden = kind(place) !== "line";
    turn.addEventListener("click", () => { place.points.reverse(); changed(); draw(); });
    const remove = document.createElement("button");
    remove.textContent = "Remove";
    remove.setAttribute("aria-label", `Remove ${place.name}`);
    remove.addEventListener("click", () => { places.splice(index, 1); changed(); show(); });
    row.append(swatch, name, turn, remove);
    return row;
  }));
  byId("none").hidden = places.length > 0;
  draw();
}

function changed() {
  saved = false;
  say("Not saved yet.");
}

function begin(wanted) {
  begun = { kind: wanted, name: "", points: [] };
  for (const id of ["line", "zone"]) byId(id).setAttribute("aria-pressed", String(id === wanted));
  picture.classList.add("drawing");
  say(wanted === "line" ? "Click its two ends." : "Click its corners; Enter or a double click ends it, Escape drops it.");
  draw();
}

function finish(keep) {
  if (!begun) return;
  const drawn = begun;
  begun = null;
  for (const id of ["line", "zone"]) byId(id).setAttribute("aria-pressed", "false");
  picture.classList.remove("drawing");
  if (keep && drawn.points.length >= (drawn.kind === "line" ? 2 : 3)) {
    const taken = new Set(places.map((place) => place.name));
    let number = 1;
    while (taken.has(`${drawn.kind} ${number}`)) number += 1;
    places.push({ name: `${drawn.kind} ${number}`, points: drawn.points });
    changed();
    show();
    list.lastElementChild.querySelector("input").select();
  } else {
    say(keep ? "A zone needs three corners at least." : "Dropped.");
    draw();
  }
}

function spot(event) {
  const box = drawing.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top].map((value, axis) => {
    const scaled = value * size[axis] / (axis ? box.height : box.width);
    return Math.round(Math.min(Math.max(scaled, 0), size[axis]) * 10) / 10;
  });
}

drawing.addEventListener("pointerdown", (event) => {
  if (begun) {
    const last = begun.points.at(-1), here = spot(event);
    if (!last || Math.hypot(last[0] - here[0], last[1] - here[1]) > 1) begun.points.push(here);
    if (begun.kind === "line" && begun.points.length === 2) finish(true);
    else draw();
  } else if (event.target.classList.contains("handle")) {
    dragged = [places[event.target.dataset.place], Number(event.target.dataset.corner)];
    drawing.setPointerCapture(event.pointerId);
  }
  event.preventDefault();
});
drawing.addEventListener("pointermove", (event) => {
  if (!dragged) return;
  dragged[0].points[dragged[1]] = spot(event);
  changed();
  draw();
});
drawing.addEventListener("pointerup", () => { dragged = null; });
drawing.addEventListener("dblclick", () => finish(true));
document.addEventListener("keydown", (event) => {
  if (!begun || event.target.tagName === "INPUT") return;
  if (event.key === "Enter") { event.preventDefault(); finish(true); }
  if (event.key === "Escape") finish(false);
});
for (const id of ["line", "zone"]) byId(id).addEventListener("click", () => begin(id));

async function save() {
  finish(true);
  const names = places.map((place) => place.name.trim());
  if (names.some((name) => !name)) { say("Give every place a name.", true); return false; }
  if (new Set(names).size < names.length) { say("Two places have one name; name them differently.", true); return false; }
  const body = { size, lines: {}, zones: {} };
  places.forEach((place, index) => { body[`${kind(place)}s`][names[index]] = place.points; });
  const answer = await fetch("places", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  }).catch(() => null);
  if (!answer || !answer.ok) {
    say(answer ? (await answer.json().catch(() => ({ error: "It could not be saved." }))).error : "The program has ended.", true);
    return false;
  }
  saved = true;
  say("Saved.");
  return true;
}

byId("save").addEventListener("click", save);
byId("done").addEventListener("click", async () => {
  if (!saved && !(await save())) return;
  saved = true;
  await fetch("done", { method: "POST" }).catch(() => null);
  say("You can close this page.");
});
window.addEventListener("beforeunload", (event) => { if (!saved) event.preventDefault(); });
window.addEventListener("resize", draw);

fetch("places").then((answer) => answer.json()).then((known) => {
  [size, colors] = [known.size, known.colors];
  byId("title").textContent = known.title;
  document.title = `Places in ${known.title}`;
  drawing.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  places = Object.entries(known.places).map(([name, points]) => ({ name, points }));
  show();
  say(places.length ? "Drag corners to move them." : "Draw a line at a door, or a zone around a counter.");
});
