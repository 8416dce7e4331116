// Asking the daemon: with the token if there is one, with a limit on time, and with errors that say what to do.

const TOKEN_KEY = "dst-token";
const ANSWER_MS_MAX = 15000;

export class APIError extends Error {
  constructor(status, { code = "", cause = "", correction = "" } = {}) {
    super(cause || (status ? `The daemon answered ${status} without a reason.` : "The daemon does not answer."));
    this.status = status; // 0: no answer came at all
    this.code = code;
    this.correction = correction;
  }

  get sentence() {
    return this.correction === "" ? this.message : `${this.message} — ${this.correction}`;
  }
}

export function errorFrom(status, value) {
  return new APIError(status, value?.error ?? {});
}

// -- who asks ---------------------------------------------------------------------

let token = null;
try {
  token = sessionStorage.getItem(TOKEN_KEY);
} catch { /* it is kept as long as the page */ }

let askForToken = null; // (error) -> promise of a token, or of null when the person does not give one
let asking = null;
export let refused = false; // the daemon wants a token, or another one: nothing is asked in the background until then

export function onTokenWanted(ask) {
  askForToken = ask;
}

export function hasToken() {
  return token !== null;
}

export function forgetToken() {
  token = null;
  try {
    sessionStorage.removeItem(TOKEN_KEY);
  } catch { /* nothing was kept */ }
}

// One dialog, however many requests were refused.  @return: whether to ask again.
export function wantToken(error) {
  refused = true;
  asking ??= askForToken(error).then((given) => {
    asking = null;
    if (given === null) return false;
    token = given;
    refused = false;
    try {
      sessionStorage.setItem(TOKEN_KEY, given);
    } catch { /* it is kept as long as the page */ }
    return true;
  });
  return asking;
}

export function headersWith(more = {}) {
  return token === null ? more : { ...more, Authorization: `Bearer ${token}` };
}

// -- requests -----------------------------------------------------------------------

// Several names in one path: each one is a segment, whatever characters it has.
export function path(...names) {
  return `/v1/${names.map(encodeURIComponent).join("/")}`;
}

// @param quiet: fail when a token is wanted, instead of asking the person for one.
// @return: {status, value, headers}; any answer that is not 2xx is raised as an APIError.
export async function ask(where, { method = "GET", body, headers = {}, quiet = false, limitMs = ANSWER_MS_MAX } = {}) {
  if (quiet && refused) throw new APIError(401);
  let answer;
  let value = null;
  try {
    answer = await fetch(where, {
      method,
      headers: headersWith({ ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers }),
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(limitMs),
    });
    const text = await answer.text();
    value = text === "" ? null : JSON.parse(text);
  } catch (error) {
    if (answer !== undefined && error instanceof SyntaxError) throw new APIError(answer.status);
    throw new APIError(0, { cause: error.name === "TimeoutError" ? "The daemon did not answer in time." : "" });
  }
  if (answer.ok) return { status: answer.status, value, headers: answer.headers };
  const error = errorFrom(answer.status, value);
  if (answer.status === 401 && !quiet && await wantToken(error)) {
    return ask(where, { method, body, headers, quiet, limitMs });
  }
  if (answer.status === 401) refused = true;
  throw error;
}

// -- the daemon's clock ---------------------------------------------------------------

let ahead = null; // seconds that its clock is ahead of ours; an answer can only be late, so the largest is nearest

export function heardTime(seconds) {
  const found = seconds - Date.now() / 1000;
  // What is off by less than a person notices is the way of the answer; a jump is a clock that was set.
  if (ahead === null || found > ahead || ahead - found > 30) ahead = found;
}

export function newConnection() {
  ahead = null;
}

export function now() {
  return Date.now() / 1000 + clockAhead();
}

export function clockAhead() {
  return ahead === null || Math.abs(ahead) < 0.5 ? 0 : ahead;
}
