// `vestibule demo`: nothing to set up, four people to try, and each sees what the policies say.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Process, PROGRAM, freePort, launch, ownCookies, shot, until, watch } from './lib.mjs';

const PEOPLE = 4;
const people = page => page.locator('button[name=user], a[href*="user="], button[value]');

describe('demo', () => {
  let demo, browser, portal, said;

  before(async () => {
    const port = await freePort();
    demo = new Process(PROGRAM, ['demo', '--port', String(port)]);
    portal = await until('the demo prints its address', () => {
      if (!demo.running) throw new Error(`the demo ended:\n${demo.tail()}`);
      said = demo.tail();
      return said.match(new RegExp(`http://[a-z.0-9-]+:${port}`))?.[0];
    });
    await until('the demo answers', () => fetch(portal, { redirect: 'manual' }).then(() => true, () => {
      if (!demo.running) throw new Error(`the demo ended:\n${demo.tail()}`);
    }));
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await demo?.stop();
  });

  it('prints ready curl lines', () => {
    assert.match(demo.tail(), /curl .*http/);
  });

  it('shows each of the four people the portal, or a refusal with its reason', async () => {
    const seen = [];
    for (let i = 0; i < PEOPLE; i += 1) {
      const context = await browser.newContext();
      try {
        const noted = watch(context);
        const page = await context.newPage();
        await page.goto(portal);
        await people(page).first().waitFor();
        if (i === 0) await shot(page, 'demo-provider');
        assert.equal(await people(page).count(), PEOPLE, 'people to choose from');
        const who = (await people(page).nth(i).innerText()).trim();
        await people(page).nth(i).click();
        await page.waitForURL(url => url.origin === portal && !url.pathname.startsWith('/.vestibule/sign-in'));
        await page.waitForLoadState();
        const again = await page.reload();
        const text = await page.locator('body').innerText();
        await shot(page, `demo-person-${i + 1}`);
        seen.push({ who, status: again.status() });
        assert.ok([200, 403].includes(again.status()), `${who}: status ${again.status()}`);
        if (again.status() === 403) assert.match(text, /open to|ask /i, `${who} is told the reason`);
        assert.deepEqual(noted.problems, [], who);
      } finally {
        await context.close();
      }
    }
    assert.ok(seen.some(({ status }) => status === 200), `somebody sees the portal: ${JSON.stringify(seen)}`);
    assert.ok(seen.some(({ status }) => status === 403), `somebody is refused: ${JSON.stringify(seen)}`);
  });

  it('signs out', async () => {
    const context = await browser.newContext();
    try {
      const page = await context.newPage();
      await page.goto(portal);
      await people(page).first().click();
      await page.waitForURL(url => url.origin === portal && !url.pathname.startsWith('/.vestibule/sign-in'));
      await page.goto(`${portal}/.vestibule/sign-out`);
      await page.locator('form button, form input[type=submit]').first().click();
      await page.waitForLoadState();
      await shot(page, 'demo-signed-out');
      const live = (await ownCookies(context, portal)).filter(cookie => /^vestibule-\d+$/.test(cookie.name));
      assert.deepEqual(live, [], 'no session cookie is left');
      const session = await page.request.get(`${portal}/.vestibule/session`);
      assert.equal(session.status(), 401);
    } finally {
      await context.close();
    }
  });
});
