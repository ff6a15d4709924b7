// People see where they are signed in, and end that: with the keyboard, without scripts, on a small screen and by night.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Provider, Vestibule, freePort, launch, pageShot, signIn, watch } from './lib.mjs';
import { startUpstream } from './upstream.mjs';

describe('one\'s own sessions', () => {
  let provider, upstream, vestibule, browser;
  const on = () => `http://localhost:${vestibule.port}`;

  before(async () => {
    const port = await freePort();
    provider = await Provider.start({ PROFILE: 'full' });
    upstream = await startUpstream();
    const client = { client_id: 'vestibule', client_secret: { file: 'secret' } };
    vestibule = await Vestibule.start({
      provider, port, settings: {
        providers: [{ name: 'gitlab', kind: 'oidc', title: 'The provider', issuer: provider.issuer, ...client }],
        routes: [{ name: 'app', host: 'localhost', upstream: upstream.url, allow: ['signed-in'] }],
      },
    });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await vestibule?.stop();
    upstream?.stop();
    await provider?.stop();
  });

  /** A browser of its own that is signed in. */
  const signedIn = async (options = {}) => {
    const context = await browser.newContext(options);
    const noted = watch(context);
    const page = await context.newPage();
    await page.goto(`${on()}/work`);
    await signIn(page, 'alice', on());
    return { context, page, noted };
  };
  const isOut = async ({ page }) => (await page.request.get(`${on()}/.vestibule/session`)).status() === 401;

  it('are shown, and ended one by one and all at once', async () => {
    const phone = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Safari/604.1';
    const here = await signedIn();
    const [other, third] = [await signedIn({ userAgent: phone }), await signedIn()];
    await here.page.goto(`${on()}/.vestibule/sign-out`);
    await here.page.getByRole('link', { name: 'See all your sessions' }).click();
    await here.page.getByRole('heading', { name: 'Where you are signed in' }).waitFor();
    assert.equal(await here.page.getByRole('listitem').count(), 3);
    assert.equal(await here.page.getByText('this session').count(), 1);
    await pageShot(here.page, 'sessions');
    await here.page.getByRole('button', { name: /^Sign out Safari on iPhone, last seen / }).focus();
    await here.page.keyboard.press('Enter');
    await here.page.getByText('Safari on iPhone').waitFor({ state: 'detached' });
    assert.ok(await isOut(other), 'the phone is signed out');
    assert.ok(!(await isOut(third)), 'and nothing else');
    await here.page.getByRole('button', { name: 'Sign out everywhere else' }).click();
    await here.page.getByRole('button', { name: 'Sign out everywhere else' }).waitFor({ state: 'detached' });
    assert.ok(await isOut(third));
    assert.ok(!(await isOut(here)), 'this one stays');
    await pageShot(here.page, 'sessions-alone');
    for (const one of [here, other, third]) {
      assert.deepEqual(one.noted.problems, [], 'content security policy violations and script errors');
      await one.context.close();
    }
  });

  it('can be ended without scripts, and by no other site', async () => {
    const here = await signedIn();
    const other = await signedIn();
    const state = await here.context.storageState();
    const plain = await browser.newContext({ javaScriptEnabled: false, storageState: state });
    const page = await plain.newPage();
    const elsewhere = await here.context.newPage();
    await elsewhere.route('http://elsewhere.test/', route => route.fulfill({
      contentType: 'text/html',
      body: `<form method="post" action="${on()}/.vestibule/sessions?others=1"><button>win</button></form>`,
    }));
    await elsewhere.goto('http://elsewhere.test/');
    await elsewhere.getByRole('button').click();
    await elsewhere.waitForURL(url => url.origin === on());
    assert.ok(!(await isOut(other)), 'another site ends nothing');
    await page.goto(`${on()}/.vestibule/sessions`);
    await page.getByRole('button', { name: 'Sign out everywhere else' }).click();
    await page.getByRole('button', { name: 'Sign out everywhere else' }).waitFor({ state: 'detached' });
    assert.ok(await isOut(other));
    for (const context of [here.context, other.context, plain]) await context.close();
  });
});
