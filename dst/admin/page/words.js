// Numbers and states as people say them; the same words as the `dst` command uses.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function sizeInWords(count) {
  let unit = 0;
  while (count >= 999.5 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${Math.round(count)} B`;
  return `${count.toFixed(count < 9.995 ? 2 : count < 99.95 ? 1 : 0)} ${UNITS[unit]}`;
}

export function rateInWords(bytesPerSecond) {
  return `${sizeInWords(bytesPerSecond)}/s`;
}

export function countInWords(count) {
  if (count < 1000) return count < 10 && count % 1 !== 0 ? count.toFixed(1) : `${Math.round(count)}`;
  if (count < 999500) return `${(count / 1000).toFixed(count < 9995 ? 2 : count < 99950 ? 1 : 0)} k`;
  return `${(count / 1e6).toFixed(count < 9.995e6 ? 2 : 1)} M`;
}

// How long one request took.
export function latencyInWords(seconds) {
  if (seconds < 0.0009995) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 0.9995) return `${(seconds * 1e3).toFixed(seconds < 0.009995 ? 2 : seconds < 0.09995 ? 1 : 0)} ms`;
  return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
}

export function durationInWords(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    parts.push([Math.floor(left / size), unit]);
    left %= size;
  }
  while (parts.length > 1 && parts[0][0] === 0) parts.shift();
  return parts.slice(0, 2)
    .filter(([number]) => number > 0 || parts.length === 1)
    .map(([number, unit]) => `${number} ${unit}`)
    .join(" ");
}

// Rounding must not announce the end.
export function percentInWords(done, total) {
  if (total <= 0 || done >= total) return "100%";
  return `${Math.min(99.9, (100 * done) / total).toFixed(1)}%`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

export function timeInWords(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], {
    hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
  });
}

export function dayInWords(seconds) {
  return new Date(seconds * 1000).toLocaleDateString([], {
    weekday: "short", day: "numeric", month: "short", year: "numeric",
  });
}

// -- states ----------------------------------------------------------------------

export const MEMBER_STATES = new Set(["in-sync", "resyncing", "absent", "suspended", "refused"]);

const TONES = {
  "healthy": "good", "in-sync": "good", "ready": "good", "done": "good",
  "degraded": "warn", "suspended": "warn", "interrupted": "warn", "warning": "warn",
  "resyncing": "busy", "connecting": "busy", "running": "busy",
  "frozen": "bad", "failed": "bad", "absent": "bad", "refused": "bad", "away": "bad", "closed": "bad", "critical": "bad",
  "standby": "none", "info": "none",
};

// Says it without colour.
export const SIGNS = { good: "✓", warn: "!", busy: "↻", bad: "✕", none: "·" };

export function toneOf(word) {
  return TONES[word] ?? "none";
}

// Whether something is a member of a storage, and not a storage, a node of its own, or what is behind one.
export function isMember(tree) {
  return MEMBER_STATES.has(tree.state);
}

// Below it everything is another daemon's.
export function isRemote(tree) {
  return tree.kind === "remote" || tree.kind === "nbd";
}

// Of a member its state, of a storage its health.  A member that is in sync and has just been lost has not missed
// anything yet; that it is gone is what a person wants to see.
export function wordOf(tree) {
  if (isMember(tree)) {
    const link = tree.detail?.link ?? "ready";
    return tree.state === "in-sync" && link !== "ready" ? link : tree.state;
  }
  if (tree.detail?.role === "standby") return "standby";
  return tree.members.length > 0 ? tree.health : tree.state;
}

// Whether a person should look: anything that is not as it should be, in it or below it.
export function needsAttention(tree) {
  if (tree.health !== "healthy" && wordOf(tree) !== "standby") return true;
  return wordOf(tree) !== "standby" && tree.members.some((member) => isMember(member) && wordOf(member) !== "in-sync");
}

// All that is being copied below a storage as one, or null.
export function resyncBelow(tree) {
  const all = tree.members.map((member) => member.resync).filter(Boolean);
  if (all.length === 0) return null;
  const sum = (key) => all.reduce((total, each) => total + each[key], 0);
  const moving = all.filter((each) => !each.stalled);
  const lefts = moving.map((each) => each.seconds_left);
  return {
    count: all.length,
    bytes_total: sum("bytes_total"),
    bytes_left: sum("bytes_left"),
    bytes_per_s: sum("bytes_per_s"),
    stalled: moving.length === 0 ? all[0].stalled : "",
    seconds_left: lefts.length === 0 || lefts.includes(null) ? null : Math.max(...lefts),
  };
}

export function progressInWords(resync) {
  const done = resync.bytes_total - resync.bytes_left;
  const facts = [percentInWords(done, resync.bytes_total), `${sizeInWords(resync.bytes_left)} left`];
  if (resync.stalled) return [...facts, `waits: ${resync.stalled}`].join(" · ");
  facts.push(rateInWords(resync.bytes_per_s));
  if (resync.seconds_left !== null) facts.push(`${durationInWords(resync.seconds_left)} to go`);
  return facts.join(" · ");
}

// How many more members can be lost, in words; "" where that says nothing.
export function redundancyInWords(tree) {
  if (isMember(tree) || tree.members.length < 2 || wordOf(tree) === "standby") return "";
  if (tree.redundancy > 0) return `${tree.redundancy === 1 ? "1 copy" : `${tree.redundancy} copies`} can be lost`;
  return tree.kind === "mirror" ? "no copy can be lost" : "no redundancy of its own";
}

// Whose a storage is, where that is not simply this daemon's.
export function ownershipInWords({ detail, reason }) {
  const { role, owner, votes, quorum } = detail ?? {};
  if (role === "standby" && owner && reason.includes(owner)) return "";
  if (role === "standby") return owner ? `standby; ${owner} is the owner` : "standby; nobody is the owner now";
  if (!Array.isArray(votes) || votes.length < 2) return "";
  const missing = votes.filter((vote) => !vote.granted).map((vote) => vote.name);
  if (missing.length === 0) return "";
  return `${votes.length - missing.length} of ${votes.length} votes, ${quorum} needed; not ${missing.join(", ")}`;
}
