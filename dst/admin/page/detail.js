// One storage or node in full: why it is so, what can be done, what passes through it, and every fact there is.

import { APIError, ask, now, path as address } from "./api.js";
import { Chart } from "./charts.js";
import { confirmOperation } from "./confirm.js";
import { $, button, make, reconcile, sentence, setText, showBadge, withCode } from "./dom.js";
import { runningScrub, showResyncs, showRunning, showScrubs } from "./history.js";
import { OPERATIONS, offeredFor } from "./operations.js";
import { exportsOf, FINE_SAMPLES, known, samplePeriod, samples } from "./traffic.js";
import { explanationOf, showWhy } from "./why.js";
import {
  countInWords, dayInWords, durationInWords, isMember, isRemote, latencyInWords, ownershipInWords, progressInWords, rateInWords,
  redundancyInWords, resyncBelow, sizeInWords, timeInWords, wordOf,
} from "./words.js";

const ASK_AGAIN_MS = 1000; // an explanation may change with every event; people read slower
const ASK_STALE_MS = 10000; // leases and attempts go on without an event
const COARSE = 12;

export class Detail {
  constructor(element, { close, go }) {
    this.element = element;
    this.go = go;
    this.path = null;
    this.top = null;
    this.again = null;
    const head = make(element, "div", "detail-head");
    this.trail = make(head, "p", "trail");
    const line = make(head, "div", "detail-line");
    this.title = make(line, "h2");
    this.title.id = "detail-title";
    this.title.tabIndex = -1;
    this.badge = make(line, "span", "badge");
    const closer = button(head, "✕", close, "tool close");
    closer.setAttribute("aria-label", "Close the details");
    this.about = make(element, "p", "quiet about");
    this.reason = make(element, "p", "reason");
    this.progress = make(element, "div", "progress");
    make(this.progress, "progress");
    make(this.progress, "span");
    this.actions = make(element, "div", "actions");
    this.actions.setAttribute("role", "group");
    this.actions.setAttribute("aria-label", "Operations");
    this.buttons = new Map();
    this.why = make(element, "dl", "why");
    this.whyError = make(element, "p", "error");
    this.#charts();
    this.scrubbing = make(element, "div", "progress");
    make(this.scrubbing, "progress").setAttribute("aria-label", "scrub");
    make(this.scrubbing, "span");
    this.scrubsTitle = make(element, "h3", "", "Scrubs");
    this.scrubList = make(element, "ul", "history");
    this.historyTitle = make(element, "h3", "", "Resyncs that have ended");
    this.history = make(element, "ul", "history");
    make(element, "h3", "", "Facts");
    this.facts = make(element, "dl", "fact-list");
    document.addEventListener("dst-done", () => { if (this.path !== null && this.tree) this.#ask(); });
  }

  #charts() {
    this.charts = make(this.element, "section", "charts");
    this.charts.setAttribute("aria-label", "Traffic over time");
    const head = make(this.charts, "div", "card-head");
    make(head, "h3", "", "Traffic");
    const chips = make(head, "span", "chips");
    chips.setAttribute("role", "group");
    chips.setAttribute("aria-label", "How far back");
    this.coarse = false;
    const spans = [["Minutes", false], ["1 hour", true]].map(([text, coarse]) => {
      const chip = button(chips, text, () => {
        this.coarse = coarse;
        for (const [other, its] of spans) other.setAttribute("aria-pressed", its === coarse);
        this.updateTraffic();
      }, "chip");
      chip.setAttribute("aria-pressed", !coarse);
      return [chip, coarse];
    });
    const two = [{ name: "read", tone: "one" }, { name: "written", tone: "two" }];
    this.throughput = new Chart(this.charts, { title: "Throughput", lines: two, format: rateInWords, base: 1024 });
    this.requests = new Chart(this.charts, {
      title: "Requests", lines: [{ name: "reads", tone: "one" }, { name: "writes", tone: "two" }, { name: "other", tone: "three" }],
      format: (count) => `${countInWords(count)}/s`,
    });
    this.latency = new Chart(this.charts, {
      title: "Latency", lines: [{ name: "reads", tone: "one" }, { name: "writes", tone: "two" }], format: latencyInWords,
    });
  }

  // @param path: names from the top; `trees` is all that the status has at its top.
  show(path, trees) {
    if (this.path === null || this.path.join("\n") !== path.join("\n")) {
      this.path = path;
      this.explanation = null;
      this.records = [];
      this.scrubs = [];
      this.#showHistory();
      this.asked = 0;
      this.why.replaceChildren();
      sentence(this.whyError, "");
      this.buttons.clear();
      this.actions.replaceChildren();
    }
    this.element.hidden = false;
    this.update(trees);
  }

  hide() {
    this.path = null;
    this.element.hidden = true;
  }

  update(trees) {
    if (this.path === null) return;
    this.top = trees.find((tree) => tree.name === this.path[0]) ?? null;
    let tree = this.top;
    let above = null;
    this.own = true;
    for (const name of this.path.slice(1)) {
      above = tree;
      this.own &&= tree !== null && !isRemote(tree);
      tree = tree?.members.find((member) => member.name === name) ?? null;
    }
    this.tree = tree;
    this.#head();
    if (tree === null) return;
    // Only the daemon's own storages can be operated on through it; what is below a remote node is another's.
    const own = this.path.length <= 2 && (this.top.members.some(isMember) || this.path.length === 1);
    this.about_ = !own ? null : this.path.length === 1
      ? (tree.members.length > 0 ? { storage: tree, member: null } : null)
      : isMember(tree) ? { storage: above, member: tree } : null;
    this.#operations();
    this.#facts();
    this.updateAge();
    this.updateTraffic();
    this.#ask();
  }

  #head() {
    const { tree, path } = this;
    setText(this.title, path.at(-1));
    if (this.trail.dataset.said !== path.join("\n")) {
      this.trail.dataset.said = path.join("\n");
      this.trail.replaceChildren();
      path.slice(0, -1).forEach((name, place) => {
        const link = make(this.trail, "a", "", name);
        link.href = this.go(path.slice(0, place + 1));
        this.trail.append(" › ");
      });
    }
    this.trail.hidden = path.length === 1;
    this.badge.hidden = tree === null;
    for (const part of [this.actions, this.why, this.charts, this.facts, this.progress]) part.classList.toggle("gone", tree === null);
    const reason = tree === null ? "It is not there any more." : tree.reason;
    withCode(this.reason, reason);
    this.reason.hidden = reason === "";
    if (tree === null) {
      setText(this.about, "");
      return;
    }
    showBadge(this.badge, wordOf(tree));
    const resync = tree.resync ?? resyncBelow(tree);
    this.progress.hidden = !resync;
    if (resync) {
      const [bar, text] = this.progress.children;
      bar.setAttribute("aria-label", `resync of ${tree.name}`);
      bar.max = Math.max(1, resync.bytes_total);
      bar.value = resync.bytes_total > 0 ? resync.bytes_total - resync.bytes_left : 1;
      this.progress.classList.toggle("stalled", Boolean(resync.stalled));
      setText(text, progressInWords(resync));
    }
  }

  tick() {
    if (this.path === null || !this.tree) return;
    this.updateAge();
    if (Date.now() - this.asked > ASK_STALE_MS) this.#ask();
  }

  updateAge() {
    const { kind, size, since } = this.tree;
    const facts = [kind, size > 0 ? sizeInWords(size) : "", redundancyInWords(this.tree)];
    if (since > 0) facts.push(`${wordOf(this.tree)} for ${durationInWords(now() - since)}`);
    setText(this.about, facts.filter(Boolean).join(" · "));
  }

  #operations() {
    const about = this.about_ === null ? null : {
      ...this.about_, records: this.records, scrubs: this.scrubs, explanation: this.explanation,
    };
    const offered = about === null ? [] : offeredFor(about);
    this.actions.hidden = offered.length === 0;
    reconcile(this.actions, this.buttons, offered, ({ name }) => name, ({ name, operation }) => {
      const element = button(null, operation.label, () => this.operate(name), operation.danger ? "danger-quiet" : "");
      return {
        element,
        update: ({ why }) => {
          element.disabled = why !== "";
          element.title = why;
          if (operation.grave || operation.fields) setText(element, `${OPERATIONS[name].label} …`);
        },
      };
    });
  }

  operate(name) {
    confirmOperation(name, {
      ...this.about_, records: this.records, scrubs: this.scrubs, explanation: this.explanation,
    });
  }

  // -- what only the daemon knows -------------------------------------------------------------

  #askLater() {
    this.again ??= setTimeout(() => {
      this.again = null;
      if (this.path !== null && this.tree) this.#ask();
    }, ASK_AGAIN_MS);
  }

  async #ask() {
    if (this.asking || Date.now() - this.asked < ASK_AGAIN_MS) {
      this.#askLater();
      return;
    }
    const { path } = this;
    this.asking = true;
    this.asked = Date.now();
    try {
      const explanation = await explanationOf(path);
      const storage = this.top?.members.some(isMember) ? path[0] : null;
      const of = async (what) => (storage === null ? []
        : (await ask(address("storages", storage, what), { quiet: true })).value[what]);
      const records = await of("resyncs");
      const scrubs = path.length > 1 ? [] : await of("scrubs").catch(() => []); // not every storage has several copies
      if (path !== this.path) return;
      this.explanation = { ...explanation.top };
      this.records = records;
      this.scrubs = scrubs;
      sentence(this.whyError, "");
      showWhy(this.why, explanation);
      this.#showHistory();
      this.#operations();
    } catch (error) {
      if (!(error instanceof APIError)) throw error;
      if (path === this.path) sentence(this.whyError, error.status === 0 ? "" : error.message);
    } finally {
      this.asking = false;
      if (path !== this.path && this.path !== null) this.#ask();
    }
  }

  #showHistory() {
    const { path } = this;
    const records = path.length === 1 ? this.records : this.records.filter((record) => record.member === path[1]);
    this.historyTitle.hidden = records.length === 0;
    showResyncs(this.history, records, path.length === 1);
    this.scrubsTitle.hidden = this.scrubs.every((record) => record.state === "running");
    showScrubs(this.scrubList, this.scrubs);
    const running = runningScrub(this.scrubs);
    showRunning(this.scrubbing, running);
    if (running !== null && this.again === null) this.#askLater(); // how far it is the status does not tell
  }

  updateTraffic() {
    if (this.path === null) return;
    const exported = this.own && known ? exportsOf(this.path.at(-1)) : [];
    this.charts.hidden = exported.length === 0;
    if (exported.length === 0) return;
    const seconds = FINE_SAMPLES * samplePeriod() * (this.coarse ? COARSE : 1);
    const to = now();
    const found = samples(exported.map((each) => each.name), to - seconds, this.coarse);
    const gap = 3.5 * samplePeriod() * (this.coarse ? COARSE : 1);
    const of = (...keys) => found.map((sample) => ({ time: sample.time, values: keys.map((key) => sample[key]) }));
    this.throughput.update(of("read", "written"), to - seconds, to, gap);
    this.requests.update(of("reads", "writes", "others"), to - seconds, to, gap);
    this.latency.update(of("readLatency", "writeLatency"), to - seconds, to, gap);
  }

  #facts() {
    const { tree } = this;
    const facts = [["Kind", tree.kind], ["State", tree.state], ["Health", tree.health]];
    if (tree.size > 0) facts.push(["Size", `${sizeInWords(tree.size)} (${tree.size.toLocaleString("en")} bytes)`]);
    if (redundancyInWords(tree)) facts.push(["Redundancy", redundancyInWords(tree)]);
    if (tree.members.length > 0 || tree.dirty_bytes > 0) facts.push(["Not the same everywhere", sizeInWords(tree.dirty_bytes)]);
    if (tree.since > 0) facts.push(["Since", `${dayInWords(tree.since)}, ${timeInWords(tree.since)}`]);
    if (ownershipInWords(tree)) facts.push(["Ownership", ownershipInWords(tree)]);
    for (const [key, value] of Object.entries(tree.detail ?? {})) facts.push([labelOf(key), factInWords(key, value)]);
    const said = JSON.stringify(facts);
    if (this.facts.dataset.said === said) return;
    this.facts.dataset.said = said;
    this.facts.replaceChildren();
    for (const [label, value] of facts) {
      if (value === "") continue;
      make(this.facts, "dt", "", label);
      make(this.facts, "dd", "", value);
    }
  }

  focus() {
    this.title.focus();
    $("detail").scrollTop = 0;
  }
}

function labelOf(key) {
  const words = key.replace(/_(s|bytes)$/, "").replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

function factInWords(key, value) {
  if (value === null || value === "") return "";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number" && /(^|_)(size|bytes)$/.test(key)) return sizeInWords(value);
  if (typeof value === "number" && /_s$/.test(key)) return durationInWords(value);
  if (Array.isArray(value)) {
    return value.map((each) => (each?.name === undefined ? factInWords("", each)
      : each.granted === undefined ? each.name : `${each.name} ${each.granted ? "✓" : "✕"}`)).join(", ");
  }
  return typeof value === "object" ? JSON.stringify(value) : `${value}`;
}
