// The page of reid-tracker live: pictures and figures come over a socket, the list of everyone is asked for now and then.

const byId = (id) => document.getElementById(id);
const STATE = -1;       // confirms a state, as a camera's place confirms its picture
const SHOWN = 100;      // rows of the table before "Show all"
const cameras = [];     // per camera: its figure's elements
const chosen = new Set();
let all = false;
let refresh = 0;
let sources = [];       // names of the cameras, for the colours of the timeline

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
}

const clock = (seconds) => new Date(1000 * seconds).toLocaleTimeString();
const saving = new Map(); // names on their way to the server, by number: what it tells meanwhile is older
const nameOf = (person) => person.name || `#${person.person}`;

// Pictures

function connect(wait = 500) {
  const url = new URL("socket", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { wait = 500; connection("live"); };
  socket.onclose = () => {
    connection("offline");
    setTimeout(() => connect(Math.min(2 * wait, 8000)), wait);
  };
  socket.onmessage = async ({ data }) => {
    let key = STATE;
    if (typeof data === "string") {
      showState(JSON.parse(data));
    } else {
      key = new Uint8Array(data)[0];
      await draw(key, new Blob([data.slice(1)], { type: "image/jpeg" }));
    }
    if (socket.readyState === WebSocket.OPEN) socket.send(key); // only now may the next one come
  };
}

function connection(text) {
  const badge = byId("connection");
  badge.className = `badge ${text === "live" ? "live" : "lost"}`;
  set(badge, text);
}

async function draw(place, blob) {
  const camera = cameras[place];
  if (!camera) return;
  try {
    const picture = await createImageBitmap(blob);
    const { canvas } = camera;
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      canvas.width = picture.width;
      canvas.height = picture.height;
      canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
    }
    canvas.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    canvas.dataset.frames = Number(canvas.dataset.frames || 0) + 1;
  } catch { /* a damaged picture: the next one comes */ }
}

// Figures

function showState(state) {
  sources = state.cameras.map((camera) => camera.name);
  state.cameras.forEach(showCamera);
  set(byId("summary"), `${state.people.length} in view · ${state.seen} seen · ` +
    `${Math.round(1000 * state.screen_delay)} ms from camera to screen`);
  keyed(byId("view"), state.people, makeCard, fillCard);
  byId("undone").hidden = !state.undo;
  if (state.undo) set(byId("undone").firstChild, `#${state.undo.other} is part of #${state.undo.keep} now.`);
  if (Date.now() > refresh) loadPeople();
}

function showCamera(camera, place) {
  if (!cameras[place]) {
    const canvas = make("canvas", { width: 640, height: 480 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Live picture of ${camera.name}`);
    const status = make("span", { className: "badge" });
    const figures = make("span", { className: "figure" });
    const error = make("span", { className: "error" });
    const counted = make("span", { className: "counted" });
    const figure = make("figure", {}, canvas,
      make("figcaption", {}, make("b", { textContent: camera.name }), status, figures, counted, error));
    byId("cameras").append(figure);
    cameras[place] = { canvas, status, figures, counted, error, figure };
  }
  const { status, figures, counted, error, figure } = cameras[place];
  figure.className = camera.status;
  status.className = `badge ${camera.status}`;
  set(status, camera.status);
  set(error, camera.error);
  set(counted, (camera.counted || []).join(" · "));
  const share = camera.received ? ` (${Math.round(100 * camera.dropped / camera.received)} %)` : "";
  set(figures, `${camera.fps.toFixed(1)} fps · ${Math.round(1000 * camera.delay)} ms · ` +
    `${camera.dropped} dropped${share} · ${camera.reconnects} reconnects`);
}

// People

function keyed(parent, people, build, fill) {
  if (parent.querySelector("input.name")) return; // moving a row would end the editing
  const focused = document.activeElement;
  const old = new Map([...parent.children].map((row) => [row.dataset.person, row]));
  people.forEach((person, place) => {
    const key = String(person.person);
    const row = old.get(key) || build(person);
    old.delete(key);
    row.dataset.person = key;
    if (parent.children[place] !== row) parent.insertBefore(row, parent.children[place] || null);
    fill(row, person);
  });
  old.forEach((row) => row.remove());
  if (parent.contains(focused) && document.activeElement !== focused) focused.focus();
}

function nameButton() {
  const button = make("button", { type: "button", className: "name", title: "Give a name" });
  button.onclick = () => edit(button);
  return button;
}

function fillName(row, person) {
  const button = row.querySelector("button.name");
  const name = saving.get(String(person.person)) ?? person.name;
  button.dataset.name = name;
  set(button, name || `#${person.person}`);
}

function fillCrop(row, person) {
  const image = row.querySelector("img");
  const source = person.crop ? `people/${person.person}/crop?v=${person.crop}` : "";
  if (source && image.getAttribute("src") !== source) image.src = source;
  image.alt = person.crop ? `Best picture of ${nameOf(person)}` : "";
}

function makeCard() {
  return make("li", {}, make("img"), make("div", {}, nameButton(), make("div", { className: "soft" })));
}

function fillCard(row, person) {
  fillName(row, person);
  fillCrop(row, person);
  set(row.querySelector(".soft"), `${duration(person.seconds)} · ${person.cameras.join(", ")}`);
}

function makeRow(person) {
  const box = make("input", { type: "checkbox" });
  box.setAttribute("aria-label", `Choose person ${person.person}`);
  box.onchange = () => {
    chosen[box.checked ? "add" : "delete"](person.person);
    byId("merge").disabled = chosen.size !== 2;
  };
  const cell = (child, className = "") => make("td", { className }, child);
  return make("tr", {}, cell(box), cell(make("img")), cell(nameButton()), cell("", "soft total"), cell("", "soft last"),
    cell(make("div", { className: "timeline" }), "times"));
}

function fillRow(row, person, start, end) {
  fillName(row, person);
  fillCrop(row, person);
  const last = Math.max(...person.visits.map((visit) => visit[2]));
  set(row.querySelector(".total"), duration(person.seconds));
  set(row.querySelector(".last"), person.cameras.length ? `now, ${person.cameras.join(", ")}` : clock(last));
  const timeline = row.querySelector(".timeline");
  timeline.replaceChildren(...person.visits.map(([camera, from, to]) => {
    const title = `${camera}, ${clock(from)} to ${clock(to)}`;
    const bar = make("i", { title });
    const percent = (seconds) => Math.max(100 * (seconds - start) / (end - start), 0);
    bar.style.left = `${percent(from)}%`;
    bar.style.width = `${percent(to) - percent(from)}%`;
    bar.style.setProperty("--hue", 215 + 137 * Math.max(sources.indexOf(camera), 0));
    return bar;
  }));
  timeline.setAttribute("role", "img");
  timeline.setAttribute("aria-label", `${person.visits.length} visits`);
}

async function loadPeople() {
  refresh = Date.now() + 2000;
  const answer = await fetch("people");
  if (!answer.ok) return;
  const people = await answer.json();
  const rows = all ? people : people.slice(0, SHOWN);
  const end = Date.now() / 1000;
  const start = Math.min(end - 60, ...rows.map((person) => person.visits[0][1]));
  keyed(byId("seen"), rows, makeRow, (row, person) => fillRow(row, person, start, end));
  for (const number of chosen) {
    if (!people.some((person) => person.person === number)) chosen.delete(number);
  }
  byId("merge").disabled = chosen.size !== 2;
  set(byId("from"), clock(start));
  byId("more").hidden = all || people.length <= SHOWN;
  set(byId("more"), `Show all ${people.length}`);
}

async function send(path, body) {
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  }).catch(() => null);
  set(byId("message"), answer && answer.ok ? "" : (answer && (await answer.json().catch(() => ({}))).error) || "not saved");
  await loadPeople();
}

function edit(button) {
  const number = button.closest("[data-person]").dataset.person;
  const input = make("input", { className: "name", value: button.dataset.name, maxLength: 80 });
  input.setAttribute("aria-label", `Name of person ${number}`);
  let open = true;
  const close = (save) => {
    if (!open) return;
    open = false;
    const text = input.value.trim();
    if (save && text !== button.dataset.name) {
      button.dataset.name = text;
      set(button, text || `#${number}`);
      saving.set(number, text);
      send(`people/${number}/name`, { name: text }).finally(() => {
        if (saving.get(number) === text) saving.delete(number);
      });
    }
    const focused = document.activeElement === input;
    input.replaceWith(button);
    if (focused) button.focus();
  };
  input.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault(); // else the same key would press the button that comes back
    close(event.key === "Enter");
  };
  input.onblur = () => close(true);
  button.replaceWith(input);
  input.focus();
  input.select();
}

byId("merge").onclick = () => {
  const [one, other] = [...chosen].sort((a, b) => a - b);
  const inView = (number) => byId("view").querySelector(`[data-person="${number}"]`) !== null;
  const question = `Persons ${one} and ${other} are both in view now. Are they one person, whom two cameras see?`;
  if (inView(one) && inView(other) && !window.confirm(question)) return;
  chosen.clear();
  document.querySelectorAll("#seen input[type=checkbox]").forEach((box) => { box.checked = false; });
  send(`people/${one}/merge`, { other });
};
byId("undo").onclick = () => send("people/undo", {});
byId("more").onclick = () => { all = true; loadPeople(); };

connect();
