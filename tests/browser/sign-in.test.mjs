// People sign in with a browser at a GitLab-shaped provider: where they land, what their browser keeps, how it ends.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { house, launch, ownCookies, reachProvider, shot, signIn, sleep, until, watch } from './lib.mjs';

const POLICY = `
@id("app-for-platform")
@reason("The application is open to the platform group.")
@remedy("Ask an owner of platform for an invitation.")
permit (principal is User in Group::"gitlab:platform", action, resource == Route::"app");
`;
const DEEP = '/reports/2026/q3%20final?team=a%2Fb&sort=-date&empty=&tick=%E2%9C%93&plus=a+b#section-2/%C3%BC?x=1&y=';

describe('sign-in', () => {
  let home, browser, context, page, noted;
  const origin = () => home.vestibule.url;
  const target = tab => tab.locator('#target').textContent();

  before(async () => {
    home = await house({ policies: POLICY });
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

  it('restores a deep link with its query and fragment, byte for byte', async () => {
    await page.goto(origin() + DEEP);
    await reachProvider(page);
    await signIn(page, 'alice', origin());
    await until('the fragment is back', () => page.url() === origin() + DEEP)
      .catch(() => assert.equal(page.url(), origin() + DEEP));
    assert.equal(await target(page), DEEP.split('#')[0], 'what the upstream was asked');
    assert.equal(await page.locator('[data-header=x-forwarded-preferred-username]').textContent(), 'alice');
    await shot(page, 'sign-in-deep-link');
  });

  it('sends twenty tabs, signed in in any order, each to its own page', async () => {
    const tabs = await Promise.all(Array.from({ length: 20 }, () => context.newPage()));
    const asked = tabs.map((_, i) => `/tab/${i}?n=${i}`);
    for (const [i, tab] of tabs.entries()) {
      await tab.goto(`${origin()}${asked[i]}#f${i}`);
      await reachProvider(tab);
    }
    const before = await ownCookies(context, origin());
    assert.equal(before.length, 1, 'one binding cookie, however many tabs');
    assert.ok(before[0].name.length + before[0].value.length < 300, 'a binding cookie of fixed size');
    const order = tabs.map((_, i) => (i * 7 + 3) % tabs.length); // 7 and 20 have no common divisor: every tab once
    for (const i of order) {
      await signIn(tabs[i], 'alice', origin());
      await until(`tab ${i} is where it wanted to be`, () => tabs[i].url() === `${origin()}${asked[i]}#f${i}`)
        .catch(() => assert.equal(tabs[i].url(), `${origin()}${asked[i]}#f${i}`));
      assert.equal(await target(tabs[i]), asked[i]);
    }
  });

  it('keeps cookies that are small, for us alone, and out of reach of scripts', async () => {
    await page.goto(`${origin()}/json`);
    await reachProvider(page);
    for (const cookie of await ownCookies(context, origin())) {
      assert.ok(cookie.name.length + cookie.value.length < 300, `${cookie.name} is small before sign-in`);
    }
    await signIn(page, 'alice', origin());
    const kept = await ownCookies(context, origin());
    const session = kept.find(cookie => cookie.name === home.vestibule.cookie);
    assert.ok(session, `a cookie named ${home.vestibule.cookie}`);
    for (const cookie of kept) {
      assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, 'Lax', '/'], cookie.name);
      assert.ok(cookie.name.length + cookie.value.length < 256, `${cookie.name} is an opaque handle`);
    }
    const { headers } = JSON.parse(await page.locator('body').innerText());
    assert.ok(!/vestibule/.test(headers.cookie ?? ''), 'our cookies never go upstream');
  });

  it('leads on when the browser goes back after sign-in', async () => {
    await page.goto(`${origin()}/start`);
    await signIn(page, 'alice', origin());
    const answers = [];
    page.on('response', response => {
      const ours = response.url().startsWith(origin()) && response.request().isNavigationRequest();
      if (ours) answers.push(response.status());
    });
    for (let steps = 0; steps < 4; steps += 1) {
      const back = await page.goBack({ waitUntil: 'load', timeout: 5000 }).catch(() => null);
      if (page.url() === 'about:blank' || back === null) break;
      await sleep(300); // a page of ours may go on by itself
    }
    assert.ok(answers.every(status => status < 400), `no error page on the way back: ${answers}`);
    await page.goto(`${origin()}/start`);
    assert.equal(await target(page), '/start', 'still signed in');
  });

  it('leads on from a callback that was already used', async () => {
    await page.goto(`${origin()}/once`);
    await signIn(page, 'alice', origin());
    const callback = noted.visited.find(url => url.includes('/.vestibule/callback/'));
    assert.ok(callback, 'the browser came by the callback');
    const again = await page.goto(callback);
    assert.equal(again.status(), 200, 'with a live session it goes to the page that was asked for');
    assert.equal(await target(page), '/once');

    const stranger = await browser.newContext();
    try {
      const theirs = await stranger.newPage();
      await theirs.goto(callback);
      await theirs.getByRole('link', { name: 'Start again' }).waitFor();
      assert.equal((await ownCookies(stranger, origin())).some(({ name }) => name === home.vestibule.cookie), false,
        'a callback of another browser makes no session');
      await shot(theirs, 'sign-in-stale-callback');
    } finally {
      await stranger.close();
    }
  });

  it('refuses a person outside the group, and says why and what to do', async () => {
    await page.goto(`${origin()}/`);
    await signIn(page, 'carol', origin());
    const body = await page.locator('body').innerText();
    assert.match(body, /The application is open to the platform group\./);
    assert.match(body, /Ask an owner of platform for an invitation\./);
    assert.match(body, /carol/i, 'it says who you are');
    assert.equal((await page.reload()).status(), 403);
    await shot(page, 'sign-in-refused');
  });

  it('shows a hostile display name as text', async () => {
    await page.goto(`${origin()}/`);
    await signIn(page, 'mallory', origin());
    assert.equal(await page.locator('script:not([src]):not([nonce])').count(), 0, 'no inline script slipped in');
    await shot(page, 'sign-in-hostile-name');
  });

  it('ends the session at sign-out: fetches get 401, pages ask to sign in', async () => {
    await page.goto(`${origin()}/work`);
    await signIn(page, 'alice', origin());
    const old = (await ownCookies(context, origin())).find(({ name }) => name === home.vestibule.cookie);
    const other = await context.newPage();
    await other.goto(`${origin()}/.vestibule/sign-out`);
    await shot(other, 'sign-out-form');
    assert.equal((await page.reload()).status(), 200, 'looking at the form ends nothing');
    await other.locator('form button, form input[type=submit]').first().click();
    await other.waitForLoadState();
    await shot(other, 'signed-out');

    const call = await page.evaluate(async () => {
      const answer = await fetch('/json');
      return { status: answer.status, redirected: answer.redirected };
    });
    assert.deepEqual(call, { status: 401, redirected: false });
    await home.provider.admin('revoke', { user: 'alice' });
    await page.reload();
    await reachProvider(page);

    const replay = await fetch(`${origin()}/json`, { headers: { cookie: `${old.name}=${old.value}` }, redirect: 'manual' });
    assert.equal(replay.status, 401, 'the old handle is dead');
  });
});
