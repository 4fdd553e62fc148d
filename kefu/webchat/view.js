// Draws the conversation. Text from outside becomes text nodes, never markup.

import { t } from "./strings.js";

const $ = (id) => document.getElementById(id);
const own = new Map(); // message id to its element

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

// Allows only URLs of https or of this site, so `javascript:`, `data:` and the like are never used.
function safeAddress(raw) {
  try {
    const address = new URL(raw, location.href);
    return address.protocol === "https:" || address.origin === location.origin ? address.href : null;
  } catch {
    return null;
  }
}

function add(node) {
  const scroll = $("scroll");
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
  $("log").append(node);
  if (atEnd || node.classList.contains("mine")) toEnd();
}

export function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

export function clear() {
  $("log").replaceChildren();
  own.clear();
}

export function history(loading) {
  $("log").setAttribute("aria-live", loading ? "off" : "polite"); // a screen reader doesn't read old messages aloud again
}

export function drawOwn(message, onRetry) {
  const item = element("li", "message mine");
  item.append(element("span", "hidden", `${t("you")}: `), element("p", "bubble", message.shown));
  const foot = element("p", "foot");
  foot.append(element("span", "state"));
  const retry = element("button", "retry", t("retry"));
  retry.type = "button";
  retry.addEventListener("click", () => onRetry(message));
  foot.append(retry);
  item.append(foot);
  own.set(message.id, item);
  add(item);
  drawState(message);
}

export function drawState(message) {
  const item = own.get(message.id);
  if (!item) return;
  item.dataset.state = message.state;
  item.querySelector(".state").textContent = message.note ? t(message.note) : t(message.state);
  const again = message.state === "unsent" || (message.state === "failed" && !message.payload);
  item.querySelector(".retry").hidden = !again;
  toEnd();
}

export function drawReply(reply, onChoice) {
  const item = element("li", "message theirs");
  item.dataset.seq = reply.seq;
  const agent = reply.custom?.agent;
  item.append(agent ? speaker(agent.name) : element("span", "hidden", `${t("assistant")}: `));
  if (reply.text) item.append(element("p", "bubble", reply.text));
  if (Array.isArray(reply.custom?.card)) item.append(card(reply.custom.card));
  const image = reply.image && safeAddress(reply.image);
  if (image) item.append(picture(image));
  const attachment = reply.attachment && safeAddress(String(reply.attachment.url || reply.attachment));
  if (attachment) item.append(link(attachment));
  if (Array.isArray(reply.buttons) && reply.buttons.length) item.append(choices(reply.buttons, onChoice));
  add(item);
}

// Labels a message of a person, so that the customer knows that it is not the assistant's.
function speaker(name) {
  return element("p", "speaker", name ? `${t("staff")} ${name}` : t("staff"));
}

// Shows the data to note or copy in a table of its own. Other fields of `custom` are for other clients.
function card(rows) {
  const list = element("dl", "card");
  for (const { label, value } of rows) list.append(element("dt", "", String(label)), element("dd", "", String(value)));
  return list;
}

function picture(address) {
  const image = element("img", "picture");
  image.alt = t("image");
  image.loading = "lazy";
  image.referrerPolicy = "no-referrer";
  image.src = address;
  return image;
}

function link(address) {
  const anchor = element("a", "bubble", t("attachment"));
  anchor.href = address;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer";
  return anchor;
}

function choices(buttons, onChoice) {
  const group = element("div", "choices");
  group.setAttribute("role", "group");
  for (const { title, payload } of buttons) {
    const button = element("button", "choice", String(title));
    button.type = "button";
    button.addEventListener("click", () => {
      button.classList.add("chosen");
      for (const each of group.children) each.disabled = true;
      onChoice(String(title), String(payload));
    });
    group.append(button);
  }
  return group;
}

export function drawNote(key) {
  add(element("li", "note", t(key)));
}

export function showTyping(visible) {
  const scroll = $("scroll");
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
  $("typing").hidden = !visible;
  if (visible && atEnd) toEnd();
}

export function showStatus(state, name) {
  $("status").dataset.state = state;
  $("status").textContent = state ? t(state, name) : "";
}

export function redrawStates(messages) {
  messages.forEach(drawState);
  for (const button of document.querySelectorAll(".retry")) button.textContent = t("retry");
}
