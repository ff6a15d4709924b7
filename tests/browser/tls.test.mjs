// A browser over TLS and HTTP/2: everything a page does on one connection, and WebSockets beside it.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { house, launch, ownCookies, shot, signIn, until, watch } from './lib.mjs';

describe('over TLS', () => {
  let home, browser, context, page, noted;

  before(async () => {
    home = await house({ allow: ['gitlab:platform/**'], tls: true });
    browser = await launch();
    context = await browser.newContext({ ignoreHTTPSErrors: true });
    noted = watch(context);
    page = await context.newPage();
    await page.goto(`${home.vestibule.url}/start?a=b#c`);
    await signIn(page, 'alice', home.vestibule.url);
  });
  after(async () => {
    await browser?.close();
    await home?.stop();
    assert.deepEqual(noted.problems, [], 'content security policy violations and script errors');
  });

  it('keeps the session in a cookie that only https and this host get', async () => {
    const session = (await ownCookies(context, home.vestibule.url)).find(cookie => cookie.name === '__Host-vestibule');
    assert.deepEqual([session?.secure, session?.httpOnly, session?.sameSite, session?.path], [true, true, 'Lax', '/']);
    assert.equal(page.url(), `${home.vestibule.url}/start?a=b#c`);
    await shot(page, 'tls-signed-in');
  });

  it('carries a hundred calls at once over one HTTP/2 connection', async () => {
    const told = await page.evaluate(async () => {
      const calls = Array.from({ length: 100 }, (_, n) => fetch(`/json?n=${n}`).then(answer => answer.json()));
      const targets = (await Promise.all(calls)).map(answer => answer.target);
      const protocols = new Set(performance.getEntriesByType('resource').map(entry => entry.nextHopProtocol));
      return { targets, protocols: [...protocols] };
    });
    assert.deepEqual(told.targets, Array.from({ length: 100 }, (_, n) => `/json?n=${n}`));
    assert.ok(told.protocols.includes('h2'), `${told.protocols}`);
  });

  it('sends and fetches tens of megabytes, whole', async () => {
    const size = 32 * 1024 * 1024;
    const told = await page.evaluate(async size => {
      const sent = await fetch('/sink', { method: 'POST', body: new Uint8Array(size) }).then(answer => answer.json());
      const got = await fetch(`/bytes?n=${size}`).then(answer => answer.arrayBuffer());
      return { sent: sent.received, got: got.byteLength };
    }, size);
    assert.deepEqual(told, { sent: size, got: size });
  });

  it('passes events one by one, and WebSockets both ways', async () => {
    const events = await page.evaluate(() => new Promise((done, fail) => {
      const source = new EventSource('/events?n=5&ms=100');
      const times = [];
      source.onmessage = () => {
        times.push(performance.now());
        if (times.length === 5) { source.close(); done(times); }
      };
      source.onerror = () => fail(new Error('the stream broke off'));
    }));
    const gaps = events.slice(1).map((time, n) => time - events[n]);
    assert.ok(gaps.every(gap => gap > 20), `in clumps: ${gaps}`);
    const echoed = await page.evaluate(() => new Promise((done, fail) => {
      const socket = new WebSocket(`wss://${location.host}/echo`);
      socket.onopen = () => socket.send('hello');
      socket.onmessage = message => { socket.close(); done(message.data); };
      socket.onerror = () => fail(new Error('no WebSocket'));
    }));
    assert.equal(echoed, 'hello');
  });

  it('tells browsers to come by https only', async () => {
    const answer = await home.vestibule.ask('/.vestibule/session');
    assert.equal(answer.headers['strict-transport-security'], 'max-age=63072000');
    await until('the upstream heard of https', async () => {
      const told = await page.evaluate(() => fetch('/json').then(answer => answer.json()));
      return told.headers['x-forwarded-proto'] === 'https';
    });
  });
});
