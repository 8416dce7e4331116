// Asking a person before anything is done, doing it, and saying what came of it.

import { APIError, ask, path as address } from "./api.js";
import { $, make, setText, toast, withCode } from "./dom.js";
import { bodyOf, OPERATIONS } from "./operations.js";
import { durationInWords, sizeInWords } from "./words.js";

const FOLLOW_MS = 1000;
const OPERATION_MS_MAX = 70000; // the daemon answers within 60 s that something takes longer

let question = null; // what is asked now: {act, valid, close}
let from = null; // what had the focus before

// @param question: {title, says: [sentences], yes, doing, danger, type: what has to be typed or "", fields,
//     act(given) -> promise of the sentence that says that it is done}
export function confirm(asked) {
  from = document.activeElement;
  question = asked;
  setText($("confirm-title"), asked.title);
  const says = $("confirm-says");
  says.replaceChildren();
  for (const said of asked.says.filter(Boolean)) withCode(make(says, "li"), said);
  const fields = $("confirm-fields");
  fields.replaceChildren();
  for (const each of asked.fields ?? []) addField(fields, each);
  if (asked.type) addField(fields, { name: "", label: `Type ${asked.type} to confirm`, wanted: asked.type });
  $("confirm-yes").textContent = asked.yes;
  $("confirm-yes").classList.toggle("danger", Boolean(asked.danger));
  $("confirm-no").textContent = "Cancel";
  showError(null);
  setText($("confirm-busy"), "");
  busy(false);
  check();
  $("confirm").showModal();
  ($("confirm-fields").querySelector("input") ?? $("confirm-no")).focus();
}

function addField(parent, { name, label, placeholder = "", choices = null, wanted = "" }) {
  if (choices !== null) {
    const set = make(parent, "fieldset", "field");
    make(set, "legend", "", label);
    for (const { value, text, about, chosen = false } of choices) {
      const line = make(set, "label", "choice");
      const input = make(line, "input");
      Object.assign(input, { type: "radio", name, value, required: true, checked: chosen });
      const words = make(line, "span");
      make(words, "strong", "", text);
      if (about) make(words, "small", "", about);
    }
    return;
  }
  const line = make(parent, "label", "field");
  make(line, "span", "", label);
  const input = make(line, "input");
  Object.assign(input, { type: "text", name, placeholder, required: true, autocomplete: "off", spellcheck: false });
  if (wanted) input.dataset.wanted = wanted;
}

function check() {
  const inputs = [...$("confirm-fields").querySelectorAll("input")];
  const valid = inputs.every((input) => input.checkValidity() && (input.dataset.wanted ?? input.value) === input.value);
  $("confirm-yes").disabled = !valid || question.running;
}

function given() {
  return Object.fromEntries(new FormData($("confirm-form")).entries().filter(([name]) => name !== ""));
}

function busy(running) {
  question.running = running;
  $("confirm-form").classList.toggle("running", running);
  for (const input of $("confirm-fields").querySelectorAll("input")) input.disabled = running;
}

function showError(error) {
  $("confirm-error").hidden = error === null;
  if (error === null) return;
  const [cause, correction] = $("confirm-error").children;
  withCode(cause, error.message);
  withCode(correction, error.correction ?? "");
  correction.hidden = !error.correction;
}

async function go() {
  const running = question;
  const values = given();
  const began = Date.now();
  showError(null);
  busy(true);
  check();
  const tell = (more = "") => {
    if (question !== running) return;
    const seconds = (Date.now() - began) / 1000;
    setText($("confirm-busy"), `${running.doing} …${seconds >= 2 ? ` ${durationInWords(seconds)}` : ""}${more}`);
  };
  tell();
  const timer = setInterval(() => {
    tell(running.progress ?? "");
    $("confirm-no").textContent = "Close: it goes on";
  }, 1000);
  try {
    const done = await running.act(values, (progress) => { running.progress = progress; });
    document.dispatchEvent(new Event("dst-done"));
    if (question === running) close();
    toast(done);
  } catch (error) {
    const said = error instanceof APIError ? error : new APIError(0, { cause: `${error}` });
    if (said.status === 0) said.correction = "Look at the status before you try again: it may have been done.";
    if (question === running) {
      busy(false);
      setText($("confirm-busy"), "");
      $("confirm-no").textContent = "Cancel";
      showError(said);
      check();
    } else {
      toast(`${running.title} ${said.sentence}`);
    }
  } finally {
    clearInterval(timer);
  }
}

function close() {
  question = null;
  $("confirm").close();
}

$("confirm-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (question !== null && !question.running && !$("confirm-yes").disabled) go();
});
$("confirm-form").addEventListener("input", check);
$("confirm-no").addEventListener("click", close);
$("confirm").addEventListener("close", () => {
  question = null;
  if (from?.isConnected) from.focus();
});

// -- the operations of storages --------------------------------------------------------------

export function confirmOperation(name, about) {
  const operation = OPERATIONS[name];
  confirm({
    title: operation.title(about),
    says: operation.says(about),
    yes: operation.label,
    doing: operation.doing,
    danger: operation.danger,
    type: operation.grave ? about.storage.name : "",
    fields: operation.fields?.(about),
    act: async (values, progress) => {
      const answer = await ask(address("storages", about.storage.name, name), {
        method: "POST",
        body: bodyOf(operation, about, values),
        headers: { Prefer: "respond-async, wait=5" }, // what takes longer is looked at again, with its progress
        limitMs: OPERATION_MS_MAX,
      });
      if (answer.status === 202) await follow(answer, progress);
      return operation.done(about, values);
    },
  });
}

// Until what was only begun has ended.
async function follow(answer, progress) {
  const where = answer.headers.get("Location");
  while (where !== null) {
    const { value } = await ask(where);
    const { state, sentence: said = "", bytes_left: left = null, error_code: code = "" } = value.operation ?? value;
    if (state === "done") return;
    if (state === "failed") throw new APIError(409, { code, cause: said });
    progress(`${said && ` ${said}`}${left === null ? "" : `, ${sizeInWords(left)} left`}`);
    await new Promise((resolve) => { setTimeout(resolve, FOLLOW_MS); });
  }
}

