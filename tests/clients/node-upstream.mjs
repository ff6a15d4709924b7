// An upstream of Node's own servers, HTTP/1.1 and HTTP/2 in clear text; says both ports, and ends with its standard input.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createServer2 } from 'node:http2';

const big = Buffer.alloc(5 * 1024 * 1024, 'the quick brown fox ');

function answer(request, response) {
  const { pathname } = new URL(request.url, 'http://here');
  if (pathname === '/echo') {
    const sum = createHash('sha256');
    let length = 0;
    request.on('data', piece => { sum.update(piece); length += piece.length; });
    request.on('end', () => {
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ method: request.method, target: request.url, length, sha256: sum.digest('hex') }));
    });
    return;
  }
  request.resume();
  response.setHeader('X-Kept', 'a; b="c"');
  response.setHeader('ETag', '"7"');
  if (pathname === '/big') {
    response.setHeader('Content-Length', big.length);
    response.end(request.method === 'HEAD' ? undefined : big);
  } else if (pathname === '/none') {
    response.writeHead(204).end();
  } else if (pathname === '/same') {
    response.writeHead(304).end();
  } else if (pathname === '/missing') {
    response.writeHead(404, { 'Content-Type': 'text/plain' }).end('not here\n');
  } else if (pathname === '/cookies') {
    response.writeHead(200, { 'Set-Cookie': ['a=1; Path=/', 'b=2; HttpOnly'] }).end('two\n');
  } else if (pathname === '/pieces') {
    response.setHeader('Content-Type', 'text/plain');
    let left = 20;
    const more = () => { if (left-- > 0) { response.write(`piece ${left}\n`); setImmediate(more); } else response.end(); };
    more();
  } else {
    response.end('small\n');
  }
}

const listening = server => new Promise(on => server.listen(0, '127.0.0.1', () => on(server.address().port)));
console.log(JSON.stringify({ one: await listening(createServer(answer)), two: await listening(createServer2(answer)) }));
process.stdin.resume().on('end', () => process.exit(0));
