// Why something is as it is: the explanation of one entry of the tree, in a dialog, up to date while it is open.

import { setText } from "./tree.js";
import { durationInWords } from "./words.js";

const $ = (id) => document.getElementById(id);
let shown = null; // the names from the top of the tree to what is explained
let asking = false;

export function showWhy(path) {
  shown = path;
  setText($("why-title"), path.at(-1));
  $("why-list").replaceChildren();
  setText($("why-error"), "");
  $("why-error").hidden = true;
  if (!$("why").open) $("why").showModal();
  updateWhy();
}

// Ask again, if it is open: something has changed.
export async function updateWhy() {
  if (!$("why").open || shown === null || asking) return;
  const path = shown;
  asking = true;
  try {
    const answer = await fetch(`/v1/explain/${encodeURIComponent(path[0])}`, { cache: "no-store" });
    const value = await answer.json();
    if (path === shown) {
      if (answer.ok) show(find(value.explanations, path));
      else trouble(value.error?.cause ?? "The daemon reports an error it does not name.");
    }
  } catch {
    trouble("The daemon does not answer. What is shown is how it was.");
  } finally {
    asking = false;
  }
  if (path !== shown) updateWhy();
}

function find(explanations, path) {
  let found = null;
  let among = explanations;
  for (const name of path) {
    found = among.find((each) => each.name === name) ?? null;
    if (found === null) return null;
    among = found.children;
  }
  return found;
}

function trouble(sentence) {
  setText($("why-error"), sentence);
  $("why-error").hidden = false;
}

function show(explanation) {
  if (explanation === null) {
    trouble("It is not there any more.");
    return;
  }
  $("why-error").hidden = true;
  const list = document.createElement("dl");
  const say = (label, sentences, tone = "") => {
    const said = sentences.filter((sentence) => sentence !== "");
    if (said.length === 0) return;
    const term = document.createElement("dt");
    term.textContent = label;
    list.append(term);
    for (const sentence of said) {
      const text = document.createElement("dd");
      if (tone) text.className = tone;
      appendWithCode(text, sentence);
      list.append(text);
    }
  };
  say("Why", [explanation.summary]);
  say("Next", [explanation.next_step || "Nothing: all is well.", conditionOf(explanation)]);
  say("You can", explanation.advice);
  say("Seen", explanation.evidence, "quiet");
  say("Decided by", [explanation.row === "" ? "" : `the row \`${explanation.row}\``], "quiet");
  $("why-list").replaceChildren(...list.children);
}

function conditionOf({ condition, within_s: withinS }) {
  const limit = withinS === null ? "" : `within ${durationInWords(Math.max(1, withinS))}`;
  if (condition === "") return limit && `${limit[0].toUpperCase()}${limit.slice(1)}.`;
  return `When: ${condition}${limit === "" ? "" : ` (${limit} of that)`}`;
}

// Commands stand between backquotes.
function appendWithCode(element, sentence) {
  sentence.split("`").forEach((part, place) => {
    if (place % 2 === 0) {
      element.append(part);
    } else {
      const code = document.createElement("code");
      code.textContent = part;
      element.append(code);
    }
  });
}

$("why-close").addEventListener("click", () => $("why").close());
$("why").addEventListener("close", () => { shown = null; });
