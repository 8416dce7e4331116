// Small tools for the page's elements: nothing is ever built from text that could be read as markup.

import { SIGNS, toneOf } from "./words.js";

export const $ = (id) => document.getElementById(id);

export function make(parent, tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  parent?.append(element);
  return element;
}

export function button(parent, text, act, className = "") {
  const element = make(parent, "button", className, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

// What has not changed is not touched: a reader's selection, and the screen reader's place, stay.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== `${value}`) element.setAttribute(name, value);
}

export function setClass(element, className) {
  if (element.className !== className) element.className = className;
}

export function sentence(element, text) {
  setText(element, text);
  element.hidden = text === "";
}

export function showBadge(element, word) {
  const tone = toneOf(word);
  setText(element, `${SIGNS[tone]} ${word}`);
  setClass(element, `badge ${tone}`);
  element.hidden = false;
}

// Commands stand between backquotes.
export function withCode(element, text) {
  if (element.dataset.said === text) return;
  element.dataset.said = text;
  element.replaceChildren();
  text.split("`").forEach((part, place) => {
    if (place % 2 === 0) element.append(part);
    else make(element, "code", "", part);
  });
}

// Make the children of `parent` those of `items`, in their order, keeping the elements there are: what has the focus
// keeps it.  `entries` maps keys to objects with an `element` and `update(item)`.
export function reconcile(parent, entries, items, keyOf, create) {
  const wanted = new Set(items.map(keyOf));
  for (const [key, entry] of entries) {
    if (!wanted.has(key)) {
      entry.element.remove();
      entries.delete(key);
    }
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let entry = entries.get(key);
    if (entry === undefined) {
      entry = create(item);
      entries.set(key, entry);
    }
    if (entry.element === next) next = next.nextElementSibling;
    else parent.insertBefore(entry.element, next);
    entry.update(item);
  }
}

// Rows of a table: `cells` makes an array of texts or elements of an item.
export function fillTable(body, items, cells) {
  const rows = items.map((item) => {
    const row = document.createElement("tr");
    for (const cell of cells(item)) {
      const { text = "", className = "", element = null, label = "" } =
        cell instanceof Node ? { element: cell } : typeof cell === "string" ? { text: cell } : cell;
      const data = make(row, "td", className, text);
      if (element) data.append(element);
      if (label) data.dataset.label = label;
    }
    return row;
  });
  body.replaceChildren(...rows);
}

// Said aloud by screen readers, seen by nobody.
export function announce(text) {
  const region = $("announcer");
  region.textContent = region.textContent === text ? `${text} ` : text;
}

let toastTimer = null;

export function toast(text) {
  const element = $("toast");
  withCode(element, text);
  element.hidden = false;
  announce(text.replaceAll("`", ""));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 6000);
}
