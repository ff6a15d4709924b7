// Signing in, as people do it: deep links, many tabs, the back button, several hosts, and pages that explain what went wrong.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { house, launch, ownCookies, pageShot, reachProvider, signIn, until, watch } from './lib.mjs';

describe('hosts', () => {
  let home, browser, context, page, noted, origin, api;

  before(async () => {
    const allow = ['gitlab:platform/**'];
    home = await house({
      allow,
      more: ({ upstream }) => [{ name: 'api', host: 'api.localhost', upstream, allow }],
      settings: { contact: { name: 'Platform team', url: 'mailto:platform@example.com' } },
    });
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

  it('keeps query and fragment of a deep link, on every host, with one prompt', async () => {
    await page.goto(`${api}/a/b?x=1&y=%2F#tab`);
    await reachProvider(page);
    await page.locator('button[name=user][value="alice"]').click();
    await page.waitForURL(`${api}/a/b?x=1&y=%2F#tab`);
    await page.goto(`${origin}/other?z=%20#part/2`);
    assert.equal(page.url(), `${origin}/other?z=%20#part/2`, 'signed in there since');
    const names = [(await ownCookies(context, origin)), (await ownCookies(context, api))].map(all => all.map(one => one.value));
    assert.ok(names[0].every(value => !names[1].includes(value)), 'each host has a handle of its own');
    const bytes = names.flat().reduce((sum, value) => sum + value.length, 0);
    assert.ok(bytes < 600, `${bytes} bytes of cookies for two hosts`);
  });

  it('lets twenty tabs through, each to its own page, after one sign-in', async () => {
    const tabs = await Promise.all(Array.from({ length: 20 }, () => context.newPage()));
    await Promise.all(tabs.map((tab, n) => tab.goto(`${n % 2 ? api : origin}/tab/${n}#n${n}`)));
    await Promise.all(tabs.map(tab => tab.locator('button[name=user]').first().waitFor()));
    await tabs[7].locator('button[name=user][value="alice"]').click();
    await tabs[7].waitForURL(`${api}/tab/7#n7`);
    for (const [n, tab] of tabs.entries()) {
      if (n === 7) continue;
      await tab.locator('button[name=user][value="alice"]').click();
      await tab.waitForURL(`${n % 2 ? api : origin}/tab/${n}#n${n}`);
    }
    const binding = (await ownCookies(context, origin)).filter(cookie => cookie.name.endsWith('-binding'));
    assert.equal(binding.length, 1, 'one cookie for all sign-ins');
  });

  it('leads on where the back button or a bookmark comes to an old callback', async () => {
    await page.goto(`${origin}/start`);
    await signIn(page, 'alice', origin);
    const callback = noted.visited.find(url => url.includes('/.vestibule/callback/'));
    await page.goBack().catch(() => undefined);
    await page.goto(`${origin}/after`);
    assert.equal(page.url(), `${origin}/after`);
    await page.goto(callback);
    assert.equal(page.url(), `${origin}/start`, 'signed in by now: it leads on');
    const other = await browser.newContext();
    const stranger = await other.newPage();
    await stranger.goto(callback);
    assert.match(await stranger.locator('h1').innerText(), /This sign-in is over/);
    await pageShot(stranger, 'sign-in-over');
    await stranger.getByRole('link', { name: 'Start again' }).click();
    await signIn(stranger, 'alice', origin);
    assert.equal(stranger.url(), `${origin}/start`);
    await other.close();
  });

  it('signs out of all hosts, and closes what is open on them', async () => {
    await page.goto(`${api}/`);
    await signIn(page, 'alice', api);
    await page.evaluate(() => {
      window.over = [];
      const source = new EventSource('/events?n=1000&ms=100');
      source.onerror = () => { source.close(); window.over.push('events'); };
      const socket = new WebSocket(`ws://${location.host}/socket`);
      socket.onclose = () => window.over.push('socket');
      return new Promise(on => { socket.onopen = on; });
    });
    const out = await context.newPage();
    await out.goto(`${origin}/.vestibule/sign-out`);
    await pageShot(out, 'sign-out');
    await out.getByRole('button', { name: 'Sign out' }).click();
    await out.getByRole('heading', { name: 'You are signed out' }).waitFor();
    await pageShot(out, 'signed-out');
    await until('both are closed', () => page.evaluate(() => window.over.length === 2), 3000);
    assert.equal(await page.evaluate(async () => (await fetch('/json')).status), 401);
    assert.equal((await context.request.get(`${origin}/json`)).status(), 401);
  });

  it('keeps private windows apart', async () => {
    await page.goto(`${origin}/`);
    await signIn(page, 'alice', origin);
    const other = await browser.newContext();
    const stranger = await other.newPage();
    await stranger.goto(`${origin}/private`);
    await reachProvider(stranger);
    await stranger.locator('button[name=user][value="bob"]').click();
    await stranger.waitForURL(`${origin}/private`);
    const who = async of => (await of.request.get(`${origin}/.vestibule/session`)).json();
    assert.deepEqual([(await who(context)).login, (await who(other)).login], ['alice', 'bob']);
    await other.close();
  });

  it('says why a person may not go there, and lets them switch', async () => {
    await page.goto(`${origin}/secret`);
    await signIn(page, 'mallory', origin);
    const body = await page.locator('body').innerText();
    for (const said of ['You may not go here', 'mallory', 'GitLab', 'Check again', 'Switch account', 'Platform team']) assert.ok(body.includes(said), `${said} in ${body}`);
    await pageShot(page, 'refused');
    await page.getByRole('link', { name: 'Check again' }).click();
    await page.waitForLoadState();
    assert.match(await page.locator('h1').innerText(), /You may not go here/);
    await page.getByRole('link', { name: 'Switch account' }).click();
    await signIn(page, 'alice', origin);
    assert.equal(page.url(), `${origin}/secret`);
  });

  it('stops a loop after three rounds, and names the cause', async () => {
    const session = home.vestibule.cookie;
    for (let round = 0; round < 3; round += 1) {
      await page.goto(`${origin}/loop`);
      if (round === 0) await signIn(page, 'alice', origin);
      else {
        await page.locator('button[name=user][value="alice"]').or(page.locator('text=/loop')).first().waitFor();
        const again = page.locator('button[name=user][value="alice"]');
        if (await again.isVisible()) await again.click();
      }
      await page.waitForURL(`${origin}/loop`);
      await context.clearCookies({ name: session });
    }
    await page.goto(`${origin}/loop`);
    await page.waitForURL('**/.vestibule/sign-in**');
    assert.match(await page.locator('h1').innerText(), /goes round in circles/);
    assert.match(await page.locator('body').innerText(), /came back without the cookie/);
    await pageShot(page, 'loop');
    await page.getByRole('link', { name: 'Start again' }).click();
    await until('signed in', async () => {
      const again = page.locator('button[name=user][value="alice"]');
      if (await again.isVisible().catch(() => false)) await again.click().catch(() => undefined);
      return page.url() === `${origin}/loop`;
    });
  });

  it('shows what a provider says as something to act on', async () => {
    await page.goto(`${origin}/deep`);
    await reachProvider(page);
    const begun = noted.visited.find(url => url.includes('/oauth/authorize'));
    const state = new URL(begun).searchParams.get('state');
    await page.goto(`${origin}/.vestibule/callback/gitlab?error=access_denied&error_description=${encodeURIComponent('<b>No</b> seat')}&state=${encodeURIComponent(state)}`);
    const body = await page.locator('body').innerText();
    assert.match(body, /you cancelled, or your account there is not assigned/);
    assert.match(body, /GitLab says:\s*access_denied: <b>No<\/b> seat/);
    await pageShot(page, 'provider-error');
  });
});
