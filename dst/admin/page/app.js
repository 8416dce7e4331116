// The page: where the status comes from, what is shown when it does not, and the operations.

import { reconcile, setText, showBadge } from "./tree.js";
import { showWhy, updateWhy } from "./why.js";

const POLL_MS = 2000;
const EVENTS_AGAIN_MS = 10000;
const API_VERSION = 1;

const $ = (id) => document.getElementById(id);
const storages = new Map();
const nodes = new Map();
let clockAhead = 0; // seconds that the daemon's clock is ahead of this one
let lastSeen = null;

const context = { now: () => Date.now() / 1000 + clockAhead, operate, why: showWhy };

// -- what is shown -----------------------------------------------------------

function show(status) {
  if (status.version !== API_VERSION) {
    notice("The daemon was changed to another version: reload this page.");
    return;
  }
  clockAhead = status.time - Date.now() / 1000;
  lastSeen = new Date();
  connected();
  showBadge($("health"), status.health);
  document.title = `${status.health === "healthy" ? "" : `${status.health} · `}DST`;
  reconcile($("storages"), "article", storages, status.storages, context);
  reconcile($("node-list"), "li", nodes, status.nodes, context);
  $("nodes").hidden = status.nodes.length === 0;
  $("empty").hidden = status.storages.length + status.nodes.length > 0;
  updateWhy();
}

function notice(sentence) {
  setText($("notice"), sentence);
  $("notice").hidden = sentence === "";
}

function connected() {
  setText($("connection"), "live");
  document.body.className = "live";
  notice("");
}

function lost() {
  setText($("connection"), "connection lost, retrying");
  document.body.className = "stale";
  notice(lastSeen === null
    ? "No daemon answers. Retrying."
    : `Connection lost, retrying. What is shown is how it was at ${lastSeen.toLocaleTimeString()}.`);
}

setInterval(() => {
  if (document.body.classList.contains("stale")) return; // nobody knows whether it still is
  for (const entry of [...storages.values(), ...nodes.values()]) entry.updateAge();
}, 1000);

// -- where it comes from: events, and asking where there are none -------------

let polling = null;

function listen() {
  const events = new EventSource("/v1/events");
  events.addEventListener("status", (event) => {
    stopPolling();
    show(JSON.parse(event.data));
  });
  events.addEventListener("trouble", (event) => {
    setText($("connection"), "the status cannot be had");
    document.body.className = "stale";
    notice(sentenceOf(JSON.parse(event.data)));
  });
  events.addEventListener("error", () => {
    lost();
    if (events.readyState === EventSource.CLOSED) { // refused, not only broken: the browser has given up
      startPolling();
      setTimeout(listen, EVENTS_AGAIN_MS);
    }
  });
}

async function poll() {
  try {
    const answer = await fetch("/v1/status", { cache: "no-store" });
    const value = await answer.json();
    if (answer.ok) show(value);
    else notice(sentenceOf(value));
  } catch {
    lost();
  }
}

function startPolling() {
  if (polling !== null) return;
  polling = setInterval(poll, POLL_MS);
  poll();
}

function stopPolling() {
  clearInterval(polling);
  polling = null;
}

function sentenceOf(value) {
  const { cause = "The daemon reports an error it does not name.", correction = "" } = value.error ?? {};
  return correction === "" ? cause : `${cause} — ${correction}`;
}

// -- operations -----------------------------------------------------------------

const QUESTIONS = {
  suspend: (storage, node) => ({
    title: `Suspend ${node}?`,
    text: `${storage} goes on without ${node}, with one copy less, until it is resumed. What is written meanwhile `
      + "is copied to it then.",
    yes: "Suspend",
  }),
  resume: (storage, node) => ({
    title: `Resume ${node}?`,
    text: `${storage} uses ${node} again; what it missed is copied to it.`,
    yes: "Resume",
  }),
};

let asked = null;

function operate(storage, operation, node) {
  const question = QUESTIONS[operation](storage, node);
  asked = { storage, operation, node };
  setText($("confirm-title"), question.title);
  setText($("confirm-text"), question.text);
  setText($("confirm-yes"), question.yes);
  $("confirm-error").hidden = true;
  $("confirm-yes").disabled = false;
  $("confirm").showModal();
  $("confirm-no").focus();
}

async function go() {
  const { storage, operation, node } = asked;
  $("confirm-yes").disabled = true;
  let error = "";
  try {
    const answer = await fetch(`/v1/storages/${encodeURIComponent(storage)}/${operation}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ node }),
    });
    if (!answer.ok) error = sentenceOf(await answer.json());
  } catch {
    error = "The daemon did not answer: look at the status before trying again.";
  }
  $("confirm-yes").disabled = false;
  if (error === "") {
    $("confirm").close();
  } else {
    setText($("confirm-error"), error);
    $("confirm-error").hidden = false;
  }
}

$("confirm-yes").addEventListener("click", go);
$("confirm-no").addEventListener("click", () => $("confirm").close());

listen();
