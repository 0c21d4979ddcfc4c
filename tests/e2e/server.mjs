// A static server for the tests: serves a folder with the headers that `cargo xtask serve` sends, and keeps a list
// of every request and every connection, so that tests can count them.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
  ".json": "application/json", ".webmanifest": "application/manifest+json", ".wasm": "application/wasm", ".ts": "text/plain; charset=utf-8", ".gguf": "application/octet-stream",
};

/** @param {string | null} root The folder to serve, or null for a server that answers everything and anyone. */
export async function serve(root) {
  /** @type {{ method: string, url: string, cookie: string }[]} */
  const requests = [];
  const sockets = new Set();
  const seen = { requests, connections: 0 };
  const server = createServer(async (request, response) => {
    requests.push({ method: request.method, url: request.url, cookie: request.headers.cookie ?? "" });
    if (root === null) {
      response.writeHead(200, { "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin", "Content-Type": "text/javascript" });
      return response.end("/* foreign */");
    }
    const headers = {
      "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
      "Cross-Origin-Resource-Policy": "same-origin", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
      "Cache-Control": "no-store",
    };
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const file = join(root, normalize(path === "/" ? "/index.html" : path));
    try {
      const { size } = await stat(file).then((found) => (found.isFile() ? found : Promise.reject(new Error("no file"))));
      response.writeHead(200, { ...headers, "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Content-Length": size });
      if (request.method === "HEAD") response.end();
      else createReadStream(file).pipe(response);
    } catch {
      response.writeHead(404, { ...headers, "Content-Type": "text/plain" });
      response.end("not found");
    }
  });
  server.on("connection", (socket) => {
    seen.connections++;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    ...seen,
    get connections() {
      return seen.connections;
    },
    origin: `http://127.0.0.1:${server.address().port}`,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
