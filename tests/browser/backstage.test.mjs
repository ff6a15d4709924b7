// A real Backstage, web app and all, behind Vestibule: its own sign-in, catalog, streams and WebSocket work unchanged.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Process, Provider, Vestibule, freePort, launch, reachProvider, shot, signIn, until, watch } from './lib.mjs';

const START = join(dirname(fileURLToPath(import.meta.url)), '../fixtures/backstage/start.sh');
const POLICY = `
@id("portal-for-everyone-in-acme")
@reason("The portal is open to everyone in acme and its subgroups.")
@remedy("Ask an owner of acme for an invitation.")
permit (principal is User in Namespace::"gitlab:acme", action, resource == Route::"backstage");

@id("catalog-for-jobs-on-protected-refs")
@reason("The catalog is read by jobs on protected refs of acme/shop/api.")
permit (principal is Job in Project::"gitlab:acme/shop/api", action in Action::"read", resource == Route::"backstage-jobs")
when { principal.ref_protected };

@id("catalog-for-jobs-by-path")
@reason("The catalog is read by jobs of acme/shop/api.")
permit (principal is Job in Project::"gitlab:acme/shop/api", action in Action::"read", resource == Route::"backstage-jobs-by-path")
when { context.path like "/jobs/api/catalog/*" };
`;
/** Whom tokens of jobs are for: this gateway. */
const AUDIENCE = 'https://portal-jobs.example.test';
const MEMBERS = { alice: { 'acme/platform': 'owner', 'acme/platform/sre': 'owner' }, bob: { 'acme/payments': 'developer' }, ines: { acme: 'owner' } };

/** Starts Backstage on a port of its own, told that people reach it at `url`. */
async function startBackstage(url) {
  const port = await freePort();
  const backstage = new Process('bash', [START], {
    env: {
      ...process.env, BACKSTAGE_PORT: String(port), BACKSTAGE_APP: '1', BACKSTAGE_BASE_URL: url,
      BACKSTAGE_RESOLVER: 'forwardedPreferredUsernameMatchingUserEntityName',
    },
  });
  const address = `http://127.0.0.1:${port}`;
  await until('Backstage is ready', async () => {
    if (!backstage.running) throw new Error(`Backstage ended:\n${backstage.tail()}`);
    return (await fetch(`${address}/.backstage/health/v1/readiness`).catch(() => undefined))?.ok;
  }, 600_000);
  await until('the catalog knows its people', async () => {
    const headers = { 'x-forwarded-preferred-username': 'bob' };
    return (await fetch(`${address}/api/auth/oauth2Proxy/refresh`, { headers })).ok;
  }, 60_000);
  return { process: backstage, address };
}

// Run in the page, where the browser's own rules hold. Each takes one argument, as `page.evaluate` does.

/** A Backstage token, asked for as Backstage's sign-in page asks. */
const backstageToken = async () => {
  const answer = await fetch('/api/auth/oauth2Proxy/refresh', { headers: { 'X-Requested-With': 'XMLHttpRequest' } });
  return (await answer.json()).backstageIdentity.token;
};

/** When each event of a stream arrived, in milliseconds after the first. */
const eventTimes = async token => {
  const answer = await fetch('/api/tick/stream?n=5&ms=200', { headers: { authorization: `Bearer ${token}` } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const times = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return times;
    for (const _ of value.matchAll(/^data:/gm)) times.push(performance.now());
  }
};

/** Opens the signals WebSocket, subscribes, has a message sent, and returns it. The socket stays open as `window.signals`. */
const signalMessage = async token => {
  const open = () => new Promise(resolve => {
    const socket = new WebSocket(`ws://${location.host}/api/signals`, [token]);
    const timer = setTimeout(() => { socket.close(); resolve(undefined); }, 2000);
    socket.onopen = () => { clearTimeout(timer); resolve(socket); };
  });
  let socket; // Backstage never answers the first upgrade after its start, and its own client tries again too
  for (let tries = 0; tries < 4 && !socket; tries += 1) socket = await open();
  if (!socket) return 'the WebSocket did not open';
  window.signals = socket;
  window.signalsClosed = new Promise(on => { socket.onclose = () => on(Date.now()); });
  const message = new Promise(on => { socket.onmessage = event => on(event.data); });
  socket.send(JSON.stringify({ action: 'subscribe', channel: 'tick' }));
  await new Promise(on => setTimeout(on, 300));
  await fetch('/api/tick/now', { headers: { authorization: `Bearer ${token}` } });
  return Promise.race([message, new Promise(on => setTimeout(() => on('no message in 5 s'), 5000))]);
};

describe('backstage', () => {
  let provider, backstage, vestibule, browser, context, page, noted;

  before(async () => {
    const port = await freePort();
    backstage = await startBackstage(`http://localhost:${port}`);
    provider = await Provider.start();
    for (const [user, memberships] of Object.entries(MEMBERS)) await provider.admin('user', { user, memberships });
    const route = { name: 'backstage', upstream: backstage.address, body: 'backstage', groups_header: ['gitlab:acme/**'], encoded_slash: true, backstage_user: 'user:default/{login}', grace: { paths: ['/static/*'], for: '1h' } };
    // pages need `Authorization` for Backstage's own tokens, so that jobs have a route of their own
    const jobs = { name: 'backstage-jobs', host: '127.0.0.1', upstream: backstage.address, token_issuers: ['ci'], credential: 'assertion', audience: 'backstage-jobs', body: 'backstage', encoded_slash: true };
    const settings = {
      sessions: { idle: '12s' },
      token_issuers: [{ name: 'ci', kind: 'gitlab_ci', provider: 'gitlab', audiences: [AUDIENCE], projects: { 'acme/shop/api': 5120 } }],
      routes: [{ ...route, host: 'localhost' }, jobs, { ...jobs, name: 'backstage-jobs-by-path', host: 'localhost', path: '/jobs/', strip_path: true }],
    };
    vestibule = await Vestibule.start({
      provider, port, route, policies: POLICY, settings,
      membership: { api: { token: { file: 'api' } } }, secrets: { api: 'glpat-test-token-0123456789' },
    });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await vestibule?.stop();
    await provider?.stop();
    await backstage?.process.stop();
  });
  beforeEach(async () => {
    context = await browser.newContext({ viewport: { width: 1600, height: 1100 } });
    noted = watch(context);
    page = await context.newPage();
  });
  afterEach(async () => {
    await context.close();
    assert.deepEqual(noted.problems, [], 'content security policy violations and script errors');
  });

  const enter = async (user, path = '/catalog') => {
    await page.goto(vestibule.url + path);
    await signIn(page, user, vestibule.url);
  };
  const component = name => page.getByRole('link', { name, exact: true }).first();
  /** A page whose scripts have all arrived: one that asks for more after sign-out is rightly refused them. */
  const settled = name => component(name).waitFor({ timeout: 30_000 });

  for (const [user, own, others] of [['alice', 'runner-fleet', 'ledger'], ['bob', 'ledger', 'runner-fleet']]) {
    it(`shows ${user} the components that are ${user}'s own`, async () => {
      await enter(user);
      await settled(own);
      assert.equal(await component(others).count(), 0, `${others} belongs to others`);
      await shot(page, `backstage-catalog-${user}`);
    });
  }

  it('tells Backstage who it is, and lets its own bearer token through', async () => {
    await enter('alice');
    const token = await page.evaluate(backstageToken);
    const who = await page.evaluate(async bearer => {
      const answer = await fetch('/api/tick/whoami', { headers: { authorization: `Bearer ${bearer}` } });
      return answer.json();
    }, token);
    assert.equal(who.principal.userEntityRef, 'user:default/alice');
    assert.equal(who.headers['x-forwarded-preferred-username'], 'alice');
    assert.match(who.headers['x-forwarded-groups'], /acme\/platform/);
    assert.ok(who.headers['vestibule-assertion'], 'a signed assertion');
    assert.ok(!/vestibule/.test(who.headers.cookie ?? ''), 'our cookie stays with us');
  });

  it('streams server-sent events one by one', async () => {
    await enter('alice');
    const times = await page.evaluate(eventTimes, await page.evaluate(backstageToken));
    const gaps = times.slice(1).map((at, i) => at - times[i]);
    assert.equal(times.length, 5);
    // a busy machine makes one late, and the gap behind it short; what is kept back comes all at once
    assert.ok(gaps.filter(gap => gap > 100).length >= 3, `gaps of about 200 ms: ${gaps.map(Math.round)}`);
  });

  it('shows TechDocs: the build is streamed, and its files come by their cookie alone', async () => {
    await enter('alice');
    await settled('runner-fleet');
    const seen = [];
    page.on('response', answer => seen.push(answer));
    await page.goto(`${vestibule.url}/docs/default/component/ledger`);
    await page.getByText('Every payment is booked here, once.').waitFor({ timeout: 60_000 });
    const image = page.getByAltText('How a payment is booked');
    await until('the picture is there', () => image.evaluate(it => it.complete && it.naturalWidth > 0), 15_000);
    await page.waitForLoadState('networkidle');
    await shot(page, 'backstage-techdocs');
    await page.getByRole('link', { name: 'Closing the month' }).first().click();
    await page.getByText('Stop the invoice mailer.').waitFor({ timeout: 30_000 });

    const of = part => seen.filter(answer => new URL(answer.url()).pathname.startsWith(part));
    const [sync] = of('/api/techdocs/sync/');
    assert.equal(sync?.headers()['content-type']?.split(';')[0], 'text/event-stream', 'mkdocs tells how far it is');
    const files = of('/api/techdocs/static/');
    assert.ok(files.length >= 3, `files of the documentation: ${files.length}`);
    // the first page is asked for before it is made
    const refused = files.filter(answer => answer.status() >= 400 && answer.status() !== 404);
    assert.deepEqual(refused.map(answer => `${answer.status()} ${answer.url()}`), []);
    assert.equal(files.findLast(answer => answer.url().endsWith('/closing/index.html')).status(), 200);

    const picture = `${vestibule.url}/api/techdocs/static/docs/default/component/ledger/booking.svg`;
    const whole = await context.request.get(picture); // with the browser's cookies, without a bearer token
    const part = await context.request.get(picture, { headers: { range: 'bytes=0-9' } });
    const same = await context.request.get(picture, { headers: { 'if-none-match': whole.headers().etag } });
    assert.deepEqual([whole.status(), part.status(), same.status()], [200, 206, 304], 'the whole, a part, and unchanged');
    assert.deepEqual([(await whole.body()).length > 500, (await part.body()).length], [true, 10]);
  });

  it('runs a template whose log comes while it runs', async () => {
    await enter('alice');
    await settled('runner-fleet');
    const streams = [];
    page.on('response', answer => { if (answer.url().includes('/eventstream')) streams.push(answer); });
    await page.goto(`${vestibule.url}/create/templates/default/new-service`);
    await page.getByLabel('Name').fill('till');
    await page.getByRole('button', { name: /review/i }).click();
    await page.getByRole('button', { name: /create/i }).last().click();
    await page.getByRole('button', { name: /show logs/i }).click();
    await page.getByText('Beginning step Wait').waitFor({ timeout: 30_000 });
    assert.equal(await page.getByText('till is made').count(), 0, 'the log is shown before the task is done');
    await page.getByText('a service called till for user:default/alice').first().waitFor();
    await page.getByText('till is made').first().waitFor({ timeout: 30_000 });
    await shot(page, 'backstage-template');
    assert.equal(streams[0]?.headers()['content-type']?.split(';')[0], 'text/event-stream');
  });

  it('carries the signals WebSocket, and closes it at sign-out', async () => {
    await enter('alice');
    await settled('runner-fleet');
    const message = await page.evaluate(signalMessage, await page.evaluate(backstageToken));
    assert.match(message, /"channel":"tick"/);

    const other = await context.newPage();
    await other.goto(`${vestibule.url}/.vestibule/sign-out`);
    const asked = Date.now();
    await other.locator('form button, form input[type=submit]').first().click();
    const closed = await page.evaluate(() => Promise.race([window.signalsClosed, new Promise(on => setTimeout(() => on(0), 5000))]));
    assert.ok(closed, 'the open WebSocket is closed within 5 s of sign-out');
    console.log(`open WebSocket closed ${closed - asked} ms after sign-out`);
  });

  it('answers calls after sign-out with 401 in the shape of Backstage, and pages with sign-in', async () => {
    await enter('bob');
    await settled('ledger');
    const other = await context.newPage();
    await other.goto(`${vestibule.url}/.vestibule/sign-out`);
    await other.locator('form button, form input[type=submit]').first().click();
    await other.waitForLoadState();
    await shot(other, 'backstage-signed-out');

    const call = await page.evaluate(() => new Promise(on => {
      const asked = new XMLHttpRequest(); // the app's `fetch` asks the person instead
      asked.open('GET', '/api/auth/vestibule/refresh');
      asked.setRequestHeader('X-Requested-With', 'XMLHttpRequest');
      asked.onloadend = () => on({ status: asked.status, url: asked.responseURL, body: JSON.parse(asked.responseText) });
      asked.send();
    }));
    assert.deepEqual([call.status, new URL(call.url).pathname], [401, '/api/auth/vestibule/refresh']);
    assert.equal(call.body.error.name, 'AuthenticationError');
    assert.ok(call.body.error.message, 'a sentence for the person');
    assert.deepEqual(call.body.response, { statusCode: 401 });
    assert.equal(call.body.request.method, 'GET');

    await provider.admin('revoke', { user: 'bob' });
    await page.reload();
    await reachProvider(page);
  });

  it('is signed in by the assertion alone, and by no forged header', async () => {
    await enter('alice');
    const identity = await page.evaluate(async () => (await fetch('/api/auth/vestibule/refresh')).json());
    assert.equal(identity.backstageIdentity.identity.userEntityRef, 'user:default/alice');
    assert.equal(identity.providerInfo?.accessToken, undefined, 'the assertion does not reach the browser');
    const ask = async headers => (await fetch(`${backstage.address}/api/auth/vestibule/refresh`, { headers })).status;
    const token = await page.evaluate(backstageToken);
    const who = await page.evaluate(async bearer => (await fetch('/api/tick/whoami', { headers: { authorization: `Bearer ${bearer}` } })).json(), token);
    const assertion = who.headers['vestibule-assertion'];
    assert.equal(await ask({ 'vestibule-assertion': assertion }), 200, 'as it came');
    const [head, payload, signature] = assertion.split('.');
    const claims = JSON.parse(Buffer.from(payload, 'base64url'));
    const other = change => Buffer.from(JSON.stringify({ ...claims, ...change })).toString('base64url');
    const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'vestibule+jwt' })).toString('base64url');
    for (const [what, headers] of [
      ['plain headers', { 'x-forwarded-user': '1', 'x-forwarded-preferred-username': 'alice', 'vestibule-backstage-user': 'user:default/alice' }],
      ['another person', { 'vestibule-assertion': `${head}.${other({ backstage_user: 'user:default/bob' })}.${signature}` }],
      ['no signature', { 'vestibule-assertion': `${none}.${payload}.` }],
      ['rubbish', { 'vestibule-assertion': 'a.b.c' }],
    ]) assert.equal(await ask(headers), 401, what);
  });

  /** The token of a job of acme/shop/api on its protected branch main that ines started, but for `differs`. */
  const jobToken = async differs =>
    (await provider.admin('ci-token', { aud: AUDIENCE, project_path: 'acme/shop/api', project_id: 5120, user: 'ines', ...differs })).token;
  const call = (address, path, bearer, method = 'GET') =>
    fetch(address + path, { method, redirect: 'manual', headers: bearer ? { authorization: `Bearer ${bearer}` } : {} });
  /** As a runner calls it. */
  const callAsJob = (path, bearer, method) => call(`http://127.0.0.1:${vestibule.port}`, path, bearer, method);
  const COMPONENTS = '/api/catalog/entities/by-query?filter=kind=component&fields=metadata.name';

  it('answers a CI job, by the assertion that stands in place of its token', async () => {
    const token = await jobToken();
    const catalog = await callAsJob(COMPONENTS, token);
    assert.equal(catalog.status, 200);
    const names = (await catalog.json()).items.map(({ metadata }) => metadata.name);
    assert.ok(names.includes('ledger') && names.includes('runner-fleet'), `${names}`);
    const who = await (await callAsJob('/api/tick/whoami', token)).json();
    assert.deepEqual([who.principal.type, who.principal.subject], ['service', 'external:vestibule:job:ci:302']);
    assert.equal(who.headers['x-forwarded-user'], undefined, 'a job is no person');
    assert.ok(!JSON.stringify(who).includes(token.split('.')[2]), 'its token stays with us');
    const byPath = await call(vestibule.url, `/jobs${COMPONENTS}`, token);
    assert.equal(byPath.status, 200, 'below a path of the host of people too');
    const elsewhere = await callAsJob('/api/scaffolder/v2/tasks', token);
    assert.equal(elsewhere.status, 403, "Backstage's own restriction: the catalog, and no other plugin");
    assert.match(await elsewhere.text(), /restricted to plugin\(s\) 'catalog'/);
  });

  it('believes no token of a job that comes to it directly, and no assertion that is for another audience', async () => {
    const token = await jobToken();
    const direct = bearer => call(backstage.address, COMPONENTS, bearer).then(answer => answer.status);
    const { headers } = await (await callAsJob('/api/tick/whoami', token)).json();
    assert.equal(await direct(headers['vestibule-assertion']), 200, 'what Vestibule says of the job');
    assert.equal(await direct(token), 401, 'what GitLab says of it');
    await enter('alice');
    const bearer = await page.evaluate(backstageToken);
    const person = await page.evaluate(async it => (await fetch('/api/tick/whoami', { headers: { authorization: `Bearer ${it}` } })).json(), bearer);
    assert.equal(await direct(person.headers['vestibule-assertion']), 401, 'what Vestibule says of a person, on their route');
    assert.equal(person.principal.userEntityRef, 'user:default/alice', "a person's own bearer token goes through as before");
  });

  it('is not reached by a job that no policy permits', async () => {
    const ask = async (mark, differs, method) => {
      const path = `/api/catalog/entities/by-query?filter=metadata.name=marked-${mark}`;
      const answer = await callAsJob(path, differs && await jobToken(differs), method);
      return [answer.status, await answer.text()];
    };
    const refused = [
      ['branch', { ref: 'feature', ref_protected: false }, 'GET', 403, /The catalog is read by jobs on protected refs of acme\/shop\/api/],
      ['project', { project_path: 'acme/shop/web', project_id: 5121 }, 'GET', 403, /No policy permits this/],
      ['fork', { project_path: 'mallory/api', project_id: 666, job_project_path: 'acme/shop/api', job_project_id: 5120 }, 'GET', 403, /No policy permits this/],
      ['write', {}, 'POST', 403, /No policy permits this/],
      ['audience', { aud: 'https://another.example.test' }, 'GET', 401, /AuthenticationError/],
      ['nobody', undefined, 'GET', 401, /AuthenticationError/],
    ];
    for (const [mark, differs, method, expected, words] of refused) {
      const [status, text] = await ask(mark, differs, method);
      assert.equal(status, expected, `${mark}: ${text}`);
      assert.match(text, words, mark);
    }
    assert.equal((await ask('permitted', {}))[0], 200);
    const reached = mark => backstage.process.tail(2000).includes(`marked-${mark}`);
    await until('Backstage notes what it was asked', () => reached('permitted'));
    assert.deepEqual(refused.map(([mark]) => mark).filter(reached), []);
  });

  it('tells a person whom the catalog does not know who they are taken for', async () => {
    await provider.admin('user', { user: 'carol', memberships: { 'acme/platform': 'developer' } });
    await enter('carol');
    await page.getByRole('link', { name: 'Who Vestibule takes you for' }).click();
    await page.waitForURL('**/.vestibule/denied**');
    const body = await page.locator('body').innerText();
    assert.match(body, /Backstage takes you for carol/);
    assert.match(body, /user:default\/carol/);
    await shot(page, 'backstage-no-user');
  });

  it('asks once when the session ends in an open page, which stays as it is', async () => {
    await enter('alice');
    await settled('runner-fleet');
    await page.evaluate(() => { window.stays = true; });
    await until('the session ends', async () => (await context.request.get(`${vestibule.url}/.vestibule/session`)).status() === 401, 30_000);
    await page.getByRole('link', { name: 'runner-fleet', exact: true }).first().click();
    const dialog = page.locator('dialog');
    await dialog.waitFor();
    await shot(page, 'backstage-session-over');
    assert.equal(await dialog.count(), 1, 'one prompt, however many calls failed');
    const opened = context.waitForEvent('page');
    await dialog.getByRole('button', { name: 'Sign in' }).click();
    const popup = await opened;
    await Promise.race([signIn(popup, 'alice', vestibule.url).catch(() => {}), popup.waitForEvent('close')]);
    await dialog.waitFor({ state: 'detached' });
    await page.getByRole('heading', { name: 'runner-fleet' }).first().waitFor({ timeout: 30_000 });
    assert.match(page.url(), /runner-fleet/);
    assert.equal(await page.evaluate(() => window.stays), true, 'the page was never loaded anew');
    await shot(page, 'backstage-goes-on');
  });

  it('refuses a person outside acme with the reason that the policy gives', async () => {
    await enter('mallory', '/');
    const body = await page.locator('body').innerText();
    assert.match(body, /The portal is open to everyone in acme and its subgroups\./);
    assert.match(body, /Ask an owner of acme for an invitation\./);
    assert.equal((await page.reload()).status(), 403);
    await shot(page, 'backstage-refused');
  });
});
