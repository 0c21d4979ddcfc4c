// @ts-check
// What the page remembers beside the chats: settings, the open student and chat, the draft. In localStorage for the next visit, and
// in sessionStorage so that two tabs do not take each other's draft and chat over when one of them is reloaded.

const NAME = "understudy.page";

/** @param {string} kind @returns {any} */
function read(kind) {
  try {
    const found = JSON.parse(/** @type {any} */ (globalThis)[kind].getItem(NAME) ?? "{}");
    return found !== null && typeof found === "object" ? found : {};
  } catch {
    return {};
  }
}

/** @param {string} kind @param {object} what */
function write(kind, what) {
  try {
    /** @type {any} */ (globalThis)[kind].setItem(NAME, JSON.stringify(what));
  } catch {
    // Blocked or full: it then lasts until the page is closed.
  }
}

export const recall = () => ({ ...read("localStorage"), ...read("sessionStorage") });

let ended = false;
/** Nothing is remembered any more. */
export const end = () => (ended = true);

/** What an older page kept in the same place, and what is kept elsewhere by now. */
let old = read("localStorage").messages;
export function taken() {
  old = undefined;
  const { messages: _, ...rest } = read("localStorage");
  write("localStorage", rest);
}

/** A function that keeps what `now` tells, a moment after it was last called and when the page goes. @param {() => any} now */
export function keeper(now) {
  let timer = 0;
  const keep = () => {
    clearTimeout(timer);
    if (ended) return;
    const { draft, chat, ...all } = now();
    write("sessionStorage", { draft, chat });
    write("localStorage", { ...all, draft, chat, ...(old ? { messages: old } : {}) });
  };
  addEventListener("pagehide", keep);
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(keep, 300);
  };
}

/** Runs `act` while no other tab does the same. @param {string} name @param {() => Promise<void>} act */
export async function alone(name, act) {
  if (!navigator.locks) return act();
  await navigator.locks.request(name, act);
}
