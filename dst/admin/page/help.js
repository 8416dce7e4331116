// What the keys do, and what the words mean.

import { $, make, showBadge } from "./dom.js";

const KEYS = [
  ["↑ ↓", "go through the rows"],
  ["→ ←", "open and close a row"],
  ["Enter", "everything about the row, and what can be done"],
  ["Escape", "close what is open, go back to the row"],
  ["/", "filter"],
  ["1 – 4", "overview, clients, events, configuration"],
  ["t", "light, dark, or as the system has it"],
  ["?", "this help"],
];

const WORDS = [
  ["in-sync", "the member has all data and is used"],
  ["resyncing", "what it missed is being copied to it"],
  ["interrupted", "it was there a moment ago; if it is back soon, nothing has happened"],
  ["absent", "it cannot be reached; it is tried again for ever"],
  ["suspended", "a person has put it aside"],
  ["refused", "its media is not what it should be; nothing there was touched"],
  ["degraded", "it works, with less redundancy than configured"],
  ["frozen", "requests wait, none is lost; they go on by themselves"],
  ["failed", "requests end with an error"],
  ["standby", "another daemon owns it; this one can take over"],
];

const LETTERS_KEY = "dst-letters";

export function lettersAreShortcuts() {
  return $("letters").checked;
}

export function openHelp() {
  if (!$("help").open) $("help").showModal();
}

for (const [key, what] of KEYS) {
  const term = make($("help-list"), "dt");
  for (const part of key.split(" ")) make(term, part === "–" ? "span" : "kbd", "", part);
  make($("help-list"), "dd", "", what);
}
for (const [word, what] of WORDS) {
  showBadge(make(make($("help-words"), "dt"), "span"), word);
  make($("help-words"), "dd", "", what);
}
try {
  $("letters").checked = localStorage.getItem(LETTERS_KEY) !== "off";
} catch { /* they are on */ }
$("letters").addEventListener("change", () => {
  try {
    localStorage.setItem(LETTERS_KEY, $("letters").checked ? "on" : "off");
  } catch { /* forgotten with the page */ }
});
$("help-open").addEventListener("click", openHelp);
$("help-close").addEventListener("click", () => $("help").close());
