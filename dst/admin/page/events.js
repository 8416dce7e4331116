// What is wrong now, what has happened, and what is being done.

import { now } from "./api.js";
import { listed } from "./clients.js";
import { $, announce, make, reconcile, setText, showBadge, withCode } from "./dom.js";
import { dayInWords, durationInWords, plural, sizeInWords, timeInWords } from "./words.js";

const EVENTS_MAX = 1000; // kept in this page; the daemon has more
const EVENTS_SHOWN_MAX = 300;
const FINDINGS_SHOWN_MAX = 5;
const GRAVE = { info: 0, warning: 1, critical: 2 };

// -- findings -----------------------------------------------------------------------------

const findings = new Map();
let all = false; // a person asked for those that are not shown at first

class Finding {
  constructor(go) {
    this.go = go;
    this.element = make(null, "li", "finding");
    this.badge = make(this.element, "span", "badge");
    const words = make(this.element, "span", "finding-words");
    this.sentence = make(words, "span");
    this.meta = make(words, "small", "quiet");
    this.link = make(this.element, "a", "button", "Why?");
  }

  update(finding) {
    this.finding = finding;
    const { severity, subject, sentence } = finding;
    showBadge(this.badge, severity);
    withCode(this.sentence, sentence);
    this.updateAge();
    const where = this.go(subject);
    this.link.hidden = where === null;
    if (where !== null) this.link.href = where;
    this.link.setAttribute("aria-label", `Why: ${subject}`);
  }

  updateAge() {
    const { code, since } = this.finding;
    setText(this.meta, [code, since > 0 ? `for ${durationInWords(now() - since)}` : ""].filter(Boolean).join(" · "));
  }
}

// @param shown: as GET /v1/health lists them, or null.
export function showFindings(shown, go) {
  const grave = (shown ?? []).filter((each) => each.severity !== "info")
    .sort((one, other) => GRAVE[other.severity] - GRAVE[one.severity] || other.since - one.since);
  const some = all ? grave : grave.slice(0, FINDINGS_SHOWN_MAX);
  $("findings").hidden = grave.length === 0;
  reconcile($("finding-list"), findings, some, (each) => `${each.code} ${each.subject}`, () => new Finding(go));
  let more = $("findings").querySelector("button");
  if (grave.length > some.length) {
    more ??= make($("findings"), "button", "more");
    more.type = "button";
    more.onclick = () => {
      all = true;
      showFindings(shown, go);
    };
    setText(more, `${plural(grave.length - some.length, "more")}`.replace("mores", "more"));
  } else {
    more?.remove();
  }
}

export function tickFindings() {
  for (const finding of findings.values()) finding.updateAge();
}

// -- the journal -----------------------------------------------------------------------------

let events = []; // the newest last
let severity = "info";

// @param past: these are all that the daemon still knows of the past; what it does not know any more is forgotten,
//     since its numbers begin again with another state directory.
export function takeEvents(found, past = false) {
  const last = found.at(-1)?.number ?? 0;
  const kept = new Map((past ? events.filter((each) => each.number > last && each.time > now() - 60) : events)
    .map((each) => [each.number, each]));
  for (const event of found) {
    if (!past && event.severity !== "info" && !kept.has(event.number)) announce(event.sentence);
    kept.set(event.number, event);
  }
  events = [...kept.values()].sort((one, other) => one.number - other.number).slice(-EVENTS_MAX);
}

export function showEvents(go) {
  const shown = events.filter((each) => GRAVE[each.severity] >= GRAVE[severity]).slice(-EVENTS_SHOWN_MAX).reverse();
  const list = $("event-list");
  const newest = `${shown[0]?.number} ${shown.length} ${severity}`;
  if (list.dataset.newest === newest) return;
  list.dataset.newest = newest;
  let day = "";
  list.replaceChildren(...shown.flatMap((event) => {
    const item = make(null, "li", `event ${event.severity}`);
    const time = make(item, "time", "", timeInWords(event.time));
    time.dateTime = new Date(event.time * 1000).toISOString();
    const badge = make(item, "span", "badge");
    showBadge(badge, event.cleared ? "healthy" : event.severity);
    setText(badge, event.cleared ? "✓ over" : badge.textContent);
    const words = make(item, "span", "event-words");
    withCode(make(words, "span"), event.sentence);
    const meta = make(words, "small", "quiet");
    if (event.subject) {
      const where = go(event.subject);
      const link = make(meta, where === null ? "span" : "a", "", event.subject);
      if (where !== null) link.href = where;
      meta.append(" · ");
    }
    meta.append([event.kind, event.code].filter(Boolean).join(" · "));
    const its = dayInWords(event.time);
    if (its === day) return [item];
    day = its;
    return [make(null, "li", "day", day), item];
  }));
  setText($("events-title").closest("section").querySelector(".empty"),
    shown.length > 0 ? "" : events.length > 0 ? "None of that kind." : "Nothing has happened yet.");
}

export function onSeverity(changed) {
  const chips = [...document.querySelectorAll("[data-severity]")];
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      severity = chip.dataset.severity;
      for (const other of chips) other.setAttribute("aria-pressed", other === chip);
      changed();
    });
  }
}

// -- operations --------------------------------------------------------------------------------

const operations = new Map();

class Operation {
  constructor(go) {
    this.go = go;
    this.element = make(null, "li", "operation");
    this.badge = make(this.element, "span", "badge");
    const words = make(this.element, "span", "event-words");
    this.what = make(words, "strong");
    this.sentence = make(words, "span");
    this.meta = make(words, "small", "quiet");
    this.bar = make(this.element, "progress");
  }

  update(operation) {
    const { kind, subject, state, began, ended, sentence, bytes_total: total, bytes_left: left, asked_by: who } = operation;
    showBadge(this.badge, state);
    setText(this.what, `${kind} ${subject}`.trim());
    setText(this.sentence, sentence === "" ? "" : ` ${sentence}`);
    const took = durationInWords((ended ?? now()) - began);
    setText(this.meta, [
      `${timeInWords(began)}, ${ended === null ? `for ${took}` : `took ${took}`}`, who && `asked by ${who}`,
      total > 0 && left > 0 && `${sizeInWords(left)} left`,
    ].filter(Boolean).join(" · "));
    this.bar.hidden = !(state === "running" && total > 0);
    this.bar.setAttribute("aria-label", `${kind} ${subject}`);
    if (!this.bar.hidden) {
      this.bar.max = total;
      this.bar.value = total - (left ?? total);
    }
  }
}

export async function showOperations(go) {
  const found = await listed("operations");
  const sorted = (found ?? []).toSorted((one, other) => (other.state === "running") - (one.state === "running") || other.began - one.began);
  reconcile($("operations"), operations, sorted.slice(0, 50), (each) => each.id, () => new Operation(go));
  setText($("operations-title").closest("section").querySelector(".empty"),
    found === null ? "This daemon does not tell." : sorted.length === 0 ? "Nothing was asked for since the daemon was started." : "");
}
