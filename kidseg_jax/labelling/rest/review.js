"use strict";

const $ = (id) => document.getElementById(id);
const WORDS = { approved: "approved", sent_back: "sent back" };
let token = "", cases = [], chosen = null, seen = null;

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    $("token-form").hidden = false;
    $("main").hidden = true;
    throw new Error("This server needs its token.");
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.detail || `The server answered ${answer.status}.`);
  }
  return answer;
}

function say(text) { $("said").textContent = text; }

function stateOf(one) {
  return one.decision ? `${WORDS[one.decision]} by ${one.reviewer}` : "waiting";
}

function list() {
  $("list").replaceChildren(...cases.map((one) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const score = one.score === null ? "" : ` (${one.score.toFixed(1)})`;
    button.textContent = `${one.case}${score}: ${stateOf(one)}`;
    button.setAttribute("aria-current", String(one === chosen));
    button.addEventListener("click", () => open(one));
    item.append(button);
    return item;
  }));
  say(`${cases.filter((one) => !one.decision).length} of ${cases.length} wait.`);
}

async function open(one) {
  chosen = one;
  seen = null;
  list();
  $("name").textContent = one.case;
  $("state").textContent = stateOf(one) + (one.note ? `: ${one.note}` : "");
  $("note").value = "";
  $("findings").replaceChildren(...one.findings.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  const picture = $("picture");
  URL.revokeObjectURL(picture.src);
  picture.removeAttribute("src");
  try {
    const answer = await ask(`/review/picture?case=${encodeURIComponent(one.case)}`);
    const image = await answer.blob();
    if (chosen !== one) return;
    seen = answer.headers.get("Label");
    picture.src = URL.createObjectURL(image);
    picture.alt = `${one.case}: labels over the CT`;
  } catch (error) { say(error.message); }
}

async function load() {
  try {
    cases = await (await ask("/review/cases")).json();
    $("token-form").hidden = true;
    $("main").hidden = false;
    list();
    const first = cases.find((one) => !one.decision) || cases[0];
    if (first) await open(first);
  } catch (error) { say(error.message); }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  load();
});

$("decide").addEventListener("submit", async (event) => {
  event.preventDefault();
  const one = chosen;
  const body = { case: one.case, decision: event.submitter.value, client_id: $("who").value,
    note: $("note").value, label: seen };
  try {
    const answer = await ask("/review/decision", { method: "POST", body: JSON.stringify(body),
      headers: { "Content-Type": "application/json" } });
    cases[cases.indexOf(one)] = await answer.json();
    const next = cases.find((other) => !other.decision) || cases.find((other) => other.case === one.case);
    await open(next);
    list();
  } catch (error) { say(error.message); }
});

load();
