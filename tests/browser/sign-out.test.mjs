// People sign out where the provider has a session of its own to end: from any host, and from a page with a policy of its own.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Provider, Vestibule, freePort, launch, shot, signIn, watch } from './lib.mjs';
import { startUpstream } from './upstream.mjs';

describe('sign-out at the provider', () => {
  let provider, upstream, vestibule, browser, context, page, noted;
  const on = host => `http://${host}:${vestibule.port}`;

  before(async () => {
    const port = await freePort();
    provider = await Provider.start({ PROFILE: 'full', POST_LOGOUT_URIS: 'http://localhost/.vestibule/sign-out' });
    upstream = await startUpstream();
    const client = { client_id: 'vestibule', client_secret: { file: 'secret' } };
    const route = (name, host) => ({ name, host, upstream: upstream.url, allow: ['signed-in'] });
    vestibule = await Vestibule.start({
      provider, port, settings: {
        providers: [{ name: 'gitlab', kind: 'oidc', title: 'The provider', issuer: provider.issuer, ...client }],
        routes: [route('app', 'localhost'), route('api', 'api.localhost')],
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
  beforeEach(async () => {
    context = await browser.newContext();
    noted = watch(context);
    page = await context.newPage();
  });
  afterEach(async () => {
    await context.close();
    assert.deepEqual(noted.problems, [], 'content security policy violations and script errors');
  });

  /** Signs in on `host`, and goes to the page that asks. */
  const begin = async host => {
    await page.goto(`${on(host)}/work`);
    await signIn(page, 'alice', on(host));
    await page.goto(`${on(host)}/.vestibule/sign-out`);
  };
  const press = () => page.locator('form[action="/.vestibule/sign-out"] button').click();
  const told = () => page.getByText('The provider was told to end its own').waitFor();

  it('goes by the provider\'s page, and comes back to say so', async () => {
    await begin('localhost');
    await press();
    await page.waitForURL(url => url.href.startsWith(provider.issuer));
    const seen = (await context.cookies(on('localhost'))).filter(({ name }) => name === vestibule.cookie);
    assert.deepEqual(seen, [], 'our own session ends before the provider is asked');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await told();
    await shot(page, 'signed-out-everywhere');
  });

  it('works from another host than people sign in at, where the provider leads back at once', async () => {
    await provider.admin('module', { name: 'oidcc-client-test-rp-init-logout' }); // from here on; its keys change with it
    await begin('api.localhost');
    await press();
    await told();
    assert.ok(page.url().startsWith(on('localhost')), 'back where people sign in');
  });

  it('works from a form on a page that lets forms go nowhere else', async () => {
    await begin('localhost');
    await page.goto(`${on('localhost')}/work`);
    await page.evaluate(() => {
      document.body.innerHTML = '<form method="post" action="/.vestibule/sign-out"><button>Out</button></form>';
      const policy = Object.assign(document.createElement('meta'), { httpEquiv: 'content-security-policy', content: "form-action 'self'" });
      document.head.append(policy);
    });
    await press();
    await told();
  });
});
