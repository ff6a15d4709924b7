// `vestibule demo`: nothing to set up, four people to try, and each sees what the policies say.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { PROGRAM, Process, clean, freePort, launch, ownCookies, shot, until, watch } from './lib.mjs';

const PEOPLE = { ada: 200, ben: 200, cleo: 200, dan: 403 };

/** What the demo's own command lines must print, by the words of their titles. */
const COMMANDS = [
  [/public page/i, /^HTTP\/1\.1 200 /],
  [/no session/i, /^HTTP\/1\.1 401 /],
  [/sign in as ben/i, /200$/],
  [/read, and write/i, /"restarted": "catalogue"/],
  [/take ben out/i, /^HTTP\/1\.1 403 /m],
  [/back in/i, /^HTTP\/1\.1 200 /m],
  [/block him/i, /^HTTP\/1\.1 401 /m],
  [/a job of ben's on main/i, /^HTTP\/1\.1 201 [^]*"person": "ben",\s+"job": \d+,\s+"project": "acme\/shop\/api",\s+"ref": "main"/],
  [/on another branch/i, /^HTTP\/1\.1 403 [^]*Deployments are made by jobs on the protected branch main/],
  [/dan's fork/i, /^HTTP\/1\.1 403 [^]*what they run is not reviewed/],
  [/his job on main, with the token that it has/i, /^HTTP\/1\.1 403 [^]*started by somebody in acme\/platform/m],
  [/every job in acme may read/i, /"releases": \[\s+\{\s+"release": 1,/],
];

/** The command lines in what the demo printed: `# title`, then lines for a shell, each two blanks in, up to an empty one. */
function commands(said) {
  const blocks = said.slice(said.indexOf('From the command line')).split(/\n {2}# /).slice(1);
  return blocks.map(block => {
    const [title, ...lines] = block.split('\n\n')[0].split('\n');
    return { title, lines: lines.filter(line => line.startsWith('  ')).map(line => line.trim()) };
  });
}

describe('demo', () => {
  let demo, browser, origin, said, context, page, noted;

  before(async () => {
    const port = await freePort();
    demo = new Process(PROGRAM, ['demo', '--port', String(port)]);
    said = await until('the demo says where it is', () => {
      if (!demo.running) throw new Error(`the demo ended:\n${demo.tail()}`);
      return /Ctrl-C/.test(demo.tail()) && demo.tail(1000);
    });
    origin = said.match(new RegExp(`http://[a-z.]+:${port}`))[0];
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await demo?.stop();
  });
  beforeEach(async () => {
    context = await browser.newContext({ viewport: { width: 1100, height: 900 } });
    noted = watch(context);
    page = await context.newPage();
  });
  afterEach(async () => {
    await context.close();
    assert.deepEqual(noted.problems, [], 'content security policy violations and script errors');
  });

  /** Opens the portal and signs in as `who`; the status of the page it ends at. */
  const enter = async who => {
    await page.goto(origin);
    await page.locator(`button[value=${who}]`).waitFor();
    if (who === 'ada') await shot(page, 'demo-provider');
    await page.locator(`button[value=${who}]`).click();
    await page.waitForURL(`${origin}/`);
    return (await page.reload()).status();
  };

  it('offers four people', async () => {
    await page.goto(origin);
    const people = page.locator('button[value]');
    await people.first().waitFor();
    assert.deepEqual(await people.evaluateAll(all => all.map(button => button.value)), Object.keys(PEOPLE));
  });

  for (const [who, status] of Object.entries(PEOPLE)) {
    it(`shows ${who} ${status === 200 ? 'the portal' : 'a refusal with its reason'}`, async () => {
      assert.equal(await enter(who), status);
      const text = await page.locator('body').innerText();
      if (status === 200) {
        assert.match(text, new RegExp(`Hello, ${who}`));
        assert.match(text, /Verified/, 'the portal could check the assertion');
        await until('events arrive', async () => /\d/.test(await page.locator('#ticks').innerText()));
      } else {
        assert.match(text, /open to everyone in acme/i);
        assert.match(text, /ask an owner of acme/i);
        assert.match(text, new RegExp(who), 'it says who you are');
      }
      await shot(page, `demo-${who}`);
    });
  }

  it('says nothing before what people are to read', () => {
    assert.doesNotMatch(said, /WARN/);
    assert.match(said.trimStart(), /^[^{]/, 'no line of JSON');
  });

  it('lets somebody be somebody else', async () => {
    await enter('ben');
    await page.getByRole('link', { name: 'Be somebody else' }).click();
    await page.locator('button[value=cleo]').click();
    await page.waitForURL(`${origin}/`);
    await page.getByRole('heading', { name: 'Hello, cleo' }).waitFor();
  });

  it('lets nobody stay who is taken out, and anybody in who is added, at once', async () => {
    const gitlab = said.match(/Demo GitLab +(\S+)\/\n/)[1];
    const change = async act => {
      const answer = await fetch(`${gitlab}/demo/people/cleo/${act}`, { method: 'POST' });
      assert.equal(answer.status, 200, await answer.text());
    };
    const ask = (path, method) => page.evaluate(async ([path, method]) => (await fetch(path, { method })).status, [path, method]);
    const read = () => ask('/api/services', 'GET');
    const restart = () => ask('/api/services/billing/restart', 'POST');
    assert.equal(await enter('cleo'), 200);
    await until('events arrive', async () => /^\d/.test(await page.locator('#ticks').innerText()));
    assert.deepEqual([await read(), await restart()], [200, 403]);

    await change('leave?group=acme/payments');
    const left = Date.now();
    assert.equal(await read(), 403);
    await until('the events end', async () => /ended/.test(await page.locator('#ticks').innerText()));
    await until('the WebSocket ends', async () => /closed/.test(await page.locator('#echo').innerText()));
    assert.ok(Date.now() - left < 10_000, `ended after ${Date.now() - left} ms, as after 60 s without a hook`);
    assert.equal((await page.reload()).status(), 403);

    await change('join?group=acme/payments&role=developer');
    assert.equal((await page.goto(origin)).status(), 200, 'the next click');
    assert.deepEqual([await read(), await restart()], [200, 200]);
    await change('join?group=acme/payments&role=reporter');
    assert.deepEqual([await read(), await restart()], [200, 403], 'a lesser role acts at once too');
  });

  it('signs out', async () => {
    await enter('ben');
    await page.goto(`${origin}/.vestibule/sign-out`);
    await shot(page, 'demo-sign-out');
    await page.locator('form button').first().click();
    await page.waitForLoadState();
    await shot(page, 'demo-signed-out');
    const live = (await ownCookies(context, origin)).filter(cookie => /^vestibule-\d+$/.test(cookie.name));
    assert.deepEqual(live, [], 'no session cookie is left');
    await page.goto(`${origin}/public/`);
    await page.getByRole('link', { name: 'Sign in' }).waitFor();
    assert.equal(await page.evaluate(async () => (await fetch('/api/services')).status), 401);
  });

  it('prints command lines that work as they are', async () => {
    const printed = commands(said);
    const setup = printed.flatMap(({ lines }) => lines).filter(line => /^\w+=/.test(line)); // variables of earlier blocks
    for (const [words, expected] of COMMANDS) {
      const block = printed.find(({ title }) => words.test(title));
      assert.ok(block, `a block about ${words}`);
      const script = ['set -e', ...setup, ...block.lines].join('\n');
      const { stdout } = await promisify(execFile)('bash', ['-c', script.replaceAll('curl -i', 'curl -si')]);
      assert.match(stdout.trim(), expected, block.title);
    }
  });

  it('has a configuration in which every route is open to somebody', async () => {
    const directory = said.match(/jar=(\S+)\/jar/)[1];
    const { stdout } = await promisify(execFile)(PROGRAM, ['check', '-c', `${directory}/vestibule.yaml`], { env: clean });
    assert.doesNotMatch(stdout, /nobody may reach/);
    assert.match(stdout, /^ok: 1 provider, 3 routes/m);
  });

  it('ends at Ctrl-C and leaves nothing behind', async () => {
    const directory = said.match(/jar=(\S+)\/jar/)[1];
    assert.ok(existsSync(directory), directory);
    await page.goto(`${origin}/public/`); // a browser that keeps its connections open does not hold it up
    demo.child.kill('SIGINT');
    await until('the demo has ended', () => !demo.running, 15_000);
    assert.equal(demo.child.exitCode, 0, demo.tail());
    assert.ok(!existsSync(directory), `${directory} is removed`);
  });
});
