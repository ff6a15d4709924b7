// The ways that people take through a sign-in when things are not as they should be: many tabs, steps back, no cookies, a
// gateway that was set up anew, and more than one provider.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import {
  PROGRAM, Process, Provider, Vestibule, freePort, house, launch, launchWithoutCookies, ownCookies, pageShot, reachProvider,
  signIn, until, watch,
} from './lib.mjs';
import { startUpstream } from './upstream.mjs';

const ALLOW = ['gitlab:platform/**'];
const person = tab => tab.locator('button[name=user][value="alice"]');
const target = tab => tab.locator('#target');

/** Signs alice in if the provider asks, and waits until the tab is at `url`. */
async function arrive(tab, url) {
  await person(tab).or(target(tab)).first().waitFor();
  if (await person(tab).isVisible()) await person(tab).click();
  await tab.waitForURL(url);
}

describe('journeys', () => {
  let home, browser, context, page, noted, origin, api;

  before(async () => {
    home = await house({ allow: ALLOW, more: ({ upstream }) => [{ name: 'api', host: 'api.localhost', upstream, allow: ALLOW }] });
    origin = home.vestibule.url;
    api = origin.replace('localhost', 'api.localhost');
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await home?.stop();
  });
  beforeEach(async () => {
    context = await browser.newContext();
    noted = watch(context);
    page = await context.newPage();
  });
  afterEach(async () => {
    await context.close();
    assert.deepEqual(noted.problems, [], 'content security policy violations and script errors');
  });

  const signIns = async () => (await home.provider.admin('stats'))['/oauth/token'] ?? 0;

  it('lets tabs that wait at the provider through once one has signed in, whether they go on or load anew', async () => {
    await page.goto(`${origin}/first`);
    await reachProvider(page);
    const tabs = await Promise.all(Array.from({ length: 6 }, () => context.newPage()));
    for (const [n, tab] of tabs.entries()) {
      await tab.goto(`${n % 2 ? api : origin}/tab/${n}?n=${n}#f${n}`);
      await reachProvider(tab);
    }
    await signIn(page, 'alice', origin);
    for (const [n, tab] of tabs.entries()) {
      const url = `${n % 2 ? api : origin}/tab/${n}?n=${n}#f${n}`;
      if (n < 3) await tab.goto(url);
      await arrive(tab, url);
      assert.equal(await target(tab).textContent(), `/tab/${n}?n=${n}`);
    }
  });

  it('never signs in again by the back button, and has no dead end there', async () => {
    await page.goto(`${origin}/before`);
    await signIn(page, 'alice', origin);
    await page.goto(`${origin}/after`);
    const before = await signIns();
    const statuses = [];
    page.on('response', answer => {
      if (answer.url().startsWith(origin) && answer.request().isNavigationRequest()) statuses.push(answer.status());
    });
    for (let steps = 0; steps < 5; steps += 1) {
      await page.goBack();
      if (page.url() === 'about:blank') break;
      await target(page).or(person(page)).first().waitFor(); // a page, or the choice that the person left
    }
    assert.ok(statuses.every(status => status < 400), `${statuses}`);
    assert.equal(await signIns(), before, 'nobody is signed in by a step back');
    await page.goto(`${origin}/after`);
    assert.equal(await target(page).textContent(), '/after');
  });

  it('closes within a second of sign-out on one host what is open on another', async () => {
    await page.goto(`${api}/`);
    await arrive(page, `${api}/`);
    await page.evaluate(() => {
      window.over = {};
      const source = new EventSource('/events?n=600&ms=100');
      source.onerror = () => { source.close(); window.over.events ??= Date.now(); };
      const socket = new WebSocket(`ws://${location.host}/socket`);
      socket.onclose = () => { window.over.socket ??= Date.now(); };
      const open = [source, socket].map(one => new Promise(on => { one.onopen = on; }));
      return Promise.all(open).then(() => undefined);
    });
    const out = await context.newPage();
    await out.goto(`${origin}/.vestibule/sign-out`);
    const ended = out.waitForResponse(answer => answer.request().method() === 'POST').then(() => Date.now());
    await out.getByRole('button', { name: 'Sign out' }).click();
    const at = await ended;
    const closed = await until('both are closed', () => page.evaluate(() => window.over.events && window.over.socket && window.over));
    for (const [what, when] of Object.entries(closed)) assert.ok(when - at < 1000, `${what}: ${when - at} ms after sign-out`);
  });

  it('leaves nothing of a private window in another', async () => {
    await page.goto(`${origin}/mine`);
    await signIn(page, 'alice', origin);
    const other = await browser.newContext();
    try {
      assert.deepEqual(await ownCookies(other, origin), []);
      assert.equal((await other.request.get(`${origin}/json`)).status(), 401);
    } finally {
      await other.close();
    }
    assert.equal((await context.request.get(`${origin}/json`)).status(), 200, 'closing the one ends nothing in the other');
  });

  it('tells a browser that keeps no cookies of the site so, at once', async () => {
    const bare = await launchWithoutCookies(origin);
    try {
      const seen = watch(bare.context);
      const tab = await bare.context.newPage();
      const before = await signIns();
      await tab.goto(`${origin}/deep`);
      await reachProvider(tab);
      await person(tab).click();
      await tab.waitForURL('**/.vestibule/callback/**');
      const said = await tab.locator('body').innerText();
      assert.match(said, /came back without the cookie/);
      assert.match(said, /Start again/);
      assert.equal(await signIns(), before, 'no code is redeemed');
      await pageShot(tab, 'no-cookies');
      assert.deepEqual(seen.problems, []);
    } finally {
      await bare.close();
    }
  });

  it('leads on from a login page that was left open until the gateway had other keys', async () => {
    await page.goto(`${origin}/overnight`);
    await reachProvider(page);
    const { vestibule } = home;
    await vestibule.process.stop();
    for (const name of ['keys', 'state']) rmSync(join(vestibule.folder, name), { recursive: true });
    vestibule.process = new Process(PROGRAM, ['run', '-c', join(vestibule.folder, 'vestibule.yaml')]);
    await vestibule.ready();
    await person(page).click();
    await arrive(page, `${origin}/`);
    const old = noted.visited.find(url => url.includes('/.vestibule/callback/'));
    assert.equal((await page.goto(old)).status(), 200, 'the old callback leads on, now that somebody is signed in');
    assert.equal(await target(page).textContent(), '/');
  });
});

describe('two providers', () => {
  let providers, upstream, vestibule, browser, context, page, noted;

  before(async () => {
    const port = await freePort();
    const names = ['gitlab', 'partner'];
    providers = await Promise.all(names.map(name => Provider.start({ REDIRECT_URIS: `http://localhost/.vestibule/callback/${name}` })));
    upstream = await startUpstream();
    const of = (name, n) => ({ name, kind: 'gitlab', issuer: providers[n].issuer, client_id: 'vestibule', client_secret: { file: 'secret' } });
    const route = { name: 'app', upstream: upstream.url, allow: ['gitlab:platform/**', 'partner:platform/**'], header_provider: 'gitlab' };
    vestibule = await Vestibule.start({ provider: providers[0], port, route, settings: { providers: names.map(of) } });
    await until('the other provider is discovered', async () => (await vestibule.ask('/.vestibule/sign-in/partner')).statusCode < 500);
    browser = await launch();
    context = await browser.newContext();
    noted = watch(context);
    page = await context.newPage();
  });
  after(async () => {
    await browser?.close();
    await vestibule?.stop();
    upstream?.stop();
    for (const provider of providers ?? []) await provider.stop();
    assert.deepEqual(noted.problems, [], 'content security policy violations and script errors');
  });

  it('asks which, keeps the deep link, and goes to the one that was chosen', async () => {
    const deep = `${vestibule.url}/a/b?x=%2F#tab`;
    await page.goto(deep);
    const choice = page.locator('ul.providers a');
    await choice.first().waitFor();
    assert.equal(await choice.count(), 2);
    await pageShot(page, 'chooser');
    await page.locator('a[href*="/sign-in/partner"]').click();
    await person(page).click();
    await page.waitForURL(deep);
    const session = await (await context.request.get(`${vestibule.url}/.vestibule/session`)).json();
    assert.deepEqual([session.login, session.provider], ['alice', 'partner']);
  });
});
