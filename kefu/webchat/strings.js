// Every text of the page in both languages, and the choice of the language.

const STRINGS = {
  en: {
    title: "Support",
    other: "中文",
    otherLabel: "切换到中文",
    welcome: "How can we help?",
    welcomeText: "Ask about an order, a delivery or anything else, in English or Chinese.",
    guest: "Continue as a guest",
    guestNote: "Have your order number and the last four digits of your phone at hand",
    demo: (name) => `Continue as ${name}`,
    demoNote: "Demo customer",
    leave: "Leave",
    online: (name) => `Online · ${name}`,
    guestName: "Guest",
    connecting: "Connecting…",
    reconnecting: "Connection lost, reconnecting…",
    log: "Conversation",
    label: "Your message",
    placeholder: "Write a message",
    hint: "Enter to send, Shift + Enter for a new line",
    left: (n) => `${n} characters left`,
    over: (n) => `${n} characters too many`,
    send: "Send",
    typing: "The assistant is writing",
    you: "You",
    assistant: "Assistant",
    staff: "Our staff",
    sending: "Sending…",
    queued: "Sent",
    answered: "",
    unsent: "Not sent",
    failed: "Could not be answered",
    retry: "Try again",
    expired: "Your session had ended. This is a new conversation.",
    noSession: "We can't open a conversation right now. Please try again in a moment.",
    busy: "A little too fast for us. Please try again in a moment.",
    invalid: "This message can't be sent as it is.",
    payload_not_offered: "This choice is no longer available. Please write what you need.",
    image: "Picture from the assistant",
    attachment: "Open the attachment",
  },
  zh: {
    title: "在线客服",
    other: "English",
    otherLabel: "Switch to English",
    welcome: "您好，有什么可以帮您？",
    welcomeText: "订单、物流或其他问题，中文或英文都可以直接问。",
    guest: "以访客身份继续",
    guestNote: "查询订单请准备好订单号和手机号后四位",
    demo: (name) => `以 ${name} 的身份继续`,
    demoNote: "演示客户",
    leave: "退出",
    online: (name) => `在线 · ${name}`,
    guestName: "访客",
    connecting: "正在连接…",
    reconnecting: "连接已断开，正在重新连接…",
    log: "对话",
    label: "您的消息",
    placeholder: "请输入消息",
    hint: "按 Enter 发送，Shift + Enter 换行",
    left: (n) => `还可输入 ${n} 个字`,
    over: (n) => `超出 ${n} 个字`,
    send: "发送",
    typing: "客服正在输入",
    you: "您",
    assistant: "客服",
    staff: "人工客服",
    sending: "正在发送…",
    queued: "已发送",
    answered: "",
    unsent: "未发送",
    failed: "未能得到答复",
    retry: "重试",
    expired: "会话已过期，已为您开始新的对话。",
    noSession: "暂时无法开始对话，请稍后再试。",
    busy: "发送得有点快，请稍等片刻再试。",
    invalid: "这条消息无法发送，请修改后再试。",
    payload_not_offered: "该选项已失效，请直接输入您的需求。",
    image: "客服发来的图片",
    attachment: "查看附件",
  },
};

let language = "en";

export const t = (key, ...values) => {
  const found = STRINGS[language][key];
  return typeof found === "function" ? found(...values) : found;
};

export function chooseLanguage() {
  const wanted = remembered() || navigator.languages?.[0] || navigator.language || "en";
  use(wanted.toLowerCase().startsWith("zh") ? "zh" : "en");
}

export function switchLanguage() {
  use(language === "en" ? "zh" : "en");
  try {
    localStorage.setItem("kefu.language", language);
  } catch {
    // Storage may be forbidden: the choice then lasts until the page is reloaded or closed.
  }
}

function use(chosen) {
  language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  document.title = t("title");
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
  for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
  const toggle = document.getElementById("language");
  toggle.textContent = t("other");
  toggle.setAttribute("aria-label", t("otherLabel"));
  toggle.lang = chosen === "zh" ? "en" : "zh-CN";
}

function remembered() {
  try {
    return localStorage.getItem("kefu.language");
  } catch {
    return null;
  }
}
