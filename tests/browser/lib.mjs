// What every browser test needs: the provider fixture, a Vestibule with a configuration of its own, and Chromium.
import { chromium } from 'playwright-core';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, chmodSync, closeSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { startUpstream } from './upstream.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../..');
const env = process.env;

/** The environment of what a test starts. Vestibule refuses variables that begin like its own and that it does not know. */
export const clean = Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('VESTIBULE_')));

/** The program under test. */
export const PROGRAM = env.TESTS_PROGRAM ?? join(env.CARGO_TARGET_DIR ?? join(root, 'target'), 'release/vestibule');
const FIXTURE = env.OIDC_FIXTURE ?? join(root, 'tests/fixtures/oidc-provider');
/** Where secrets and what Vestibule leaves behind are kept, for `tests/audit/canary.py`. */
const CANARY = env.TESTS_CANARY;
const SHOTS = env.TESTS_SHOTS ?? join(tmpdir(), 'vestibule-shots');

export const sleep = ms => new Promise(on => setTimeout(on, ms));

/** Asks `probe` again and again until it gives something true, and returns that. */
export async function until(what, probe, ms = 10_000) {
  const end = Date.now() + ms;
  for (;;) {
    const got = await probe();
    if (got) return got;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await sleep(50);
  }
}

/** A port of 127.0.0.1 that nobody listens on. */
export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function note(kind, value) {
  if (CANARY && value.length >= 8) {
    appendFileSync(join(CANARY, 'secrets.jsonl'), `${JSON.stringify({ kind, value: Buffer.from(value).toString('base64') })}\n`);
  }
}

/** Keeps something that a Vestibule left behind or a browser showed. */
function keep(kind, name, put) {
  if (!CANARY) return;
  mkdirSync(join(CANARY, kind), { recursive: true });
  put(join(CANARY, kind, `browser-${process.pid}-${performance.now()}-${name}`));
}

/** Keeps log and journal of the Vestibule in `folder`, and notes its keys. */
function leave(log, folder) {
  if (!CANARY || !existsSync(folder)) return;
  if (existsSync(log)) keep('logs', 'log', to => copyFileSync(log, to));
  for (const name of readdirSync(folder, { recursive: true })) {
    const file = join(folder, name);
    if (/journal\/[^/]+\.jsonl$/.test(name)) keep('journals', 'segment.jsonl', to => copyFileSync(file, to));
    if (/^keys\/(?!.*\.pub$)/.test(name) && statSync(file).isFile()) note('key', readFileSync(file));
  }
}

/** Notes the cookies that a browser is given, and keeps the pages of ours that it shows. */
function noteAll(context) {
  if (!CANARY) return;
  context.on('response', async answer => {
    const headers = await answer.headersArray().catch(() => []);
    for (const { name, value } of headers) {
      const cookie = value.split(';')[0].split('=').slice(1).join('=');
      if (name.toLowerCase() === 'set-cookie' && cookie.length >= 16) note('cookie', cookie);
    }
    const ours = answer.url().includes('/.vestibule/') || answer.status() >= 400;
    const page = ours && /html|json/.test(answer.headers()['content-type'] ?? '') && await answer.body().catch(() => undefined);
    if (page) keep('pages', 'page', to => writeFileSync(to, page));
  });
}

/** A process that ends with this one; what it writes is kept in `log`, and shown by `tail`. */
export class Process {
  constructor(command, args, options = {}) {
    this.folder = mkdtempSync(join(tmpdir(), 'vestibule-test-'));
    this.log = join(this.folder, 'log');
    const log = openSync(this.log, 'w');
    this.child = spawn(command, args, { stdio: ['pipe', options.lines ? 'pipe' : log, log], env: clean, ...options });
    closeSync(log);
    this.child.on('error', error => { this.fault = error; });
    process.once('exit', () => this.kill());
  }

  /** The first line that it writes to stdout. */
  async firstLine() {
    const lines = createInterface({ input: this.child.stdout });
    for await (const line of lines) {
      this.child.stdout.resume();
      return line;
    }
    throw new Error(`${this.child.spawnfile} wrote nothing:\n${this.tail()}`);
  }

  get running() {
    return !this.fault && this.child.exitCode === null && this.child.signalCode === null;
  }

  tail(lines = 40) {
    return `${this.fault ?? ''}${readFileSync(this.log, 'utf8').split('\n').slice(-lines).join('\n')}`;
  }

  kill() {
    if (this.running) this.child.kill('SIGKILL');
  }

  async stop() {
    if (this.running) {
      this.child.kill('SIGKILL');
      await once(this.child, 'exit');
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The provider fixture: GitLab's shape, people of its own, and an admin interface. */
export class Provider {
  static async start(settings = {}) {
    const provider = new Provider();
    provider.process = new Process('node', [join(FIXTURE, 'server.mjs')], {
      lines: true,
      env: { ...clean, EXIT_WITH_STDIN: '1', PROFILE: 'gitlab', REDIRECT_URIS: 'http://localhost/.vestibule/callback/gitlab', ...settings },
    });
    provider.issuer = JSON.parse(await provider.process.firstLine()).issuer;
    return provider;
  }

  async admin(path, body) {
    const method = body === undefined ? 'GET' : 'POST';
    const response = await fetch(`${this.issuer}/admin/${path}`, {
      method, headers: { 'content-type': 'application/json' }, body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`admin/${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  stop() {
    return this.process.stop();
  }
}

/** Where TLS is spoken. A provider takes no `https://localhost` for the address of an application. */
export const TLS_HOST = 'portal.localhost';

/** A certificate for it that nobody vouches for, and its key. */
export function selfSigned(folder, host = TLS_HOST) {
  const [certificate, key] = ['tls.pem', 'tls.key'].map(name => join(folder, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
    '-subj', `/CN=${host}`, '-addext', `subjectAltName=DNS:${host}`, '-keyout', key, '-out', certificate], { stdio: 'ignore' });
  chmodSync(key, 0o600);
  return { certificate, key };
}

/** A running Vestibule: one provider named `gitlab`, one route, and the policies given; over TLS if `tls`. */
export class Vestibule {
  static async start({ provider, port, route, policies, tls = false, settings = {}, membership, secrets = {} }) {
    const vestibule = new Vestibule();
    port ??= await freePort();
    vestibule.url = tls ? `https://${TLS_HOST}:${port}` : `http://localhost:${port}`;
    vestibule.port = port;
    vestibule.cookie = tls ? '__Host-vestibule' : `vestibule-${port}`;
    const folder = mkdtempSync(join(tmpdir(), 'vestibule-config-'));
    vestibule.folder = folder;
    const write = (name, text) => writeFileSync(join(folder, name), text, { mode: 0o600 });
    write('secret', 'vestibule-test-secret-0123456789');
    for (const [name, text] of Object.entries(secrets)) {
      write(name, text);
      note('secret', text);
    }
    if (policies) {
      mkdirSync(join(folder, 'policies'));
      write('policies/test.cedar', policies);
    }
    write('vestibule.yaml', JSON.stringify({
      public_url: vestibule.url,
      listen: [{ address: `127.0.0.1:${port}`, ...(tls ? { tls: selfSigned(folder) } : {}) }],
      state: './state',
      keys: './keys',
      providers: [{ name: 'gitlab', kind: 'gitlab', issuer: provider.issuer, client_id: 'vestibule', client_secret: { file: 'secret' }, ...(membership ? { membership } : {}) }],
      routes: [route],
      ...(policies ? { policies: './policies' } : {}),
      ...settings,
    }, null, 2));
    const traced = CANARY ? { env: { ...clean, VESTIBULE_LOG: 'trace' } } : {};
    vestibule.process = new Process(PROGRAM, ['run', '-c', join(folder, 'vestibule.yaml')], traced);
    await vestibule.ready();
    return vestibule;
  }

  /** Waits until it answers and has discovered the provider. */
  ready() {
    return until('vestibule is ready', async () => {
      if (!this.process.running) throw new Error(`vestibule ended:\n${this.process.tail()}`);
      const headers = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' };
      const answer = await this.ask('/.vestibule/sign-in/gitlab', headers).catch(() => undefined);
      return answer && answer.statusCode < 500;
    });
  }

  /** Asks as no browser does: whatever the name resolves to, whoever vouches for the certificate. Resolves to the answer's head. */
  ask(path, headers = {}) {
    const { protocol, host, hostname } = new URL(this.url);
    const client = protocol === 'https:' ? https : http;
    return new Promise((on, fault) => {
      const options = { host: '127.0.0.1', port: this.port, path, headers: { host, ...headers }, servername: hostname, rejectUnauthorized: false };
      client.get(options, answer => on(answer.resume())).on('error', fault);
    });
  }

  async stop() {
    leave(this.process.log, this.folder);
    await this.process.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Provider, upstream and Vestibule together, for tests that need nothing special. */
export async function house({ allow, policies, tls = false, settings, more = () => [], of = {} } = {}) {
  const port = await freePort();
  const redirect = `${tls ? `https://${TLS_HOST}:${port}` : 'http://localhost'}/.vestibule/callback/gitlab`;
  const provider = await Provider.start({ REDIRECT_URIS: redirect });
  const upstream = await startUpstream();
  const route = { name: 'app', upstream: upstream.url, ...(allow ? { allow } : {}) };
  const others = more({ upstream: upstream.url, port });
  const host = tls ? TLS_HOST : 'localhost';
  const routes = others.length || Object.keys(of).length ? { routes: [{ ...route, host, ...of }, ...others] } : {};
  const vestibule = await Vestibule.start({ provider, port, route, policies, tls, settings: { ...routes, ...settings } });
  return {
    provider, upstream, vestibule,
    async stop() {
      await vestibule.stop();
      upstream.stop();
      await provider.stop();
    },
  };
}

const chromiumOptions = more => ({
  executablePath: env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', ...more],
});

/** Headless Chromium with a fresh profile, reaching for nothing beyond loopback. */
export async function launch(...more) {
  const browser = await chromium.launch(chromiumOptions(more));
  const { newContext } = browser;
  browser.newContext = async options => {
    const context = await newContext.call(browser, options);
    noteAll(context);
    return context;
  };
  return browser;
}

/** The same with one context, set to keep no cookies of `origin`, and how to close it. */
export async function launchWithoutCookies(origin) {
  const profile = mkdtempSync(join(tmpdir(), 'vestibule-profile-'));
  const cookies = { [`${origin},*`]: { setting: 2 } }; // 2 is how Chromium writes "block"
  mkdirSync(join(profile, 'Default'));
  writeFileSync(join(profile, 'Default/Preferences'), JSON.stringify({ profile: { content_settings: { exceptions: { cookies } } } }));
  const context = await chromium.launchPersistentContext(profile, chromiumOptions([]));
  const close = async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 10 }); // the browser writes there to its very end
  };
  return { context, close };
}

/** Notes what must not happen in a browser (policy violations, script errors, errors of our own pages) and where its pages went. */
export function watch(context) {
  const noted = { problems: [], visited: [] };
  context.on('console', message => {
    const [text, ours] = [message.text(), message.location().url.includes('/.vestibule/')];
    const fault = message.type() === 'error' && ours && !/^Failed to load resource/.test(text); // a refusal's status is none
    if (fault || /content security policy|refused to/i.test(text)) noted.problems.push(text);
  });
  context.on('weberror', fault => noted.problems.push(String(fault.error())));
  context.on('request', request => {
    if (request.isNavigationRequest()) noted.visited.push(request.url());
  });
  return noted;
}

/** Goes from wherever sign-in has led to the provider's page, choosing the provider if we are asked to. */
export async function reachProvider(page, name = 'gitlab') {
  const person = page.locator('button[name=user]').first();
  const onward = page.locator(`a[href*="/.vestibule/sign-in/${name}"], form[action*="/.vestibule/sign-in/${name}"] button`).first();
  await person.or(onward).first().waitFor();
  if (!(await person.isVisible())) await onward.click({ timeout: 2000 }).catch(() => undefined); // it may go on by itself
  await person.waitFor();
}

/** Signs `user` in at the provider's page, and waits until the browser is back and the page is loaded. */
export async function signIn(page, user, origin) {
  await reachProvider(page);
  await page.locator(`button[name=user][value="${user}"]`).click();
  await page.waitForURL(url => url.origin === origin && !url.pathname.startsWith('/.vestibule/sign-in'));
  await page.waitForLoadState();
}

/** Our own cookies in this browser. */
export async function ownCookies(context, origin) {
  return (await context.cookies(origin)).filter(cookie => /^(__Host-)?vestibule/.test(cookie.name));
}

/** What a page of ours must never have: faults that keep somebody with other senses or hands out. */
export async function accessible(page) {
  if (!(await page.evaluate(() => Boolean(window.axe)))) {
    // our pages take no script from elsewhere: it is put in beside the page's own world
    await page.evaluate(readFileSync(join(here, 'node_modules/axe-core/axe.min.js'), 'utf8'));
  }
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.html).join(' ')}`);
}

/** Saves a page of ours as people see it, by day, by night and on a small screen, after looking for faults. */
export async function pageShot(page, name) {
  const faults = await accessible(page);
  if (faults.length) throw new Error(`${name}: ${faults.join('\n')}`);
  const size = page.viewportSize();
  await shot(page, name);
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await accessible(page);
  if (dark.length) throw new Error(`${name}, dark: ${dark.join('\n')}`);
  await shot(page, `${name}-dark`);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 375, height: 720 });
  await shot(page, `${name}-small`);
  await page.setViewportSize(size);
}

/** Saves what the page shows as `name`.png. */
export async function shot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
}
