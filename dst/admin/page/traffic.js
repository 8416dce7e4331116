// What passes through the exports, over time: counters are asked for while somebody looks, their differences kept.
//
// Two rings for each export: the last minutes finely, the last hour coarsely; this page's memory is all there is of it.

import { APIError, ask, heardTime } from "./api.js";

export const FINE_MS = 1000;
export const FINE_SAMPLES = 300;
const COARSE_EVERY = 12;
const MANY_EXPORTS = 200; // with more than so many the counters themselves are traffic: they are asked for less often
const MANY_MS = 4000;
const ABSENT_MS = 20000; // this daemon does not count, or does not tell us: its successor may

// What is kept of each, per second.
const COUNTERS = [
  "reads", "writes", "flushes", "discards", "read_bytes", "written_bytes", "errors",
  "read_s", "reads_timed", "write_s", "writes_timed",
];
const AT = Object.fromEntries(COUNTERS.map((name, place) => [name, place]));

class Ring {
  constructor(capacity) {
    this.capacity = capacity;
    this.count = 0;
    this.times = new Float64Array(capacity);
    this.values = new Float32Array(capacity * COUNTERS.length);
  }

  push(time, rates) {
    const place = this.count % this.capacity;
    this.times[place] = time;
    this.values.set(rates, place * COUNTERS.length);
    this.count += 1;
  }

  *from(time) {
    for (let number = Math.max(0, this.count - this.capacity); number < this.count; number += 1) {
      const place = number % this.capacity;
      if (this.times[place] >= time) {
        yield [this.times[place], this.values.subarray(place * COUNTERS.length, (place + 1) * COUNTERS.length)];
      }
    }
  }
}

export class Series {
  constructor() {
    this.fine = new Ring(FINE_SAMPLES);
    this.coarse = null; // made when there is something to put into it
    this.before = null;
    this.coarseSum = new Float64Array(COUNTERS.length);
    this.coarseCount = 0;
    this.last = null;
  }

  // @param traffic: counters that only grow, unless the daemon was started again.
  add(time, traffic) {
    const counters = COUNTERS.map((name) => traffic[name] ?? 0);
    const before = this.before;
    this.before = { time, counters };
    if (before === null || time <= before.time) return;
    if (counters.some((count, place) => count < before.counters[place])) {
      this.last = null; // it began again: what passed in between nobody knows
      return;
    }
    const seconds = time - before.time;
    const rates = counters.map((count, place) => (count - before.counters[place]) / seconds);
    this.last = rates;
    this.fine.push(time, rates);
    rates.forEach((rate, place) => { this.coarseSum[place] += rate; });
    this.coarseCount += 1;
    if (this.coarseCount === COARSE_EVERY) {
      this.coarse ??= new Ring(FINE_SAMPLES);
      this.coarse.push(time, this.coarseSum.map((sum) => sum / COARSE_EVERY));
      this.coarseSum.fill(0);
      this.coarseCount = 0;
    }
  }
}

const byExport = new Map();
let exportsNow = []; // as the daemon listed them last
let period = FINE_MS;
export let known = false; // whether this daemon counts at all

export function exportsOf(device) {
  return device === null ? exportsNow : exportsNow.filter((each) => each.device === device);
}

export function samplePeriod() {
  return period / 1000;
}

// What passes now through all exports of a device (null: through all there are), or null while nothing is known.
export function rateNow(device) {
  const rates = exportsOf(device).map((each) => byExport.get(each.name)?.last).filter(Boolean);
  if (rates.length === 0) return null;
  const sum = (name) => rates.reduce((total, each) => total + each[AT[name]], 0);
  return {
    read: sum("read_bytes"),
    written: sum("written_bytes"),
    requests: sum("reads") + sum("writes") + sum("flushes") + sum("discards"),
    errors: sum("errors"),
  };
}

// The samples of some exports added up, from `since` on, oldest first: {time, read, written, ...} per second.
export function samples(names, since, coarse = false) {
  const sums = new Map();
  for (const name of names) {
    const series = byExport.get(name);
    const ring = coarse ? series?.coarse : series?.fine;
    for (const [time, rates] of ring?.from(since) ?? []) {
      const sum = sums.get(time);
      if (sum === undefined) sums.set(time, Float64Array.from(rates));
      else rates.forEach((rate, place) => { sum[place] += rate; });
    }
  }
  return [...sums].sort(([one], [other]) => one - other).map(([time, rates]) => {
    const mean = (spent, timed) => (rates[AT[timed]] > 0 ? rates[AT[spent]] / rates[AT[timed]] : null);
    return {
      time,
      read: rates[AT.read_bytes],
      written: rates[AT.written_bytes],
      reads: rates[AT.reads],
      writes: rates[AT.writes],
      others: rates[AT.flushes] + rates[AT.discards],
      readLatency: mean("read_s", "reads_timed"),
      writeLatency: mean("write_s", "writes_timed"),
    };
  });
}

// -- asking ----------------------------------------------------------------------------

export function takeExports(listed, time) {
  exportsNow = listed;
  const names = new Set(listed.map((each) => each.name));
  for (const name of byExport.keys()) if (!names.has(name)) byExport.delete(name);
  for (const each of listed) {
    let series = byExport.get(each.name);
    if (series === undefined) byExport.set(each.name, series = new Series());
    series.add(time, each.traffic ?? {});
  }
}

// @param changed: called after every answer, and when there are none any more.
export async function sampleTraffic(changed) {
  for (;;) {
    let wait = period;
    if (!document.hidden) {
      try {
        const { value } = await ask("/v1/exports", { quiet: true });
        if (typeof value.time === "number") heardTime(value.time);
        takeExports(value.exports ?? [], value.time ?? Date.now() / 1000);
        known = true;
        period = exportsNow.length > MANY_EXPORTS ? MANY_MS : FINE_MS;
      } catch (error) {
        if (!(error instanceof APIError)) throw error;
        if (error.status === 404) known = false;
        wait = error.status === 404 || error.status === 403 ? ABSENT_MS : 2 * FINE_MS;
      }
      changed();
    }
    await new Promise((resolve) => { setTimeout(resolve, wait); });
  }
}
