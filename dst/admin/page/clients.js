// Who uses what: exports, sessions and listeners, asked for while they are looked at.

import { APIError, ask, now, path as address } from "./api.js";
import { confirm } from "./confirm.js";
import { $, button, fillTable, make, setText } from "./dom.js";
import { exportsOf, known, rateNow } from "./traffic.js";
import { durationInWords, plural, rateInWords, sizeInWords } from "./words.js";

const ROWS_MAX = 500; // what a person reads; the JSON has them all

// @return: the list, or null if this daemon does not have it, or not for us.
export async function listed(name) {
  try {
    return (await ask(`/v1/${name}`, { quiet: true })).value[name] ?? [];
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    return null;
  }
}

function table(id, items, cells, nothing) {
  const element = $(id);
  const shown = items?.slice(0, ROWS_MAX) ?? [];
  fillTable(element.tBodies[0], shown, cells);
  element.hidden = shown.length === 0;
  const more = items !== null && items.length > ROWS_MAX ? `${items.length - ROWS_MAX} more are not shown.` : "";
  setText(element.closest("section").querySelector(".empty"), items === null ? "This daemon does not tell." : shown.length === 0 ? nothing : more);
}

function whoMay({ allow, read_only: readOnly }) {
  const reads = readOnly ? ", to read" : "";
  if (allow === null || allow === undefined) return `this machine only${reads}`;
  if (allow.length === 0) return "nobody";
  return allow.map(({ access, identity, network }) => {
    const who = [identity, network && `from ${network}`].filter(Boolean).join(" ") || "anybody";
    return `${who}: ${readOnly ? "read" : access}`;
  }).join("; ");
}

export function showExports() {
  const items = known ? exportsOf(null) : null;
  table("exports", items, (each) => {
    const rate = rateNow(each.device);
    return [
      { element: make(null, "strong", "", each.name), label: "Export" },
      { element: linkTo(each.device), label: "Device" },
      { text: each.size > 0 ? sizeInWords(each.size) : "", className: "number", label: "Size" },
      { text: whoMay(each), label: "Who may" },
      { text: `${each.sessions}`, className: "number", label: "Clients" },
      { text: rate === null ? "" : `${rateInWords(rate.read)} read, ${rateInWords(rate.written)} written`, label: "Now" },
    ];
  }, "Nothing is exported.");
}

function linkTo(name) {
  const link = make(null, "a", "", name);
  link.href = `#/at/${encodeURIComponent(name)}`;
  return link;
}

export async function showClients() {
  showExports();
  const [sessions, listeners] = await Promise.all([listed("sessions"), listed("listeners")]);
  const focused = document.activeElement?.dataset?.session;
  table("sessions", sessions, (each) => {
    const end = button(null, "End", () => endSession(each), "danger-quiet");
    end.setAttribute("aria-label", `End the session of ${each.peer} at ${each.export}`);
    end.dataset.session = each.id;
    return [
      { text: each.export, label: "Export" },
      { text: [each.identity, each.peer].filter(Boolean).join(" at "), label: "Client" },
      { text: [each.protocol, each.encrypted ? "TLS" : "not encrypted", each.read_only ? "read-only" : ""].filter(Boolean).join(", "), label: "Connection" },
      { text: durationInWords(now() - each.since), label: "For" },
      { text: sizeInWords(each.traffic?.read_bytes ?? 0), className: "number", label: "Read" },
      { text: sizeInWords(each.traffic?.written_bytes ?? 0), className: "number", label: "Written" },
      { text: `${each.in_flight}`, className: "number", label: "In flight" },
      end,
    ];
  }, "Nobody is connected.");
  if (focused) $("sessions").querySelector(`[data-session="${CSS.escape(focused)}"]`)?.focus();
  table("listeners", listeners, (each) => [
    { text: each.protocol, label: "Protocol" },
    { text: each.address || each.endpoint, label: "Address" },
    { text: each.tls, label: "TLS" },
    { text: `${each.connections}`, className: "number", label: "Connections" },
  ], "The daemon listens nowhere else.");
}

function endSession(session) {
  confirm({
    title: `End the session of ${session.peer}?`,
    says: [
      `Its connection to the export ${session.export} is closed; ${plural(session.in_flight, "request")} in flight may not be answered.`,
      "A client that is set up to reconnect comes back at once: to keep it away, change who may use the export.",
    ],
    yes: "End session",
    doing: "Ending",
    danger: true,
    act: async () => {
      await ask(address("sessions", session.id), { method: "DELETE" });
      showClients();
      return `The session of ${session.peer} has ended.`;
    },
  });
}
