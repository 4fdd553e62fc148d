// The chat page: a session, the messages of this tab, and their outcomes.

import { Refused, call, follow } from "./api.js";
import { recall, remember } from "./storage.js";
import { chooseLanguage, switchLanguage, t } from "./strings.js";
import * as view from "./view.js";

const config = JSON.parse(document.querySelector("meta[name=kefu-config]").content);
const $ = (id) => document.getElementById(id);
const KEPT = 200; // limits the own messages that are kept for a reload; older ones are forgotten
const ASK_EVERY_MS = 5_000;
const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

let session = recall("kefu.session");
let messages = [];
let drawn = 0; // how many of `messages` are on the page
let seen = 0; // sequence number of the last reply drawn
let connection = "";
let stop = () => {};

function saveMessages() {
  if (messages.length > KEPT) drawn -= messages.splice(0, messages.length - KEPT).length;
  remember("kefu.messages", messages);
}

const displayName = () => (session.user_id.startsWith("guest-") ? t("guestName") : session.user_id);
const showState = (state) => view.showStatus((connection = state), session ? displayName() : "");

// Session

async function openSession(user) {
  const path = user ? "/v1/demo-sessions" : "/v1/sessions";
  const body = user ? { user_id: user } : { tenant: config.tenant, site_key: config.siteKey };
  session = await (await call("POST", path, { body })).json();
  remember("kefu.session", session);
}

async function enter(user) {
  $("startProblem").textContent = "";
  try {
    await openSession(user);
  } catch {
    $("startProblem").textContent = t("noSession");
    return;
  }
  messages = [];
  saveMessages();
  await openChat();
}

async function openChat() {
  show("chat");
  view.clear();
  drawn = seen = 0;
  showState("connecting");
  view.history(true);
  try {
    await loadHistory();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return renew();
    // Redis or the network is unavailable: the stream below brings the replies once it is back.
  }
  drawOwnUpTo(messages.length);
  view.history(false);
  view.toEnd();
  const on = { reply: takeReply, failed: takeFailure, state: showState, unauthorized: renew };
  stop = follow(session.token, () => seen, on);
  showTyping();
  focusText();
}

async function loadHistory() {
  for (;;) {
    const response = await call("GET", `/v1/replies?after=${seen}`, { token: session.token });
    const { replies } = await response.json();
    replies.forEach(takeReply);
    if (replies.length < 100) return;
  }
}

// Opens a new session when the token has expired, after a day. A demo customer keeps his id. A guest gets a new id and
// so a new conversation.
async function renew() {
  stop();
  const known = session && !session.user_id.startsWith("guest-") ? session.user_id : null;
  try {
    await openSession(known);
  } catch {
    return leave();
  }
  if (!known) messages = [];
  saveMessages();
  await openChat();
  if (!known) view.drawNote("expired");
}

function leave() {
  stop();
  session = null;
  messages = [];
  remember("kefu.session", null);
  remember("kefu.messages", null);
  showState("");
  show("start");
  $("doors").querySelector("button").focus();
}

// Incoming replies

function takeReply(reply) {
  if (reply.seq <= seen) return;
  seen = reply.seq;
  const index = messages.findIndex(({ id }) => id === reply.message_id);
  drawOwnUpTo(index + 1); // after a reload, a question is drawn before its answer
  if (index >= 0) settle(messages[index], "answered");
  view.drawReply(reply, (title, payload) => say({ shown: title, payload }));
}

function takeFailure({ message_id: id, reason }) {
  const message = messages.find((each) => each.id === id);
  if (message) settle(message, "failed", reason === "payload_not_offered" ? reason : undefined);
}

function settle(message, state, note) {
  Object.assign(message, { state, note });
  saveMessages();
  view.drawState(message);
  showTyping();
}

function drawOwnUpTo(count) {
  while (drawn < count) view.drawOwn(messages[drawn++], again);
}

const waiting = () => messages.filter(({ state }) => state === "sending" || state === "queued");
const showTyping = () => view.showTyping(waiting().length > 0);

// Asks for the outcomes of waiting messages: the hint of a failure may be lost, and an answer may have no reply.
setInterval(async () => {
  const token = session?.token;
  for (const message of waiting()) {
    if (!message.link || Date.now() - message.at < ASK_EVERY_MS || token !== session?.token) continue;
    const found = await call("GET", message.link, { token }).then((r) => r.json(), () => ({}));
    if (found.status === "failed") takeFailure(found);
    if (found.status === "answered") found.replies.forEach(noteAnswer), settle(message, "answered");
  }
}, ASK_EVERY_MS);

const noteAnswer = (reply) => reply.seq === seen + 1 && takeReply(reply);

// Outgoing messages

function say({ shown, payload }) {
  const message = { id: newId(), shown, payload, state: "sending", at: Date.now() };
  messages.push(message);
  saveMessages();
  drawOwnUpTo(messages.length);
  showTyping();
  send(message);
}

// Sends a message again: a message that was not accepted under the same id, so that it is answered once, and a failed
// one as a new message.
function again(message) {
  if (message.state === "failed") return say({ shown: message.shown });
  settle(message, "sending");
  send(message);
}

async function send(message) {
  const { id, shown, payload } = message;
  const content = payload === undefined ? { text: shown } : { payload };
  const body = { message_id: id, channel: "web", ...content };
  try {
    const response = await call("POST", "/v1/messages", { token: session.token, body });
    message.link = (await response.json()).links?.self;
    if (message.state === "sending") settle(message, "queued");
  } catch (error) {
    if (error.status === 401) {
      settle(message, "unsent");
      return renew();
    }
    settle(message, "unsent", { 422: "invalid", 429: "busy" }[error.status]);
  }
}

// The page

function show(name) {
  for (const id of ["start", "chat"]) $(id).hidden = id !== name;
  $("leave").hidden = name !== "chat" || !config.demoUsers.length;
}

function focusText() {
  if (!matchMedia("(pointer: coarse)").matches) $("text").focus(); // on a phone the focus would raise the keyboard
}

function measure() {
  const text = $("text");
  const left = config.maxChars - [...text.value].length;
  $("count").textContent = left < 0 ? t("over", -left) : left < 200 ? t("left", left) : "";
  $("send").disabled = !text.value.trim() || left < 0;
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

function submit(event) {
  event.preventDefault();
  if (measure(), $("send").disabled) return;
  const shown = $("text").value.replaceAll("\0", "").trim();
  $("text").value = "";
  measure();
  say({ shown });
  $("text").focus();
}

function drawDoors() {
  const door = (label, note, user) => {
    const button = document.createElement("button");
    const small = document.createElement("small");
    button.type = "button";
    small.textContent = note;
    button.append(label, small);
    button.addEventListener("click", () => enter(user));
    return button;
  };
  const known = config.demoUsers.map((user) => door(t("demo", user), t("demoNote"), user));
  $("doors").replaceChildren(door(t("guest"), t("guestNote")), ...known);
}

$("form").addEventListener("submit", submit);
$("text").addEventListener("input", measure);
$("text").addEventListener("keydown", (event) => {
  // While a Chinese input method composes, Enter accepts its suggestion (Safari shows it only by key code 229).
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) submit(event);
});
$("leave").addEventListener("click", leave);
$("language").addEventListener("click", () => {
  switchLanguage();
  drawDoors();
  measure();
  showState(connection);
  view.redrawStates(messages);
});

chooseLanguage();
drawDoors();
measure();
if (session) {
  messages = recall("kefu.messages") || [];
  openChat();
} else if (config.demoUsers.length) {
  show("start");
} else {
  show("start");
  enter();
}
