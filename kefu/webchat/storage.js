// The tab's storage for a reload: the session and its own messages. The browser clears it when the tab is closed.

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
    // Storage may be full or forbidden. The conversation goes on, but a reload then starts a new session.
  }
}
