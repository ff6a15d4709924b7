// A page that another site shows in a frame, in a browser that blocks third-party cookies.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { accessible, freePort, house, launch, selfSigned, shot, watch } from './lib.mjs';

describe('in a frame', () => {
  let home, browser, context, noted, intranet, stranger, folder, servers = [];

  /** A site of its own that shows `url` in a frame. */
  const site = async (host, port, url) => {
    const { certificate, key } = selfSigned(folder, host);
    const server = https.createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end(`<!doctype html><title>${host}</title><h1>${host}</h1><iframe id="shown" src="${url()}" width="700" height="500"></iframe>`);
    });
    await new Promise(on => server.listen(port, '127.0.0.1', on));
    servers.push(server);
    return `https://${host}:${port}`;
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vestibule-sites-'));
    const ports = [await freePort(), await freePort()];
    home = await house({ allow: ['gitlab:platform/**'], tls: true, of: { frame: { ancestors: [`https://intranet.test:${ports[0]}`] } } });
    intranet = await site('intranet.test', ports[0], () => `${home.vestibule.url}/framed?a=b#part`);
    stranger = await site('stranger.test', ports[1], () => `${home.vestibule.url}/framed`);
    browser = await launch('--host-resolver-rules=MAP *.test 127.0.0.1, MAP portal.localhost 127.0.0.1', '--test-third-party-cookie-phaseout');
    context = await browser.newContext({ ignoreHTTPSErrors: true });
    noted = watch(context);
  });
  after(async () => {
    await browser?.close();
    await home?.stop();
    for (const server of servers) { server.closeAllConnections(); server.close(); }
    rmSync(folder, { recursive: true, force: true });
  });

  it('signs in through a window, and the frame has a session of its own', async () => {
    const page = await context.newPage();
    await page.goto(intranet);
    const frame = page.frameLocator('#shown');
    const button = frame.getByRole('link', { name: 'Sign in' });
    await button.waitFor();
    const small = page.frames().find(one => one.parentFrame());
    for (const colorScheme of ['dark', 'light']) {
      await page.emulateMedia({ colorScheme });
      assert.deepEqual(await accessible(small), [], colorScheme);
      await shot(page, `frame-sign-in-${colorScheme}`);
    }
    const opened = context.waitForEvent('page');
    await button.click();
    const popup = await opened;
    const gone = popup.waitForEvent('close');
    await popup.locator('button[name=user][value="alice"]').click();
    await gone;
    await frame.getByText('/framed?a=b').first().waitFor();
    await shot(page, 'frame-signed-in');
    const shown = page.frames().find(one => one.url().includes('/framed'));
    assert.equal(new URL(shown.url()).hash, '#part');
    assert.equal(await shown.evaluate(async () => (await fetch('/json')).status), 200, 'the frame acts as the person');
    await page.reload();
    await frame.getByText('/framed?a=b').first().waitFor();
    const cookies = (await context.cookies()).filter(cookie => cookie.name === '__Host-vestibule');
    assert.ok(cookies.length >= 2 && new Set(cookies.map(cookie => cookie.value)).size === cookies.length, 'a handle each');
    assert.equal(cookies.filter(cookie => cookie.partitionKey === 'https://intranet.test').length, 1, "the frame's own, for that site");
    assert.ok(cookies.every(cookie => cookie.sameSite === 'None' && cookie.secure && cookie.httpOnly));
    assert.deepEqual(noted.problems, []);
  });

  it('shows nothing to a site that is not listed', async () => {
    const page = await context.newPage();
    await page.goto(stranger);
    await page.waitForLoadState('networkidle');
    const shown = page.frames().find(one => one !== page.mainFrame());
    const text = await shown.evaluate(() => document.body?.innerText ?? '').catch(() => '');
    assert.ok(!/framed|Sign in/.test(text), text);
    await shot(page, 'frame-refused');
    noted.problems.length = 0; // the browser says that it refused to show it
  });
});
