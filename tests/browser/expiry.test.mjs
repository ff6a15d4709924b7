// A session ends in an open page: the person goes on where they were.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { house, launch, pageShot, signIn, until, watch } from './lib.mjs';

describe('expiry', () => {
  let home, browser, context, page, noted, origin;

  before(async () => {
    home = await house({ allow: ['gitlab:platform/**'], settings: { sessions: { idle: '3s', absolute: '1h' } }, of: { grace: { paths: ['/static/*'], for: '1h' } } });
    origin = home.vestibule.url;
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await home?.stop();
  });
  beforeEach(async () => { // a browser of its own: sessions that end three times a minute in one look like a loop
    context = await browser.newContext();
    noted = watch(context);
    page = await context.newPage();
  });
  afterEach(async () => {
    await context.close();
    assert.deepEqual(noted.problems, [], 'content security policy violations and script errors');
  });

  const ended = () => until('the session ends', async () => (await context.request.get(`${origin}/.vestibule/session`)).status() === 401);
  /** Clicks what opens a window, and signs in there if the provider asks. */
  const inWindow = async open => {
    const opened = context.waitForEvent('page');
    await open();
    const popup = await opened;
    const gone = popup.waitForEvent('close');
    await popup.locator('button[name=user][value="alice"]').click().catch(() => undefined); // it may close by itself
    await gone;
  };

  it('signs in in a window of its own, and the page hears of it twice', async () => {
    await page.goto(`${origin}/app`);
    await signIn(page, 'alice', origin);
    await ended();
    await page.evaluate(() => {
      window.heard = [];
      window.addEventListener('message', ({ origin, data }) => window.heard.push(['opener', origin === location.origin, data.type]));
      new BroadcastChannel('vestibule').onmessage = ({ data }) => window.heard.push(['channel', true, data.type]);
    });
    const status = () => page.evaluate(async () => (await fetch('/json')).status);
    assert.equal(await status(), 401);
    await inWindow(() => page.evaluate(() => { window.open('/.vestibule/sign-in?popup=1', 'sign-in', 'popup,width=520,height=720'); }));
    await until('it heard', () => page.evaluate(() => window.heard.length >= 2));
    const heard = await page.evaluate(() => window.heard);
    assert.deepEqual(heard.sort(), [['channel', true, 'vestibule:signed-in'], ['opener', true, 'vestibule:signed-in']]);
    assert.equal(await status(), 200, 'the page goes on without being loaded anew');
  });

  it('keeps the files of an open page, and nothing else', async () => {
    await page.goto(`${origin}/app`);
    await signIn(page, 'alice', origin);
    await ended();
    const ask = path => page.evaluate(async at => (await fetch(at)).status, path);
    assert.deepEqual([await ask('/static/chunk.js'), await ask('/api/x')], [200, 401]);
  });

  it('keeps a form that is sent after the end, and sends it after the sign-in', async () => {
    await page.goto(`${origin}/form`);
    await signIn(page, 'alice', origin);
    await page.locator('textarea').fill('an hour of typing');
    await ended();
    await page.getByRole('button', { name: 'Send' }).click();
    await page.getByRole('heading', { name: 'Sign in to send your form' }).waitFor();
    await pageShot(page, 'form-kept');
    page.on('dialog', dialog => dialog.accept());
    await inWindow(() => page.getByRole('link', { name: 'Sign in' }).click());
    await page.waitForFunction(() => document.body.innerText.startsWith('POST '));
    assert.equal(await page.locator('body').innerText(), 'POST text=an+hour+of+typing');
    assert.ok(!home.upstream.seen.includes('GET /echo'));
  });
});
