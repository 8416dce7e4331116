// The topology, from the storages down to the leaves: one grid of rows, kept up to date in place.
//
// Rows are made when what they stand below is opened, and drawn when they are scrolled to, so that a thousand
// storages cost no more than those that are looked at.

import { now } from "./api.js";
import { Sparkline } from "./charts.js";
import { make, reconcile, setAttribute, setClass, setText, showBadge, withCode } from "./dom.js";
import { exportsOf, known, rateNow, samplePeriod, samples } from "./traffic.js";
import {
  durationInWords, isMember, isRemote, needsAttention, ownershipInWords, plural, progressInWords, rateInWords,
  redundancyInWords, resyncBelow, sizeInWords, toneOf, wordOf,
} from "./words.js";

const OPEN_ROWS_MAX = 40; // a topology that fits a screen or two is shown whole
const PIPS_MAX = 16;

export function keyOf(path) {
  return path.map(encodeURIComponent).join("/");
}

class Row {
  // @param own: it is this daemon's, and its name means here what the exports say.
  constructor(tree, path, grid, own = true) {
    this.path = path;
    this.own = own;
    this.grid = grid;
    this.rows = new Map();
    this.element = make(null, "div", path.length === 1 ? "group" : "branch");
    this.element.setAttribute("role", "none");
    this.row = make(this.element, "div", "row");
    this.row.setAttribute("role", "row");
    this.row.setAttribute("aria-level", path.length);
    this.row.tabIndex = -1;
    this.row.dataset.key = keyOf(path);
    this.row.style.setProperty("--level", path.length - 1);
    this.row.entry = this;
    const name = this.#cell("cell-name");
    this.twist = make(name, "span", "twist");
    this.twist.setAttribute("aria-hidden", "true");
    this.name = make(name, "span", "name");
    this.kind = make(name, "span", "kind");
    const state = this.#cell("cell-state");
    this.badge = make(state, "span", "badge");
    this.pips = make(state, "span", "pips");
    const what = this.#cell("cell-what");
    this.reason = make(what, "span", "reason");
    this.facts = make(what, "span", "facts");
    this.progress = null;
    this.what = what;
    const traffic = this.#cell("cell-traffic");
    this.traffic = traffic;
    this.spark = null; // made when there is something to draw
    this.rate = make(traffic, "span", "rate");
    this.size = make(this.#cell("cell-size"), "span");
    this.age = make(this.#cell("cell-age"), "span");
    this.list = null;
    this.said = null;
  }

  #cell(className) {
    const cell = make(this.row, "div", className);
    cell.setAttribute("role", "gridcell");
    return cell;
  }

  update(tree, force = false) {
    const said = this.path.length === 1 ? JSON.stringify(tree) : null;
    if (!force && said !== null && said === this.said) return;
    this.said = said;
    this.tree = tree;
    setText(this.name, tree.name);
    setText(this.kind, tree.kind);
    showBadge(this.badge, wordOf(tree));
    setText(this.size, tree.size > 0 ? sizeInWords(tree.size) : "");
    withCode(this.reason, tree.reason);
    this.reason.hidden = tree.reason === "";
    const facts = this.factsInWords();
    setText(this.facts, facts);
    this.facts.hidden = facts === "";
    this.updatePips();
    this.updateProgress();
    this.updateAge();
    this.updateMembers();
  }

  factsInWords() {
    const { tree } = this;
    const facts = [ownershipInWords(tree)];
    if (isMember(tree)) {
      if (tree.dirty_bytes > 0 && !tree.resync) facts.push(`${sizeInWords(tree.dirty_bytes)} to copy when it is back`);
      if (tree.resync?.cause && tree.resync.cause !== tree.reason) facts.push(`${tree.resync.kind} resync: ${tree.resync.cause}`);
    } else {
      facts.push(redundancyInWords(tree));
      if (tree.dirty_bytes > 0 && !resyncBelow(tree)) facts.push(`${sizeInWords(tree.dirty_bytes)} not the same everywhere`);
    }
    return facts.filter(Boolean).join(" · ");
  }

  // The members of a storage at a glance: how many there are, and how they are.
  updatePips() {
    const members = this.tree.members.filter(isMember);
    const words = members.slice(0, PIPS_MAX).map(wordOf);
    const said = words.join(" ") + members.length;
    if (this.pips.dataset.said === said) return;
    this.pips.dataset.said = said;
    this.pips.replaceChildren();
    if (members.length < 2) return;
    for (const word of words) make(this.pips, "i", toneOf(word));
    if (members.length > PIPS_MAX) make(this.pips, "small", "", `+${members.length - PIPS_MAX}`);
    const counts = new Map();
    for (const word of members.map(wordOf)) counts.set(word, (counts.get(word) ?? 0) + 1);
    this.pips.title = [...counts].map(([word, count]) => `${count} ${word}`).join(", ");
    make(this.pips, "span", "spoken", this.pips.title);
  }

  // Of a member its own, of a storage that is not open what is copied below it.
  updateProgress() {
    const resync = this.tree.resync ?? (this.isOpen() ? null : resyncBelow(this.tree));
    if (!resync) {
      this.progress?.remove();
      this.progress = null;
      return;
    }
    if (this.progress === null) {
      this.progress = make(this.what, "span", "progress");
      make(this.progress, "progress").setAttribute("aria-label", `resync of ${this.tree.name}`);
      make(this.progress, "span");
    }
    const [bar, text] = this.progress.children;
    bar.max = Math.max(1, resync.bytes_total);
    bar.value = resync.bytes_total > 0 ? resync.bytes_total - resync.bytes_left : 1;
    this.progress.classList.toggle("stalled", Boolean(resync.stalled));
    setText(text, progressInWords(resync));
  }

  updateAge() {
    const { since } = this.tree;
    setText(this.age, since > 0 ? durationInWords(now() - since) : "");
    for (const row of this.rows.values()) row.updateAge();
  }

  updateTraffic() {
    for (const row of this.rows.values()) row.updateTraffic();
    if (!this.own) return;
    const exported = exportsOf(this.tree.name);
    const rate = exported.length > 0 ? rateNow(this.tree.name) : null;
    this.spark?.element.classList.toggle("gone", rate === null);
    if (rate === null) {
      setText(this.rate, "");
      return;
    }
    if (this.spark === null) {
      this.spark = new Sparkline(this.traffic);
      this.traffic.prepend(this.spark.element);
    }
    const seconds = 60 * samplePeriod();
    const values = samples(exported.map((each) => each.name), now() - seconds - 2).map((each) => each.read + each.written);
    this.spark.update(values);
    setText(this.rate, rateInWords(rate.read + rate.written));
    this.rate.title = `${rateInWords(rate.read)} read, ${rateInWords(rate.written)} written`;
  }

  // -- what stands below ---------------------------------------------------------------

  isOpen() {
    return this.tree.members.length > 0 && this.grid.isOpen(this.path);
  }

  updateMembers() {
    const { members } = this.tree;
    const open = this.isOpen();
    setAttribute(this.row, "aria-expanded", members.length === 0 ? null : open);
    setClass(this.twist, members.length === 0 ? "twist leaf" : open ? "twist open" : "twist");
    if (!open) {
      this.list?.remove();
      this.list = null;
      this.rows.clear();
      return;
    }
    if (this.list === null) {
      this.list = make(this.element, "div", "members");
      this.list.setAttribute("role", "none");
    }
    reconcile(this.list, this.rows, members, (tree) => tree.name, (tree) => {
      return new Row(tree, [...this.path, tree.name], this.grid, this.own && !isRemote(this.tree));
    });
  }
}

export class Grid {
  // @param select: called with a path when a row is chosen.
  constructor(element, select) {
    this.element = element;
    this.select = select;
    this.rows = new Map();
    this.opened = new Map(); // key -> whether a person opened or closed it
    this.openByItself = true;
    this.visible = new Set();
    this.selected = null;
    this.observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const row = target.firstElementChild?.entry;
        if (isIntersecting && row) this.visible.add(row);
        else this.visible.delete(row);
        if (isIntersecting && row) {
          row.updateAge();
          row.updateTraffic();
        }
      }
    }, { rootMargin: "200px" });
    this.#head();
    this.body = make(element, "div", "body");
    this.body.setAttribute("role", "rowgroup");
    element.addEventListener("keydown", (event) => this.#key(event));
    element.addEventListener("click", (event) => this.#click(event));
    element.addEventListener("focusin", (event) => this.#rove(event.target.closest("[role=row][data-key]")));
  }

  #head() {
    const group = make(this.element, "div", "head");
    group.setAttribute("role", "rowgroup");
    const row = make(group, "div", "row");
    row.setAttribute("role", "row");
    for (const [className, text] of [
      ["cell-name", "Name"], ["cell-state", "State"], ["cell-what", "Why, and what is left"], ["cell-traffic", "Traffic"],
      ["cell-size", "Size"], ["cell-age", "For"],
    ]) {
      make(row, "div", className, text).setAttribute("role", "columnheader");
    }
  }

  // @param trees: all there are; `chosen` tells of each whether it is to be shown.
  update(trees, chosen) {
    const before = this.openByItself;
    this.openByItself = countRows(trees) <= OPEN_ROWS_MAX;
    reconcile(this.body, this.rows, trees, (tree) => tree.name, (tree) => {
      const row = new Row(tree, [tree.name], this);
      this.observer.observe(row.element);
      return row;
    });
    for (const row of this.rows.values()) row.element.hidden = !chosen(row.tree);
    if (before !== this.openByItself) for (const row of this.rows.values()) row.update(row.tree, true);
    for (const row of this.visible) if (!row.element.isConnected) this.visible.delete(row);
    this.element.classList.toggle("with-traffic", known);
    if (this.body.querySelector('.group:not([hidden]) [tabindex="0"]') === null) {
      this.#rove(this.body.querySelector(".group:not([hidden]) .row"));
    }
    this.#mark();
  }

  tick() {
    for (const row of this.visible) row.updateAge();
  }

  traffic() {
    this.element.classList.toggle("with-traffic", known);
    for (const row of this.visible) row.updateTraffic();
  }

  isOpen(path) {
    return this.opened.get(keyOf(path)) ?? this.openByItself;
  }

  open(row, open) {
    this.opened.set(keyOf(row.path), open);
    const top = this.rows.get(row.path[0]);
    top.update(top.tree, true);
    this.#mark();
  }

  // -- which one is chosen -----------------------------------------------------------------

  choose(path) {
    this.selected = path;
    this.#mark();
  }

  // Open what it stands below, and scroll to it.
  reveal(path) {
    for (let depth = 1; depth < path.length; depth += 1) {
      const above = path.slice(0, depth);
      if (!this.isOpen(above)) {
        const row = this.#find(keyOf(above));
        if (row !== null) this.open(row.entry, true);
      }
    }
    this.#find(keyOf(path))?.scrollIntoView({ block: "nearest" }); // `scroll-margin` keeps it below the header
  }

  #mark() {
    const key = this.selected === null ? null : keyOf(this.selected);
    for (const row of this.element.querySelectorAll("[aria-selected=true]")) {
      if (row.dataset.key !== key) row.removeAttribute("aria-selected");
    }
    if (key === null) return;
    this.#find(key)?.setAttribute("aria-selected", "true");
  }

  #find(key) {
    return this.body.querySelector(`[data-key="${CSS.escape(key)}"]`);
  }

  focus(path = null) {
    const row = (path === null ? null : this.#find(keyOf(path))) ?? this.body.querySelector('[tabindex="0"]');
    row?.focus();
  }

  #rove(row) {
    if (!row) return;
    for (const other of this.body.querySelectorAll('[tabindex="0"]')) if (other !== row) other.tabIndex = -1;
    row.tabIndex = 0;
  }

  #click(event) {
    const row = event.target.closest("[role=row][data-key]");
    if (!row) return;
    row.focus();
    if (event.target.closest(".twist:not(.leaf)")) this.open(row.entry, !row.entry.isOpen());
    else if (getSelection().isCollapsed) this.select(row.entry.path);
  }

  #key(event) {
    const row = event.target.closest("[role=row][data-key]");
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const { entry } = row;
    const all = [...this.body.querySelectorAll(".group:not([hidden]) [role=row]")];
    const place = all.indexOf(row);
    const go = (to) => all[Math.max(0, Math.min(all.length - 1, to))].focus();
    const keys = {
      ArrowDown: () => go(place + 1),
      ArrowUp: () => go(place - 1),
      Home: () => go(0),
      End: () => go(all.length - 1),
      PageDown: () => go(place + 10),
      PageUp: () => go(place - 10),
      ArrowRight: () => {
        if (entry.tree.members.length === 0) return;
        if (entry.isOpen()) go(place + 1);
        else this.open(entry, true);
      },
      ArrowLeft: () => {
        if (entry.isOpen()) this.open(entry, false);
        else if (entry.path.length > 1) this.#find(keyOf(entry.path.slice(0, -1)))?.focus();
      },
      Enter: () => this.select(entry.path),
      " ": () => this.select(entry.path),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }
}

// -- which are shown -------------------------------------------------------------------------

function countRows(trees) {
  return trees.reduce((count, tree) => count + 1 + countRows(tree.members), 0);
}

function mentions(tree, text) {
  return [tree.name, tree.kind, tree.reason, wordOf(tree)].some((word) => word.toLowerCase().includes(text))
    || tree.members.some((member) => mentions(member, text));
}

export function chosenBy(show, text) {
  const wanted = text.trim().toLowerCase();
  return (tree) => (show !== "attention" || needsAttention(tree))
    && (show !== "resync" || resyncBelow(tree) !== null)
    && (wanted === "" || mentions(tree, wanted));
}

export function summaryOf(trees) {
  const counts = new Map();
  for (const tree of trees) counts.set(wordOf(tree), (counts.get(wordOf(tree)) ?? 0) + 1);
  return [...counts].map(([word, count]) => `${count} ${word}`).join(", ") || plural(0, "storage");
}
