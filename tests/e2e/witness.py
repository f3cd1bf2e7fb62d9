"""A browser that remembers what was shown: a word that stays for a second is read on a slow machine too.

What it saw is kept in the tab's session storage, beyond a change of page.
"""

from __future__ import annotations

from playwright.sync_api import Page

REMEMBER = """(() => {
  const recall = () => JSON.parse(sessionStorage.getItem("witness") ?? '{"words": [], "frames": {}}');
  const change = (edit) => {
    const all = recall();
    edit(all);
    sessionStorage.setItem("witness", JSON.stringify(all));
  };
  window.witness = {
    read: (word) => recall().words.some((each) => each.includes(word)),
    matches: (pattern) => recall().words.some((each) => new RegExp(pattern).test(each)),
    frames: (id) => recall().frames[id] ?? 0,
  };
  // The feed's first word; what is pushed from then on reaches this page.
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(url, ...rest) {
      super(url, ...rest);
      this.addEventListener("message", ({ data }) => {
        if (String(data).includes('"RESYNC"')) window.witness.hears = true;
      });
    }
  };
  const texts = (selector) => [...document.querySelectorAll(selector)].map((each) => each.textContent.trim());
  new MutationObserver(() => {
    const shown = texts('[role="alert"], [role="status"], .toast');
    shown.push(...texts(".tip-flash").map((text) => `over the picture: ${text}`));
    for (const way of document.querySelectorAll(".call__quality .quality:not([hidden])")) {
      shown.push(`${way.querySelector(".quality__long").textContent} ${way.lastElementChild.textContent}`);
    }
    const known = recall().words;
    const fresh = shown.filter((word) => word && !known.includes(word));
    if (fresh.length) change((all) => all.words.push(...fresh));
  }).observe(document, { childList: true, subtree: true, characterData: true, attributeFilter: ["hidden"] });
  setInterval(() => {
    for (const video of document.querySelectorAll("video")) {
      const decoded = video.getVideoPlaybackQuality().totalVideoFrames;
      if (decoded > window.witness.frames(video.id)) change((all) => { all.frames[video.id] = decoded; });
    }
  }, 100);
})();"""


def remember(*pages: Page) -> None:
    """From the next page on; before, nothing is kept."""
    for page in pages:
        page.add_init_script(REMEMBER)


def hears(*pages: Page) -> None:
    """Wait until each page's feed is there: a word of a moment that is said before reaches it as the past only."""
    for page in pages:
        page.wait_for_function("() => window.witness?.hears === true")


def has_read(page: Page, words: str) -> None:
    """Wait until ``words`` have been in a message, an alert or a status, still there or not."""
    page.wait_for_function("(words) => window.witness?.read(words)", arg=words)


def has_matched(page: Page, pattern: str) -> None:
    """The same for a pattern of JavaScript's; also of the words beside the bars of a call's connections."""
    page.wait_for_function("(pattern) => window.witness?.matches(pattern)", arg=pattern)


def has_seen(page: Page, video: str, frames: int = 20) -> None:
    """Wait until the element with the id ``video`` has decoded so many frames, in the call or before."""
    page.wait_for_function("([id, wanted]) => window.witness?.frames(id) >= wanted", arg=[video, frames])
