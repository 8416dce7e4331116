// What a person can have done: when each operation is offered, what is said before it, and what it needs to know.
//
// A table of values and words; nothing here asks the daemon.  `about` is {storage, member, records, scrubs,
// explanation}: trees of the status (`member` is null for a storage), the resyncs that have ended, the scrubs, the
// explanation if it is known.

import { runningScrub } from "./history.js";
import { decidedBy } from "./why.js";
import { durationInWords, plural, sizeInWords } from "./words.js";

const PAUSED = /^paused/;

function inSync(storage) {
  return storage.members.filter((member) => member.state === "in-sync");
}

function isLastCopy({ storage, member }) {
  return member.state === "in-sync" && inSync(storage).length === 1;
}

function withoutIt({ storage, member }) {
  if (member.state !== "in-sync") return `${storage.name} has ${plural(inSync(storage).length, "copy", "copies")} in sync without it.`;
  const left = inSync(storage).length - 1;
  const more = left - 1;
  const lost = more > 0 ? `then ${more} more can be lost` : "then no other copy can be lost without losing data";
  return `${storage.name} goes on with ${plural(left, "copy", "copies")}: ${lost}.`;
}

// How long a full copy takes, if it goes as fast as the last ones did.
function paceInWords({ storage, records }) {
  const size = sizeInWords(storage.size);
  const copied = records.filter((record) => record.bytes_copied > 0 && record.seconds > 0).at(-1);
  if (copied === undefined) return `All ${size} are copied to it from the others.`;
  const seconds = storage.size / (copied.bytes_copied / copied.seconds);
  return `All ${size} are copied to it from the others; as fast as the last time that takes ${durationInWords(seconds)}.`;
}

// Another daemon owns it: what is to be done with its members is done there.
function isElsewhere({ storage }) {
  return storage.detail?.role === "standby";
}

function isServed(about) {
  return !isElsewhere(about) && about.storage.size > 0;
}

function memberChoices({ storage }) {
  return storage.members.map((member) => ({ value: member.name, text: member.name, about: member.reason || member.state }));
}

// Each: for "storage" or "member"; `offered`: null (not), "" (yes), or why it is there but cannot be asked for now;
// `says`: what will happen; `fields`: what has to be chosen; `grave`: the name of the storage has to be typed.
export const OPERATIONS = {
  "suspend": {
    of: "member",
    label: "Suspend",
    doing: "Suspending",
    offered: (about) => {
      if (isElsewhere(about) || ["suspended", "refused"].includes(about.member.state)) return null;
      return isLastCopy(about) ? "It is the last copy in sync." : "";
    },
    title: ({ member }) => `Suspend ${member.name}?`,
    says: (about) => [
      `${about.member.name} is not used any more until it is resumed, also over a restart.`,
      withoutIt(about),
      "Clients notice nothing. What is written meanwhile is remembered, and copied when it is resumed.",
    ],
    done: ({ member }) => `${member.name} is suspended.`,
  },
  "resume": {
    of: "member",
    label: "Resume",
    doing: "Resuming",
    offered: (about) => {
      const aside = about.member.state === "suspended" || about.member.detail?.held_back_s > 0;
      return aside && !isElsewhere(about) ? "" : null;
    },
    title: ({ member }) => `Resume ${member.name}?`,
    says: ({ storage, member }) => [
      `${storage.name} uses ${member.name} again.`,
      member.dirty_bytes > 0
        ? `What it has missed, ${sizeInWords(member.dirty_bytes)} at most, is copied to it first.`
        : "What it has missed is copied to it first.",
    ],
    done: ({ member }) => `${member.name} is used again.`,
  },
  "pause-resync": {
    of: "both",
    label: "Pause resync",
    doing: "Pausing",
    offered: ({ storage, member }) => {
      const all = (member === null ? storage.members : [member]).map((each) => each.resync).filter(Boolean);
      return all.some((resync) => !PAUSED.test(resync.stalled)) ? "" : null;
    },
    title: ({ storage, member }) => `Pause the resync of ${(member ?? storage).name}?`,
    says: ({ storage, member }) => [
      `Nothing more is copied to ${member === null ? `any member of ${storage.name}` : member.name} until it is resumed.`,
      "What has been copied stays. Redundancy is lower for as long as it is paused.",
    ],
    done: ({ storage, member }) => `The resync of ${(member ?? storage).name} is paused.`,
  },
  "resume-resync": {
    of: "both",
    label: "Resume resync",
    doing: "Resuming",
    offered: ({ storage, member }) => {
      const all = (member === null ? storage.members : [member]).map((each) => each.resync).filter(Boolean);
      return all.some((resync) => PAUSED.test(resync.stalled)) ? "" : null;
    },
    title: ({ storage, member }) => `Resume the resync of ${(member ?? storage).name}?`,
    says: () => ["Copying goes on where it was paused."],
    done: ({ storage, member }) => `The resync of ${(member ?? storage).name} goes on.`,
  },
  "take-over": {
    of: "storage",
    label: "Take over",
    doing: "Taking over",
    offered: ({ storage }) => (storage.detail?.role === "standby" ? "" : null),
    title: ({ storage }) => `Own ${storage.name} here?`,
    says: ({ storage }) => {
      const owner = storage.detail?.owner || "The daemon that owns it";
      return [
        `${owner} is asked to hand ${storage.name} over. Its clients are let go there, and find it here.`,
        "If it cannot be reached, this waits until its lease is over, so that two never write.",
        "No acknowledged write is lost.",
      ];
    },
    done: ({ storage }) => `${storage.name} is owned here now.`,
  },
  "grow": {
    of: "storage",
    label: "Grow",
    doing: "Growing",
    offered: (about) => (isServed(about) ? "" : null),
    title: ({ storage }) => `Grow ${storage.name}?`,
    says: ({ storage }) => [
      `${storage.name} has ${sizeInWords(storage.size)}, and becomes as large as all its members have room for, while it is served.`,
      "The new part reads as zeroes. It cannot be made smaller again.",
    ],
    done: ({ storage }) => `${storage.name} has grown.`,
  },
  "scrub": {
    of: "storage",
    label: "Scrub",
    doing: "Beginning",
    offered: (about) => {
      if (about.storage.kind !== "mirror" || !isServed(about) || runningScrub(about.scrubs) !== null) return null;
      return inSync(about.storage).length < 2 ? "There are no two copies to compare." : "";
    },
    title: ({ storage }) => `Compare all copies of ${storage.name}?`,
    says: ({ storage }) => [
      `Every copy of ${sizeInWords(storage.size)} is read and compared, to find what no disk reports. It gives way to clients and resyncs.`,
      "Where no copy is more credible than another nothing is changed, and you are told where that is.",
    ],
    fields: () => [{
      name: "repair",
      label: "What is evident: what one copy cannot read, or has otherwise than most",
      choices: [
        { value: "yes", text: "Mend it", about: "it is written anew from the other copies", chosen: true },
        { value: "no", text: "Only look", about: "nothing is changed anywhere" },
      ],
    }],
    body: ({ repair }) => ({ repair: repair === "yes" }),
    done: ({ storage }) => `The copies of ${storage.name} are being compared.`,
  },
  "stop-scrub": {
    of: "storage",
    label: "Stop scrub",
    doing: "Stopping",
    offered: ({ scrubs }) => (runningScrub(scrubs) === null ? null : ""),
    title: ({ storage }) => `Stop the scrub of ${storage.name}?`,
    says: () => ["What it has mended stays. The next one goes on from where this one was."],
    done: ({ storage }) => `${storage.name} is not being scrubbed any more.`,
  },
  "mark-dirty": {
    of: "member",
    label: "Mark dirty",
    doing: "Marking dirty",
    danger: true,
    offered: (about) => {
      if (isElsewhere(about) || about.member.state === "refused") return null;
      return isLastCopy(about) ? "It is the last copy in sync." : "";
    },
    title: ({ member }) => `Give up the copy of ${member.name}?`,
    says: (about) => [
      `“I do not trust this copy”: what ${about.member.name} holds is not used any more, and is written anew.`,
      withoutIt(about),
      paceInWords(about),
    ],
    done: ({ member }) => `${member.name} is copied anew.`,
  },
  "mark-clean": {
    of: "member",
    label: "Mark clean",
    doing: "Marking clean",
    danger: true,
    grave: true,
    offered: (about) => (about.member.state === "in-sync" || isElsewhere(about) ? null : ""),
    title: ({ member }) => `Take ${member.name} as in sync, without copying?`,
    says: ({ storage, member }) => [
      `“I know that this copy has the data”: ${storage.name} uses what ${member.name} holds, unread and unchecked.`,
      inSync(storage).length === 0
        ? "If another copy has newer data, that is lost when it returns."
        : "If it does not have the same data as the others, readers get one or the other by chance, for ever.",
      member.dirty_bytes > 0 ? `As far as is known, ${sizeInWords(member.dirty_bytes)} differ now.` : "",
    ],
    done: ({ member }) => `${member.name} counts as in sync.`,
  },
  "replace": {
    of: "member",
    label: "Replace",
    doing: "Replacing",
    danger: true,
    grave: true,
    offered: (about) => {
      if (isElsewhere(about)) return null;
      return isLastCopy(about) ? "It is the last copy in sync." : "";
    },
    title: ({ member }) => `Put other media at the place of ${member.name}?`,
    says: (about) => [
      `What the new media holds is lost: it is overwritten with the data of ${about.storage.name}.`,
      `${about.member.name} leaves at once. ${withoutIt(about)}`,
      paceInWords(about),
    ],
    fields: () => [{ name: "uri", label: "Address of the new media", placeholder: "file:/srv/new.img?size=64G" }],
    done: ({ member }) => `${member.name} is other media now, and is copied to.`,
  },
  "initialise": {
    of: "storage",
    label: "Initialise",
    doing: "Initialising",
    danger: true,
    grave: true,
    offered: (about) => {
      const { storage, explanation } = about;
      const row = explanation?.row ?? "";
      if (row !== "" && !row.includes("first-start")) return null; // it exists, and waits for something else
      const never = storage.size === 0 && storage.members.length > 0 && inSync(storage).length === 0;
      return never && !isElsewhere(about) ? "" : null;
    },
    title: ({ storage }) => `Make the storage ${storage.name} of its nodes?`,
    says: ({ storage }) => [
      `Each of ${storage.members.map((member) => member.name).join(", ")} is given a label of ${storage.name}.`,
      "What you keep is copied over everything that the other nodes hold; that is lost.",
    ],
    fields: (about) => [{
      name: "keep",
      label: "What is kept",
      choices: [
        ...memberChoices(about).map((choice) => ({ ...choice, text: `The data of ${choice.value}` })),
        { value: "", text: "Nothing: whatever any of them holds may be lost", about: "" },
      ],
    }],
    body: ({ keep }) => (keep === "" ? { discard: true } : { keep }),
    done: ({ storage }) => `${storage.name} is a storage now.`,
  },
  "resolve": {
    of: "storage",
    label: "Choose a history",
    doing: "Going on",
    danger: true,
    grave: true,
    offered: ({ explanation }) => (decidedBy(explanation, "diverged") ? "" : null),
    title: ({ storage }) => `Which history of ${storage.name} is gone on with?`,
    says: ({ storage }) => [
      `${storage.name} was written to on both sides, each without the other. One is gone on with.`,
      "What only the others have is lost: how much that is stands beside each choice.",
      `Each can be read before, as the read-only export \`${storage.name}@NODE\`.`,
    ],
    fields: (about) => [{
      name: "keep",
      label: "Go on with the history of",
      choices: memberChoices(about),
    }],
    done: ({ storage }, { keep }) => `${storage.name} goes on with the history of ${keep}.`,
  },
};

// The operations that can be offered: [{name, operation, why}], `why` says what is in the way of one that is shown
// but cannot be asked for.
export function offeredFor(about) {
  const kind = about.member === null ? "storage" : "member";
  return Object.entries(OPERATIONS)
    .filter(([, operation]) => operation.of === kind || operation.of === "both")
    .map(([name, operation]) => ({ name, operation, why: operation.offered(about) }))
    .filter(({ why }) => why !== null);
}

export function bodyOf(operation, about, given) {
  const body = operation.body ? operation.body(given) : { ...given };
  return about.member === null ? body : { node: about.member.name, ...body };
}
