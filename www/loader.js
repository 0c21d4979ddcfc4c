// @ts-check
// The only document of this site that may open connections, and it never sees a prompt. It takes an address and
// hands back {size, stream}. It answers its own site's parent document, holds nothing, and remembers nothing.

// Unless the person asked for an address elsewhere, this frame too is held to its own site.
const elsewhere = location.hash === "#address";
if (!elsewhere) {
  const meta = document.createElement("meta");
  meta.httpEquiv = "Content-Security-Policy";
  meta.content = "connect-src 'self'";
  document.head.append(meta);
}

/** @param {string} address */
function check(address) {
  const url = new URL(address);
  const own = url.origin === location.origin;
  if (own && !elsewhere && url.search) throw new Error("addresses of this site are asked for without a query");
  if (!own && !(elsewhere && url.protocol === "https:")) throw new Error(`${url.origin} is not allowed here`);
  return url;
}

/** @param {string} address @param {AbortSignal} signal */
async function get(address, signal) {
  const response = await fetch(check(address), {
    credentials: "omit", referrerPolicy: "no-referrer", redirect: elsewhere ? "follow" : "error", signal,
  });
  if (!response.ok || !response.body) throw new Error(`the server answered ${response.status} ${response.statusText}`.trim());
  const length = Number(response.headers.get("content-length"));
  // With a content encoding the length is that of the packed bytes, so it says nothing here.
  const size = response.headers.has("content-encoding") || !(length > 0) ? undefined : length;
  return { size, stream: response.body };
}

// As "#offline" it does one thing: it registers the service worker, which the page's own policy forbids the page to do.
if (location.hash === "#offline") {
  navigator.serviceWorker.register(new URL("../sw.js", import.meta.url), { updateViaCache: "none" }).then(
    () => parent.postMessage({ understudy: "offline" }, location.origin),
    (error) => parent.postMessage({ understudy: "offline", error: String(error?.message ?? error) }, location.origin),
  );
}

addEventListener("message", async (event) => {
  if (location.hash === "#offline" || event.origin !== location.origin || event.source !== parent || typeof event.data?.url !== "string") return;
  const port = event.ports[0];
  const control = new AbortController();
  port.onmessage = () => control.abort();
  try {
    const { size, stream } = await get(event.data.url, control.signal);
    try {
      port.postMessage({ size, stream }, [stream]);
    } catch {
      // A browser without transferable streams: the bytes go piece by piece, each when it is asked for.
      const reader = stream.getReader();
      port.onmessage = async ({ data }) => {
        if (data === "abort") return void control.abort();
        try {
          const { done, value } = await reader.read();
          port.postMessage({ done, value }, value ? [value.buffer] : []);
        } catch (error) {
          port.postMessage({ error: String(error) });
        }
      };
      port.postMessage({ size, pieces: true });
    }
  } catch (error) {
    port.postMessage({ error: error instanceof Error ? error.message : String(error) });
  }
});

parent.postMessage({ understudy: "loader-ready" }, location.origin);
