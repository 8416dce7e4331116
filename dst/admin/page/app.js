// The page: what the daemon says is shown, where the reader is, and what the keys do.

import "./login.js";
import { ask, clockAhead, heardTime } from "./api.js";
import { Sparkline } from "./charts.js";
import { showClients, showExports } from "./clients.js";
import { showConfiguration } from "./configuration.js";
import { Detail } from "./detail.js";
import { $, announce, make, setText, showBadge } from "./dom.js";
import { onSeverity, showEvents, showFindings, showOperations, takeEvents, tickFindings } from "./events.js";
import { lettersAreShortcuts, openHelp } from "./help.js";
import { Stream } from "./stream.js";
import { chosenBy, Grid, keyOf, summaryOf } from "./tree.js";
import { exportsOf, known, rateNow, samplePeriod, samples, sampleTraffic } from "./traffic.js";
import {
  durationInWords, needsAttention, percentInWords, plural, rateInWords, redundancyInWords, resyncBelow, sizeInWords,
  timeInWords, wordOf,
} from "./words.js";

const API_VERSION = 1;
const VIEWS = ["overview", "clients", "events", "configuration"];
const VIEW_MS = 2000; // how often what is not told by events is asked for, while it is looked at
const FINDINGS_MS_MIN = 500;
const SKEW_S_MIN = 5;
const UNSEEN_MS = 30000;
const SETTLE_MS = 2000;

let status = null;
let heardAt = null; // when the last status came
let view = "overview";
let shown = "all";
let version = null;
const healthWas = new Map(); // what was announced of each storage

// -- where the reader is ------------------------------------------------------------------

function addressOf(path) {
  return `#/at/${keyOf(path)}`;
}

// Where something can be looked at that a finding or an event is about; null where it is none of those.
function addressOfSubject(subject) {
  const among = (name, list) => list.find((tree) => tree.name === name);
  const device = exportsOf(null).find((each) => each.name === subject)?.device;
  if (among(subject, trees())) return addressOf([subject]);
  const slash = Math.max(0, subject.indexOf("/"));
  const [top, below] = [subject.slice(0, slash), subject.slice(slash + 1)];
  const tree = among(top, trees());
  if (tree) return addressOf(among(below, tree.members) ? [top, below] : [top]);
  return among(device, trees()) ? addressOf([device]) : null;
}

function route() {
  const [, first = "", ...rest] = location.hash.split("/");
  const path = first === "at" && rest.length > 0 ? rest.map(decodeURIComponent) : null;
  view = VIEWS.includes(first) ? first : "overview";
  for (const each of VIEWS) $(`view-${each}`).hidden = each !== view;
  for (const link of document.querySelectorAll("header nav a")) {
    const its = link.getAttribute("href").slice(2) || "overview";
    if (its === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const opens = path !== null && (detail.path === null || keyOf(detail.path) !== keyOf(path));
  document.body.classList.toggle("with-detail", path !== null);
  if (path === null) detail.hide();
  else detail.show(path, trees());
  grid.choose(path);
  cover();
  showView();
  if (opens && status !== null) {
    grid.reveal(path);
    detail.focus();
  }
}

const grid = new Grid($("tree"), (path) => { location.hash = addressOf(path); });
const detail = new Detail($("detail"), { close: closeDetail, go: addressOf });
addEventListener("hashchange", route);

function closeDetail() {
  const { path } = detail;
  location.hash = "#/";
  route();
  grid.focus(path);
}

// Narrow, the details cover the rest, which then cannot be reached.
const narrow = matchMedia("(max-width: 64rem)");
function cover() {
  $("main").inert = narrow.matches && detail.path !== null;
}
narrow.addEventListener("change", cover);

// -- the status ---------------------------------------------------------------------------------

function trees() {
  return status === null ? [] : [...status.storages, ...status.nodes];
}

function takeStatus(value) {
  if (value.version !== API_VERSION) {
    banner("The daemon was changed to another version.", "Reload", () => location.reload());
    return;
  }
  const first = status === null;
  status = value;
  heardAt = Date.now();
  heardTime(value.time);
  showBadge($("health"), value.health);
  const bad = trees().filter(needsAttention).length;
  document.title = `${bad > 0 ? `(${bad}) ${value.health} · ` : ""}DST ${location.host}`;
  announceChanges();
  showOverview();
  if (first) {
    route();
    for (let ms = 0; ms < SETTLE_MS; ms += 100) setTimeout(settle, ms);
  } else {
    detail.update(trees());
  }
  askFindings();
}

// At first what stands above the tree comes piece by piece, and moves it: what the address names is kept in sight, until
// the reader moves.
let settling = true;

function settle() {
  if (settling && detail.path !== null && !narrow.matches) grid.reveal(detail.path);
}
for (const each of ["wheel", "pointerdown", "keydown", "touchstart"]) {
  addEventListener(each, () => { settling = false; }, { once: true, passive: true });
}

function announceChanges() {
  const now_ = new Set();
  for (const tree of trees()) {
    const word = wordOf(tree);
    now_.add(tree.name);
    const was = healthWas.get(tree.name);
    if (was !== undefined && was !== word) announce(`${tree.name} is ${word}${tree.reason ? `: ${tree.reason}` : ""}`);
    healthWas.set(tree.name, word);
  }
  for (const name of healthWas.keys()) if (!now_.has(name)) healthWas.delete(name);
}

function showOverview() {
  if (status === null || view !== "overview") return;
  const all = trees();
  const isChosen = chosenBy(shown, $("filter").value);
  const chosen = all.filter(isChosen);
  $("toolbar").hidden = all.length < 2;
  for (const chip of document.querySelectorAll("[data-show]")) {
    const count = all.filter(chosenBy(chip.dataset.show, "")).length;
    setText(chip, `${{ all: "All", attention: "Attention", resync: "Resync" }[chip.dataset.show]} ${count}`);
    chip.setAttribute("aria-pressed", chip.dataset.show === shown);
  }
  $("tree-card").hidden = chosen.length === 0;
  $("nothing").hidden = chosen.length > 0;
  setText($("nothing"), all.length === 0
    ? "The daemon has no storage and no node." : shown === "attention" ? "All is well." : "Nothing is like that.");
  grid.update(all, isChosen);
  showTiles();
}

// -- the tiles --------------------------------------------------------------------------------------

const tiles = new Map();

function tile(name, value, about, tone = "") {
  let parts = tiles.get(name);
  if (parts === undefined) {
    const element = make($("tiles"), "div", "tile");
    make(element, "dt", "", name);
    parts = { element, value: make(element, "dd", "tile-value"), about: make(element, "dd", "tile-about") };
    tiles.set(name, parts);
  }
  parts.element.className = `tile ${tone}`;
  setText(parts.value, value);
  setText(parts.about, about);
  return parts;
}

function showTiles() {
  const { storages } = status;
  $("tiles").hidden = storages.length === 0;
  if (storages.length === 0) return;
  tile("Storages", `${storages.length}`, summaryOf(storages), storages.some(needsAttention) ? "warn" : "");
  const risky = storages.filter((tree) => tree.kind === "mirror" && redundancyInWords(tree) !== "" && tree.redundancy === 0);
  tile("Redundancy", risky.length === 0 ? "kept" : `${risky.length} at risk`,
    risky.length === 0 ? "every mirror can lose a copy" : `no copy can be lost: ${risky.slice(0, 3).map((tree) => tree.name).join(", ")}${risky.length > 3 ? " …" : ""}`,
    risky.length > 0 ? "bad" : "");
  const resyncs = storages.map(resyncBelow).filter(Boolean);
  if (resyncs.length === 0) {
    tile("Resync", "none", "nothing has to be copied");
  } else {
    const sum = (key) => resyncs.reduce((total, each) => total + each[key], 0);
    const rate = sum("bytes_per_s");
    tile("Resync", percentInWords(sum("bytes_total") - sum("bytes_left"), sum("bytes_total")),
      `${plural(sum("count"), "member")} · ${sizeInWords(sum("bytes_left"))} left${rate > 0 ? ` · ${rateInWords(rate)}` : ""}`, "busy");
  }
  showTraffic();
}

let traffic = null;

function showTraffic() {
  if (!known || status === null || status.storages.length === 0) return;
  const exported = exportsOf(null);
  const clients = exported.reduce((total, each) => total + (each.sessions ?? 0), 0);
  tile("Clients", `${clients}`, `of ${plural(exported.length, "export")}`);
  const rate = rateNow(null);
  const parts = tile("Traffic", rate === null ? "–" : rateInWords(rate.read + rate.written),
    rate === null ? "" : `${rateInWords(rate.read)} read, ${rateInWords(rate.written)} written`);
  traffic ??= new Sparkline(parts.element, 120, 30);
  const since = Date.now() / 1000 + clockAhead() - 60 * samplePeriod() - 2;
  if (exported.length <= 200) {
    traffic.update(samples(exported.map((each) => each.name), since).map((each) => each.read + each.written));
  }
}

// -- what is not told by events -----------------------------------------------------------------------

let findingsAsked = 0;
let findingsLater = null;

async function askFindings() {
  if (findingsLater !== null) return;
  const wait = findingsAsked + FINDINGS_MS_MIN - Date.now();
  if (wait > 0) {
    findingsLater = setTimeout(() => {
      findingsLater = null;
      askFindings();
    }, wait);
    return;
  }
  findingsAsked = Date.now();
  showFindings(await listedAs("health", "findings"), addressOfSubject);
}

async function listedAs(name, key) {
  try {
    const { value } = await ask(`/v1/${name}`, { quiet: true });
    return value[key] ?? value[name] ?? [];
  } catch {
    return null;
  }
}

async function askVersion() {
  try {
    const { value } = await ask("/v1/version", { quiet: true });
    const found = value.release ?? null;
    if (version !== null && found !== version) {
      banner("The daemon was upgraded; this page is of the version before.", "Reload", () => location.reload());
    }
    version ??= found;
    setText($("version"), found === null ? "" : `DST ${found}`);
  } catch { /* an older daemon: it does not say */ }
}

// What happened before this page listened; with the numbers that the stream's events have, too.
async function askEvents() {
  try {
    const { value } = await ask("/v1/events?limit=10000", { quiet: true, headers: { Accept: "application/json" } });
    takeEvents(value.events, true);
    if (view === "events") showEvents(addressOfSubject);
  } catch { /* an older daemon: there is no list */ }
}

function showView() {
  if (view === "overview") showOverview();
  if (document.hidden || !document.body.classList.contains("live")) return;
  if (view === "clients") showClients();
  if (view === "events") {
    showEvents(addressOfSubject);
    showOperations(addressOfSubject);
  }
  if (view === "configuration") showConfiguration();
}

setInterval(() => { if (view === "clients" || view === "events") showView(); }, VIEW_MS);
setInterval(() => {
  if (!document.body.classList.contains("live")) return; // nobody knows whether it still is
  grid.tick();
  tickFindings();
  detail.tick();
  const skew = clockAhead();
  setText($("clock"), Math.abs(skew) < SKEW_S_MIN ? ""
    : `The daemon's clock is ${durationInWords(Math.abs(skew))} ${skew > 0 ? "ahead of" : "behind"} this browser's.`);
}, 1000);

// -- the connection ----------------------------------------------------------------------------------

function banner(text, action = "", act = null) {
  $("banner").hidden = text === "";
  setText($("banner-text"), text);
  $("banner-act").hidden = action === "";
  setText($("banner-act"), action);
  $("banner-act").onclick = act;
}

function connection(name, words) {
  document.body.classList.toggle("live", name === "live");
  document.body.classList.toggle("stale", name === "lost" || name === "refused");
  setText($("connection"), words);
}

let reconnected = null;

const stream = new Stream({
  event: (kind, value) => {
    if (kind === "status") {
      connection("live", "live");
      banner("");
      if (reconnected === true) announce("Connected again.");
      if (reconnected !== false) {
        askVersion();
        askEvents();
        if (view !== "overview") setTimeout(showView);
      }
      reconnected = false;
      takeStatus(value);
    } else if (kind === "event") {
      takeEvents([value]);
      if (view === "events") showEvents(addressOfSubject);
    } else if (kind === "trouble") {
      connection("lost", "no status");
      const { cause = "The status cannot be had.", correction = "" } = value.error ?? {};
      banner(`${cause}${correction && ` — ${correction}`}`);
    }
  },
  state: (name, { error }) => {
    if (name === "connecting") return;
    if (reconnected === false) reconnected = true;
    if (name === "refused") {
      connection("refused", "not signed in");
      banner(error.message, "Sign in", () => stream.retry());
      return;
    }
    connection("lost", "connection lost");
    const why = error.status === 0 ? "" : ` ${error.sentence}`;
    banner(heardAt === null
      ? `No daemon answers.${why} It is tried again.`
      : `Connection lost.${why} What is shown is how it was at ${timeInWords(heardAt / 1000)}; it is tried again.`,
    "Try now", () => stream.retry());
  },
});
addEventListener("online", () => stream.retry());

// A page that nobody looks at asks now and then, so that its title is right.
let unseen = null;
document.addEventListener("visibilitychange", () => {
  clearInterval(unseen);
  if (!document.hidden) {
    stream.resume();
    return;
  }
  unseen = setInterval(async () => {
    stream.pause();
    try {
      takeStatus((await ask("/v1/status", { quiet: true })).value);
    } catch { /* it is said when somebody looks */ }
  }, UNSEEN_MS);
});

// -- the controls ------------------------------------------------------------------------------------

$("filter").addEventListener("input", showOverview);
for (const chip of document.querySelectorAll("[data-show]")) {
  chip.addEventListener("click", () => {
    shown = chip.dataset.show;
    showOverview();
  });
}
onSeverity(() => showEvents(addressOfSubject));

function showTheme() {
  const theme = window.dstTheme.get();
  setText($("theme"), { system: "◐", light: "☀", dark: "☾" }[theme]);
  $("theme").setAttribute("aria-label", `Colours: ${theme}`);
  $("theme").title = `Colours: ${theme} (t)`;
}
function nextTheme() {
  window.dstTheme.next();
  showTheme();
}
$("theme").addEventListener("click", nextTheme);
showTheme();

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "Escape") {
    if (event.target === $("filter")) {
      $("filter").value = "";
      showOverview();
      grid.focus();
    } else if (detail.path !== null) {
      closeDetail();
    }
    return;
  }
  if (typing || !lettersAreShortcuts()) return;
  const number = "1234".indexOf(event.key);
  if (number >= 0) location.hash = number === 0 ? "#/" : `#/${VIEWS[number]}`;
  else if (event.key === "?") openHelp();
  else if (event.key === "t") nextTheme();
  else if (event.key === "/") {
    location.hash = detail.path === null ? "#/" : location.hash;
    $("toolbar").hidden = false;
    $("filter").focus();
  } else return;
  event.preventDefault();
});

setText($("host"), location.host);
route();
stream.run();
sampleTraffic(() => {
  if (view === "overview") {
    grid.traffic();
    showTraffic();
  }
  if (view === "clients") showExports();
  detail.updateTraffic();
});
