// Asking for a token when the daemon wants one.

import { forgetToken, hasToken, onTokenWanted } from "./api.js";
import { $, setText } from "./dom.js";

let answered = null;

// @return: a promise of the token, or of null when the person gives none.
function askForToken(error) {
  setText($("login-text"), hasToken() ? `The token was not accepted: ${error.message}` : error.message);
  $("login-token").value = "";
  if (!$("login").open) $("login").showModal();
  $("login-token").focus();
  return new Promise((resolve) => { answered = resolve; });
}

function answer(token) {
  const resolve = answered;
  answered = null;
  $("login").close();
  $("sign-out").hidden = token === null && !hasToken();
  resolve?.(token);
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("login-token").value.trim();
  $("login-token").value = "";
  if (token !== "") answer(token);
});
$("login-no").addEventListener("click", () => answer(null));
$("login").addEventListener("close", () => { if (answered !== null) answer(null); });
$("sign-out").addEventListener("click", () => {
  forgetToken();
  location.reload();
});
$("sign-out").hidden = !hasToken();
onTokenWanted(askForToken);
