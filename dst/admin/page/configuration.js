// What is wanted: the topology as the daemon has it, as the file that would say it.

import { APIError, ask } from "./api.js";
import { $, make, setText, toast } from "./dom.js";

const BARE = /^[A-Za-z0-9_-]+$/;

function key(name) {
  return BARE.test(name) ? name : JSON.stringify(name);
}

function isTable(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTables(value) {
  return Array.isArray(value) && value.length > 0 && value.every(isTable);
}

function inline(value) {
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
  if (isTable(value)) return `{ ${Object.entries(value).map(([name, each]) => `${key(name)} = ${inline(each)}`).join(", ")} }`;
  return JSON.stringify(value);
}

// A document as TOML: plain values of a table first, then the tables in it.
export function tomlOf(document, above = []) {
  const lines = [];
  const entries = Object.entries(document).filter(([, value]) => value !== null);
  const plain = entries.filter(([, value]) => !isTable(value) && !(above.length === 0 && isTables(value)));
  if (above.length > 0 && (plain.length > 0 || entries.length === 0)) lines.push(`[${above.map(key).join(".")}]`);
  for (const [name, value] of plain) lines.push(`${key(name)} = ${inline(value)}`);
  if (plain.length > 0 || entries.length === 0) lines.push("");
  for (const [name, value] of entries) {
    if (isTable(value)) lines.push(...tomlOf(value, [...above, name]));
    if (above.length === 0 && isTables(value)) {
      for (const each of value) {
        lines.push(`[[${key(name)}]]`, ...Object.entries(each).map(([inner, its]) => `${key(inner)} = ${inline(its)}`), "");
      }
    }
  }
  return lines;
}

export async function showConfiguration() {
  try {
    const { value } = await ask("/v1/configuration");
    const { document: wanted = {}, file = null, writable = "", after_restart: after = [] } = value.configuration ?? value;
    setText($("configuration-text"), tomlOf(wanted).join("\n").trim());
    setText($("configuration-about"), [
      file === null ? "It is kept nowhere: a restart does not have it." : `Kept in ${file}.`,
      writable === "" ? "It can be changed with `dst` commands while the daemon runs.".replaceAll("`", "") : `It cannot be changed here: ${writable}.`,
    ].join(" "));
    $("configuration-after").replaceChildren(...after.map((sentence) => make(null, "li", "", `After a restart: ${sentence}`)));
    $("configuration-text").hidden = false;
    $("configuration-copy").hidden = false;
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    $("configuration-text").hidden = true;
    $("configuration-copy").hidden = true;
    setText($("configuration-about"), error.status === 404 ? "This daemon does not tell." : error.sentence);
  }
}

$("configuration-copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("configuration-text").textContent);
    toast("The configuration was copied.");
  } catch {
    const range = document.createRange();
    range.selectNodeContents($("configuration-text"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    toast("It is selected: copy it from there.");
  }
});
