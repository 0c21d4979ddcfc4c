// The first script of the page. It takes away, before anything else can run, the ways out that the page's
// Content-Security-Policy does not cover. docs/PRIVACY.md says what each line is for and what it cannot do.
"use strict";
(() => {
  // Peer connections are outside every widely shipped directive; spoken text may be sent to a speech service.
  const gone = [
    "RTCPeerConnection", "webkitRTCPeerConnection", "RTCDataChannel", "RTCIceTransport",
    "SpeechRecognition", "webkitSpeechRecognition", "SpeechSynthesisUtterance", "speechSynthesis",
  ];
  for (const name of gone) {
    try {
      delete window[name];
    } catch {
      // Not deletable here: shadowed below.
    }
    if (name in window) Object.defineProperty(window, name, { value: undefined });
  }
  // A cookie would travel with the next request to this site. The page has none.
  delete Document.prototype.cookie;
  delete window.cookieStore;
  // The page never opens a window by script. Links that a person clicks do not come this way.
  Object.defineProperty(window, "open", { value: () => null });
  // Nor does it ever go to another address, or change its own beyond the fragment. The address bar, reload and the
  // back button are not affected. A file that was made in this page may be saved: its address is a blob: URL, which no
  // server sees.
  const bare = (url) => url.split("#", 1)[0];
  window.navigation?.addEventListener("navigate", (event) => {
    const stays = event.navigationType === "traverse" || bare(event.destination.url) === bare(location.href);
    const saves = event.downloadRequest !== null && event.destination.url.startsWith(`blob:${location.origin}/`);
    if (event.cancelable && !saves && (!stays || event.downloadRequest !== null || event.formData)) event.preventDefault();
  });
})();
