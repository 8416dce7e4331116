// Why something is as it is, what happens next, and what a person can do: an explanation, in words.

import { APIError, ask, path as address } from "./api.js";
import { make, withCode } from "./dom.js";
import { durationInWords } from "./words.js";

// @param path: the names from the top of the tree to what is explained.
// @return: its explanation, with that of the top as `top`.
export async function explanationOf(path) {
  const { value } = await ask(address("explain", path[0]));
  let among = value.explanations;
  let found = null;
  for (const name of path) {
    found = among.find((each) => each.name === name) ?? null;
    if (found === null) throw new APIError(404, { cause: "It is not there any more." });
    among = found.children;
  }
  return { ...found, top: value.explanations[0] };
}

// Whether any row of the tables that decided, in it or below it, is `row`.
export function decidedBy(explanation, row) {
  return explanation !== null && (explanation.row === row || explanation.children.some((child) => decidedBy(child, row)));
}

export function showWhy(list, explanation) {
  const fresh = document.createElement("dl");
  const say = (label, sentences, tone = "") => {
    const said = sentences.filter((sentence) => sentence !== "");
    if (said.length === 0) return;
    make(fresh, "dt", "", label);
    for (const sentence of said) withCode(make(fresh, "dd", tone), sentence);
  };
  say("Why", [explanation.summary]);
  say("Next", [explanation.next_step || "Nothing: all is well.", conditionOf(explanation)]);
  say("You can", explanation.advice);
  say("Seen", explanation.evidence, "quiet");
  say("Decided by", [explanation.row === "" ? "" : `the row \`${explanation.row}\``], "quiet");
  if (fresh.textContent !== list.textContent) list.replaceChildren(...fresh.childNodes);
}

function conditionOf({ condition, within_s: withinS }) {
  const limit = withinS === null ? "" : `within ${durationInWords(Math.max(1, withinS))}`;
  if (condition === "") return limit && `${limit[0].toUpperCase()}${limit.slice(1)}.`;
  return `When: ${condition}${limit === "" ? "" : ` (${limit} of that)`}`;
}
