// The tree of one storage or node, kept up to date in place: what has the focus keeps it.

import { durationInWords, percentInWords, sizeInWords } from "./words.js";

const MEMBER_STATES = new Set(["in-sync", "resyncing", "absent", "suspended", "refused"]);

// Word -> how bad it is; the sign says it without colour.
const TONES = {
  "healthy": "good", "in-sync": "good", "ready": "good",
  "standby": "none", "degraded": "warn", "resyncing": "busy", "suspended": "warn", "connecting": "busy", "interrupted": "warn",
  "frozen": "bad", "failed": "bad", "absent": "bad", "refused": "bad", "away": "bad", "closed": "bad",
};
const SIGNS = { good: "✓", warn: "!", busy: "↻", bad: "✕", none: "·" };

export function showBadge(element, word) {
  const tone = TONES[word] ?? "none";
  setText(element, `${SIGNS[tone]} ${word}`);
  element.className = `badge ${tone}`;
  element.hidden = false;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(parent, tag, className) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  parent.append(element);
  return element;
}

function showSentence(element, sentence) {
  setText(element, sentence);
  element.hidden = sentence === "";
}

// One entry of the tree.  `context.operate(storage, operation, node)` is called by its buttons, `context.why(path)`
// by its badge, `context.now()` is the daemon's clock.
export class Entry {
  constructor(element, context, storage = null, above = []) {
    this.element = element;
    this.context = context;
    this.above = above; // the names of what it is below of, from the top
    this.storage = storage; // the name of the storage this is a member of, if it can be operated on from here
    const row = make(element, "div", "row");
    this.name = make(row, storage === null && element.tagName === "ARTICLE" ? "h2" : "span", "name");
    const facts = make(row, "span", "meta");
    this.kind = make(facts, "span", "kind");
    this.size = make(facts, "span", "size");
    this.age = make(facts, "span", "age");
    this.badge = make(row, "button", "badge");
    this.badge.type = "button";
    this.badge.addEventListener("click", () => this.context.why([...this.above, this.tree.name]));
    this.actions = make(row, "span", "actions");
    this.reason = make(element, "p", "reason");
    this.facts = make(element, "p", "facts");
    this.button = null;
    this.progress = null;
    this.list = null;
    this.members = new Map();
  }

  update(tree) {
    this.tree = tree;
    setText(this.name, tree.name);
    setText(this.kind, tree.kind);
    setText(this.size, tree.size > 0 ? sizeInWords(tree.size) : "");
    showBadge(this.badge, this.word());
    this.badge.title = "Why?";
    this.badge.setAttribute("aria-label", `${this.word()}: why ${tree.name} is so`);
    showSentence(this.reason, tree.reason);
    showSentence(this.facts, this.factsInWords());
    this.updateAge();
    this.updateProgress(tree.resync);
    this.updateButton();
    this.updateMembers();
  }

  // Of a member its state, of a storage its health.
  word() {
    const { state, health, members, detail } = this.tree;
    if (detail?.role === "standby" && !MEMBER_STATES.has(state)) return "standby";
    return members.length > 0 && !MEMBER_STATES.has(state) ? health : state;
  }

  factsInWords() {
    const { health, members, redundancy, dirty_bytes: dirty, resync, state, detail } = this.tree;
    const facts = ownershipInWords(detail, this.tree.reason);
    if (members.length > 0 && !MEMBER_STATES.has(state)) {
      if (health === "degraded") {
        facts.push(redundancy > 0 ? `${redundancy} more can be lost` : "nothing more can be lost without losing data");
      }
      if (dirty > 0) facts.push(`${sizeInWords(dirty)} not the same everywhere`);
    } else if (dirty > 0 && !resync) {
      facts.push(`${sizeInWords(dirty)} to copy when it is back`);
    }
    if (resync?.cause && resync.cause !== this.tree.reason) facts.push(`${resync.kind} resync: ${resync.cause}`);
    return facts.join(" · ");
  }

  updateAge() {
    const { since } = this.tree;
    setText(this.age, since > 0 ? `for ${durationInWords(this.context.now() - since)}` : "");
    for (const member of this.members.values()) member.updateAge();
  }

  updateProgress(resync) {
    if (!resync) {
      this.progress?.remove();
      this.progress = null;
      return;
    }
    if (this.progress === null) {
      this.progress = document.createElement("div");
      this.progress.className = "progress";
      make(this.progress, "progress").setAttribute("aria-label", `resync of ${this.tree.name}`);
      make(this.progress, "span");
      this.facts.after(this.progress);
    }
    const [bar, text] = this.progress.children;
    const done = resync.bytes_total - resync.bytes_left;
    bar.max = Math.max(1, resync.bytes_total);
    bar.value = resync.bytes_total > 0 ? done : 1;
    const facts = [percentInWords(done, resync.bytes_total), `${sizeInWords(resync.bytes_left)} left`];
    if (resync.stalled) {
      facts.push(`waits: ${resync.stalled}`);
    } else {
      facts.push(`${sizeInWords(resync.bytes_per_s)}/s`);
      if (resync.seconds_left !== null) facts.push(`${durationInWords(resync.seconds_left)} to go`);
    }
    this.progress.classList.toggle("stalled", Boolean(resync.stalled));
    setText(text, facts.join(" · "));
  }

  updateButton() {
    const operation = this.storage === null || !MEMBER_STATES.has(this.tree.state) || this.tree.state === "refused"
      ? null : this.tree.state === "suspended" ? "resume" : "suspend";
    if (operation === null) {
      this.button?.remove();
      this.button = null;
      return;
    }
    if (this.button === null) {
      this.button = make(this.actions, "button");
      this.button.type = "button";
      this.button.addEventListener("click", () => {
        this.context.operate(this.storage, this.button.dataset.operation, this.tree.name);
      });
    }
    this.button.dataset.operation = operation;
    setText(this.button, operation === "resume" ? "Resume" : "Suspend");
    this.button.setAttribute("aria-label", `${operation} ${this.tree.name} of ${this.storage}`);
  }

  updateMembers() {
    const { members, name } = this.tree;
    if (members.length === 0) {
      this.list?.remove();
      this.list = null;
      this.members.clear();
      return;
    }
    if (this.list === null) {
      this.list = make(this.element, "ul", "tree");
      this.list.setAttribute("aria-label", `what ${name} is made of`);
    }
    // Only the daemon's own storages can be operated on through it; what is below a remote node is another's.
    const storage = this.element.tagName === "ARTICLE" ? name : null;
    reconcile(this.list, "li", this.members, members, this.context, storage, [...this.above, name]);
  }
}

// Whose a storage is, where that is not simply this daemon's.
function ownershipInWords(detail, reason) {
  const { role, owner, votes, quorum } = detail ?? {};
  if (role === "standby" && owner && reason.includes(owner)) return [];
  if (role === "standby") return [owner ? `standby; ${owner} is the owner` : "standby; nobody is the owner now"];
  if (!Array.isArray(votes) || votes.length < 2) return [];
  const missing = votes.filter((vote) => !vote.granted).map((vote) => vote.name);
  if (missing.length === 0) return [];
  return [`${votes.length - missing.length} of ${votes.length} votes, ${quorum} needed; not ${missing.join(", ")}`];
}

// Make the entries below `parent` those of `trees`, in their order, keeping the elements there are.
export function reconcile(parent, tag, entries, trees, context, storage = null, above = []) {
  const wanted = new Set(trees.map((tree) => tree.name));
  for (const [name, entry] of entries) {
    if (!wanted.has(name)) {
      entry.element.remove();
      entries.delete(name);
    }
  }
  trees.forEach((tree, place) => {
    let entry = entries.get(tree.name);
    if (entry === undefined) {
      entry = new Entry(document.createElement(tag), context, storage, above);
      if (tag === "article") entry.element.className = "card";
      entries.set(tree.name, entry);
    }
    entry.update(tree);
    if (parent.children[place] !== entry.element) parent.insertBefore(entry.element, parent.children[place] ?? null);
  });
}
