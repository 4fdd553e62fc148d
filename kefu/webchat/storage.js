// What this tab remembers for a reload: the session and its own messages. It ends with the tab.

export function recall(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}

export function remember(key, value) {
  try {
    if (value === null) sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Storage may be full or forbidden: a reload then starts anew, the conversation itself goes on.
  }
}
