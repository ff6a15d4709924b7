// The upstream of the browser and soak tests: says what it was asked, streams, swallows, and echoes on WebSockets.
//
//   node upstream.mjs          listens on a free port of 127.0.0.1 and prints {"url": ...} as its first line
//
//   /json                      the request as JSON: method, target, headers
//   /bytes?n=N                 N bytes, as fast as they are taken
//   /form                      a page with a form, which is sent to /echo
//   /echo                      the body of a POST, as text
//   /sink                      reads the body and says how many bytes it had
//   /events?n=N&ms=MS          N server-sent events, one every MS milliseconds
//   (upgrade) any path         a WebSocket that echoes text, and closes when asked to
//   anything else              a page that shows the request's target and identity headers
import http from 'node:http';
import { createHash } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const CHUNK = Buffer.alloc(256 * 1024, 'v');

/** Starts an upstream and returns its address, what it has seen, and how to stop it. */
export async function startUpstream() {
  const seen = []; // targets, in the order of arrival
  const server = http.createServer((request, response) => {
    seen.push(request.url);
    answer(request, response).catch(() => response.destroy());
  });
  server.keepAliveTimeout = 60_000;
  server.on('upgrade', (request, socket) => {
    seen.push(request.url);
    echo(request, socket);
  });
  await new Promise(ready => server.listen(0, '127.0.0.1', ready));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    seen,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://upstream.invalid');
  const number = (name, otherwise) => Number(url.searchParams.get(name) ?? otherwise);
  switch (url.pathname) {
    case '/json': return json(response, { method: request.method, target: request.url, headers: request.headers });
    case '/bytes': return pour(response, number('n', 1024));
    case '/form': return html(response, '<form method="post" action="/echo"><textarea name="text"></textarea><button>Send</button></form>');
    case '/echo': return repeat(response, request);
    case '/sink': return json(response, { received: await drink(request) });
    case '/events': return tick(response, number('n', 5), number('ms', 200));
    default: return page(request, response);
  }
}

function json(response, body) {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

function html(response, body) {
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  response.end(`<!doctype html><title>Upstream</title>${body}`);
}

async function repeat(response, request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.end(`${request.method} ${body}`);
}

async function pour(response, length) {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': length });
  for (let left = length; left > 0 && !response.destroyed; left -= CHUNK.length) {
    const chunk = left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
    if (!response.write(chunk)) await new Promise(on => response.once('drain', on).once('close', on));
  }
  response.end();
}

async function drink(request) {
  let received = 0;
  for await (const chunk of request) received += chunk.length;
  return received;
}

async function tick(response, count, pause) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  for (let i = 0; i < count && !response.destroyed; i += 1) {
    response.write(`id: ${i}\ndata: ${i}\n\n`);
    await new Promise(on => setTimeout(on, pause));
  }
  response.end();
}

const escape = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);

function page(request, response) {
  const identity = Object.entries(request.headers).filter(([name]) => name.startsWith('x-forwarded-'));
  const rows = identity.map(([name, value]) => `<tr><th>${escape(name)}<td data-header="${escape(name)}">${escape(value)}`);
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  response.end(`<!doctype html><html lang=en><title>Upstream</title><link rel=icon href=data:,>
<h1>Upstream</h1><pre id=target>${escape(request.url)}</pre><table>${rows.join('')}</table>`);
}

const ACCEPT = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'; // RFC 6455, section 1.3

/** Answers a WebSocket handshake, then echoes text frames below 64 KiB. */
function echo(request, socket) {
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + ACCEPT).digest('base64');
  socket.setNoDelay(true);
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let held = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', data => {
    held = Buffer.concat([held, data]);
    for (let frame = take(held); frame; frame = take(held)) {
      held = frame.rest;
      if (frame.opcode === 8) return socket.end(Buffer.from([0x88, 0]));
      if (frame.opcode === 1) socket.write(text(frame.payload));
    }
  });
}

/** The first whole masked frame of `data`, if it is there. */
function take(data) {
  if (data.length < 2) return undefined;
  const short = data[1] & 0x7f;
  const start = short === 126 ? 4 : 2;
  if (data.length < start) return undefined;
  const length = short === 126 ? data.readUInt16BE(2) : short;
  const end = start + 4 + length;
  if (data.length < end) return undefined;
  const mask = data.subarray(start, start + 4);
  const payload = Buffer.from(data.subarray(start + 4, end)).map((byte, i) => byte ^ mask[i % 4]);
  return { opcode: data[0] & 0x0f, payload, rest: data.subarray(end) };
}

function text(payload) {
  const head = payload.length < 126 ? Buffer.from([0x81, payload.length])
    : Buffer.from([0x81, 126, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([head, payload]);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const upstream = await startUpstream();
  console.log(JSON.stringify({ url: upstream.url }));
  process.stdin.on('end', () => process.exit(0)).resume(); // ends with whoever started it
}
