// The daemon's events, through fetch so that a token can be sent, and again whenever the connection is lost.
//
// The states that are told: "connecting", "live", "lost" (with when it is tried next), "refused" (with why).

import { APIError, errorFrom, hasToken, headersWith, heardTime, newConnection, wantToken } from "./api.js";

const SILENCE_MS_MAX = 40000; // the daemon says something every 15 s
const AGAIN_MS = [250, 500, 1000, 2000, 4000];
const EVENT_CHARACTERS_MAX = 64 * 1024 * 1024;

// Server-sent events: text in, events out.
export class EventParser {
  #rest = "";
  #kind = "";
  #data = [];
  #id = null;

  push(text) {
    const events = [];
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    if (this.#rest.length > EVENT_CHARACTERS_MAX) throw new Error("an event without an end");
    for (const line of lines) this.#take(line.endsWith("\r") ? line.slice(0, -1) : line, events);
    return events;
  }

  #take(line, events) {
    if (line === "") {
      if (this.#data.length > 0) {
        events.push({ kind: this.#kind || "message", data: this.#data.join("\n"), id: this.#id });
      }
      this.#kind = "";
      this.#data = [];
      this.#id = null;
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "event") this.#kind = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id") this.#id = value;
  }
}

export class Stream {
  #handlers;
  #failures = 0;
  #lastId = null; // of an event of the journal: those after it are sent first
  #abort = null;
  #wake = null;
  #paused = false;
  #heard = false; // whether this token was ever accepted

  // @param handlers: event(kind, value), state(name, facts)
  constructor(handlers) {
    this.#handlers = handlers;
  }

  async run() {
    for (;;) {
      while (this.#paused) await this.#until(null);
      this.#handlers.state("connecting", {});
      let error;
      try {
        await this.#once();
        error = new APIError(0, { cause: "The daemon has ended the connection." });
      } catch (caught) {
        error = caught instanceof APIError ? caught : new APIError(0);
      }
      if (this.#paused) continue;
      // 401, or so many wrong tokens that another one has to be thought of.
      if (error.status === 401 || (error.status === 429 && hasToken() && !this.#heard)) {
        this.#handlers.state("refused", { error });
        this.#heard = false;
        if (!await wantToken(error)) await this.#until(null);
        continue;
      }
      const delay = AGAIN_MS[Math.min(this.#failures, AGAIN_MS.length - 1)] * (0.8 + 0.4 * Math.random());
      this.#failures += 1;
      this.#handlers.state("lost", { error, again: Date.now() + delay });
      await this.#until(delay);
    }
  }

  // Do not wait any longer.
  retry() {
    this.#wake?.();
  }

  // A browser has six connections to a daemon, and every page that is open holds one for as long as it listens: one that
  // nobody looks at gives it back.
  pause() {
    this.#paused = true;
    this.#abort?.abort();
  }

  resume() {
    this.#paused = false;
    this.#wake?.();
  }

  #until(delay) {
    return new Promise((resolve) => {
      const timer = delay === null ? null : setTimeout(resolve, delay);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  // A mistake in showing it is not one of the connection.
  #tell({ kind, data }) {
    try {
      this.#handlers.event(kind, JSON.parse(data));
    } catch (error) {
      console.error(error);
    }
  }

  async #once() {
    const abort = new AbortController();
    this.#abort = abort;
    let silence = setTimeout(() => abort.abort(), SILENCE_MS_MAX);
    try {
      const headers = { Accept: "text/event-stream" };
      if (this.#lastId !== null) headers["Last-Event-ID"] = this.#lastId;
      const answer = await fetch("/v1/events", { headers: headersWith(headers), cache: "no-store", signal: abort.signal });
      if (!answer.ok) {
        throw errorFrom(answer.status, await answer.json().catch(() => null));
      }
      newConnection();
      const date = Date.parse(answer.headers.get("Date") ?? "");
      if (!Number.isNaN(date)) heardTime(date / 1000);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE_MS_MAX);
        this.#failures = 0;
        this.#heard = true;
        for (const event of parser.push(value)) {
          if (event.kind === "event" && event.id !== null) this.#lastId = event.id;
          this.#tell(event);
        }
      }
    } finally {
      clearTimeout(silence);
      abort.abort();
    }
  }
}
