// What was copied and compared lately: resyncs and scrubs of a storage, as lists.

import { make, setText } from "./dom.js";
import { dayInWords, durationInWords, percentInWords, rateInWords, sizeInWords, timeInWords } from "./words.js";

const SHOWN_MAX = 8;

function asSentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function when(seconds) {
  return `${dayInWords(seconds)}, ${timeInWords(seconds)}`;
}

function fill(list, records, write) {
  list.replaceChildren(...records.slice(-SHOWN_MAX).reverse().map((record) => {
    const item = document.createElement("li");
    write(item, record);
    return item;
  }));
}

export function showResyncs(list, records, named) {
  fill(list, records, (item, record) => {
    if (named) make(item, "strong", "", `${record.member}: `);
    const rate = record.seconds > 0 ? `, ${rateInWords(record.bytes_copied / record.seconds)}` : "";
    item.append(`${record.kind}, ${sizeInWords(record.bytes_copied)} copied in ${durationInWords(record.seconds)}${rate}`);
    const outcome = record.outcome === "in-sync" ? "" : ` It ended before: ${record.outcome}.`;
    make(item, "small", "", `${when(record.began)}. ${asSentence(record.cause)}${outcome}`);
  });
}

export function runningScrub(records) {
  return records.find((record) => record.state === "running") ?? null;
}

// What a scrub has found, in words; `bad` where a person has to do something.
export function foundInWords(record) {
  const parts = [
    [record.undecided_bytes, "differ and no copy is more credible"],
    [record.lost_bytes, "no copy can read"],
    [record.outvoted_bytes, "one copy had otherwise than most"],
    [record.unreadable_bytes, "one copy could not read"],
    [record.repaired_bytes, "were mended"],
  ].filter(([count]) => count > 0).map(([count, what]) => `${sizeInWords(count)} ${what}`);
  return parts.join("; ") || (record.state === "done" ? "all copies are equal" : "nothing found");
}

export function showScrubs(list, records) {
  fill(list, records.filter((record) => record.state !== "running"), (item, record) => {
    const bad = record.undecided_bytes > 0 || record.lost_bytes > 0;
    make(item, "span", bad ? "error" : "", foundInWords(record));
    const how = record.repair ? "with mending" : "only looked at";
    const took = `took ${durationInWords((record.ended ?? record.began) - record.began)}`;
    make(item, "small", "", `${when(record.began)}, ${how}, ${took}${record.state === "stopped" ? ", stopped before its end" : ""}`);
    for (const [offset, length, split] of record.undecided.slice(0, 5)) {
      make(item, "small", "", `${sizeInWords(length)} at ${offset.toLocaleString("en")}: ${split}`);
    }
  });
}

// The one that goes on, as a bar.
export function showRunning(element, record) {
  element.hidden = record === null;
  if (record === null) return;
  const [bar, text] = element.children;
  const done = record.bytes_total - record.bytes_left;
  bar.max = Math.max(1, record.bytes_total);
  bar.value = done;
  const facts = ["scrub", percentInWords(done, record.bytes_total), foundInWords(record)];
  if (record.waits_for) facts.push(`waits: ${record.waits_for}`);
  else if (record.bytes_per_s > 0) facts.push(rateInWords(record.bytes_per_s), `${durationInWords(record.bytes_left / record.bytes_per_s)} to go`);
  setText(text, facts.join(" · "));
}
