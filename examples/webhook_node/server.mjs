// Receive signed webhooks in Node.js, with the public Standard Webhooks library.
//
//     npm ci && WEBHOOK_SECRET=whsec_… PORT=3000 node server.mjs
//
// The secret is the one in `[sinks.<name>] secrets`. While it is being changed, give both, separated by a comma.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const secrets = process.env.WEBHOOK_SECRET.split(",").map((secret) => new Webhook(secret));
const largestBody = 256 * 1024;
// Keep the ids in your database instead: a process forgets them when it ends.
const seen = new Set();

const server = createServer(async (request, response) => {
  if (request.method !== "POST" || request.url !== "/verisink") {
    return response.writeHead(404).end();
  }
  const body = await readBody(request);
  if (body === null) {
    return response.writeHead(413).end();
  }
  if (!secrets.some((secret) => isGenuine(secret, body, request.headers))) {
    return response.writeHead(400).end("the signature does not match");
  }
  const event = JSON.parse(body);
  // The same event may come twice, and then has the same id.
  if (!seen.has(event.id)) {
    handle(event);
    seen.add(event.id);
  }
  response.writeHead(204).end();
});

async function readBody(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > largestBody) return null;
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function isGenuine(secret, body, headers) {
  try {
    // Of the bytes as they came. It also refuses what is older than five minutes.
    secret.verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

function handle(event) {
  console.log(JSON.stringify({ event: event.id, type: event.type, ...event.data }));
}

server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.error(`listening on ${server.address().port}`);
});
process.on("SIGTERM", () => server.close(() => process.exit(0)));
