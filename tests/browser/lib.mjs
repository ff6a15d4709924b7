// What every browser test needs: the provider fixture, a Vestibule with a configuration of its own, and Chromium.
import { chromium } from 'playwright-core';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

  tail() {
    return `${this.fault ?? ''}${readFileSync(this.log, 'utf8').split('\n').slice(-40).join('\n')}`;
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

/** A running Vestibule: one provider named `gitlab`, one route, and the policies given. */
export class Vestibule {
  static async start({ provider, port, route, policies, settings = {} }) {
    const vestibule = new Vestibule();
    port ??= await freePort();
    vestibule.url = `http://localhost:${port}`;
    vestibule.cookie = `vestibule-${port}`;
    const folder = mkdtempSync(join(tmpdir(), 'vestibule-config-'));
    vestibule.folder = folder;
    const write = (name, text) => writeFileSync(join(folder, name), text, { mode: 0o600 });
    write('secret', 'vestibule-test-secret-0123456789');
    if (policies) {
      mkdirSync(join(folder, 'policies'));
      write('policies/test.cedar', policies);
    }
    write('vestibule.yaml', JSON.stringify({
      public_url: vestibule.url,
      listen: `127.0.0.1:${port}`,
      state: './state',
      keys: './keys',
      providers: [{ name: 'gitlab', kind: 'gitlab', issuer: provider.issuer, client_id: 'vestibule', client_secret: { file: 'secret' } }],
      routes: [route],
      ...(policies ? { policies: './policies' } : {}),
      ...settings,
    }, null, 2));
    vestibule.process = new Process(PROGRAM, ['run', '-c', join(folder, 'vestibule.yaml')]);
    await vestibule.ready();
    return vestibule;
  }

  /** Waits until it answers and has discovered the provider. */
  ready() {
    return until('vestibule is ready', async () => {
      if (!this.process.running) throw new Error(`vestibule ended:\n${this.process.tail()}`);
      const headers = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' };
      const answer = await fetch(`${this.url}/.vestibule/sign-in/gitlab`, { headers, redirect: 'manual' }).catch(() => undefined);
      return answer && answer.status < 500;
    });
  }

  async stop() {
    await this.process.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Provider, upstream and Vestibule together, for tests that need nothing special. */
export async function house({ allow, policies, settings } = {}) {
  const provider = await Provider.start();
  const upstream = await startUpstream();
  const route = { name: 'app', upstream: upstream.url, ...(allow ? { allow } : {}) };
  const vestibule = await Vestibule.start({ provider, route, policies, settings });
  return {
    provider, upstream, vestibule,
    async stop() {
      await vestibule.stop();
      upstream.stop();
      await provider.stop();
    },
  };
}

/** Headless Chromium with a fresh profile, reaching for nothing beyond loopback. */
export function launch() {
  return chromium.launch({
    executablePath: env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
}

/** Notes what must not happen in a browser (policy violations, script errors) and where its pages went. */
export function watch(context) {
  const noted = { problems: [], visited: [] };
  context.on('console', message => {
    if (/content security policy|refused to/i.test(message.text())) noted.problems.push(message.text());
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

/** Saves what the page shows as `name`.png. */
export async function shot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
}
