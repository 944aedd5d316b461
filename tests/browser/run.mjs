// Drives the page in a real Chromium as a person would: by what is on it, mouse and keyboard. The cluster runs already;
// its address and the admin's password come from MILLRACE_URL and MILLRACE_ADMIN_PASSWORD (`./test browser` sets them).
// MILLRACE_SCREENSHOTS, if set, is a folder for pictures. Prints `N passed, N failed`.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const url = process.env.MILLRACE_URL;
const password = process.env.MILLRACE_ADMIN_PASSWORD;
if (!url || !password) {
  console.error('MILLRACE_URL and MILLRACE_ADMIN_PASSWORD must be set: `./test browser` starts a cluster and sets them');
  process.exit(2);
}
const screenshots = process.env.MILLRACE_SCREENSHOTS;
const job = 'sensors.humidity-average';

const profile = await mkdtemp(join(tmpdir(), 'millrace-browser-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.MILLRACE_CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  viewport: { width: 1280, height: 900 },
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

// Everything that the page complains about; a session that is not there yet is no complaint.
const complaints = [];
function watch(page) {
  page.on('console', (message) => {
    const expected = message.text().includes('status of 401') && message.location().url.endsWith('/api/v1/session');
    if (message.type() === 'error' && !expected) complaints.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => complaints.push(`page: ${error.message}`));
}
await browser.exposeFunction('reportViolation', (text) => complaints.push(`CSP: ${text}`));
await browser.addInitScript(() => {
  document.addEventListener('securitypolicyviolation', (e) =>
    window.reportViolation(`${e.violatedDirective} blocked ${e.blockedURI} in ${e.documentURI}`));
});

let passed = 0;
let failed = 0;
async function test(name, body) {
  const started = Date.now();
  try {
    await body();
    passed += 1;
    console.log(`ok    ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n      ${String(error.message ?? error).replaceAll('\n', '\n      ')}`);
    if (screenshots) await page.screenshot({ path: join(screenshots, `failed-${failed}.png`) }).catch(() => {});
  }
}

// Looks until `condition` holds, and says what it saw if it never does.
async function eventually(what, seconds, look, condition) {
  const until = Date.now() + seconds * 1000;
  let seen;
  do {
    seen = await look();
    if (condition(seen)) return seen;
    await page.waitForTimeout(100);
  } while (Date.now() < until);
  assert.fail(`${what}: not within ${seconds} s; the last was ${JSON.stringify(seen)}`);
}

const page = browser.pages()[0] ?? (await browser.newPage());
watch(page);
page.setDefaultTimeout(20_000);
const id = (name) => page.getByTestId(name);
const number = async (name) => Number((await id(name).getAttribute('data-value')) || NaN);
const near = (rate, share = 0.15) => (value) => Math.abs(value - rate) <= Math.max(rate * share, 3);
const picture = (name) => (screenshots ? page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true }) : null);
// Deadlines are for a small machine: what takes longer than this is broken, not slow.
const SOON = 15;
const RATE = 45;
const WINDOW = 120;

if (screenshots) await mkdir(screenshots, { recursive: true });

await test('a wrong password is refused, in words', async () => {
  await page.goto(url);
  await id('sign-in-username').fill('admin');
  await id('sign-in-password').fill('not the password');
  await id('sign-in-submit').click();
  await id('sign-in-error').waitFor();
  assert.notEqual((await id('sign-in-error').innerText()).trim(), '');
  assert.equal(await id('produced-rate').count(), 0, 'nothing is shown to strangers');
});

await test('signing in takes nothing but a keyboard', async () => {
  await page.goto(url);
  await id('sign-in-username').waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute('data-testid'));
  const tabTo = async (name) => {
    for (let i = 0; i < 20 && (await focused()) !== name; i += 1) await page.keyboard.press('Tab');
    assert.equal(await focused(), name, `Tab reaches ${name}`);
  };
  await tabTo('sign-in-username');
  await page.keyboard.press('Control+a');
  await page.keyboard.type('admin');
  await tabTo('sign-in-password');
  await page.keyboard.type(password);
  await page.keyboard.press('Enter');
  await id('produced-rate').waitFor();
});

await test('the page is live', async () => {
  await eventually('connection', SOON, () => id('connection').getAttribute('data-state'), (s) => s === 'live');
});

// An acknowledgement names its version, so that a new one never reads like the one before.
// A machine that is overloaded may take longer than the gateway waits: then the page says whom it waits for, and a
// person asks again.
async function acknowledged(testId, change) {
  for (let attempt = 1; ; attempt += 1) {
    const before = await id(testId).innerText();
    await change();
    if (attempt > 1) await page.waitForTimeout(1000);
    const look = async () => [await id(testId).getAttribute('data-ms'), await id(testId).innerText()];
    const over = ([ms, text]) => (ms && text !== before) || (attempt < 10 && text.includes('waiting for'));
    const [ms, text] = await eventually('acknowledgement', SOON, look, over);
    if (ms) return Number(ms);
    console.log(`      asked again: ${text}`);
  }
}
const typeRate = (rate, stream = 'iot-sensors') => acknowledged(`rate-${stream}-ack`, async () => {
  await id(`rate-${stream}-number`).fill(String(rate));
  await id(`rate-${stream}-number`).press('Enter');
});

await test('each stream has a rate of its own', async () => {
  for (const stream of ['transactions', 'orders', 'user-events', 'system-metrics']) {
    await typeRate(3, stream);
    await typeRate(0, stream);
  }
});

await test('the throughput rises with the rate, produced and consumed', async () => {
  await typeRate(50);
  const low = await eventually('produced at 50/s', RATE, () => number('produced-rate'), near(50));
  await typeRate(1000);
  const high = await eventually('produced at 1,000/s', RATE, () => number('produced-rate'), near(1000));
  assert.ok(high > low);
  await eventually('consumed at 1,000/s', RATE, () => number('consumed-rate'), near(1000));
});

await test('the slider moves by keyboard, is acknowledged, and the new rate is seen', async () => {
  const slider = id('rate-iot-sensors-slider');
  const press = (key) => async () => {
    await slider.focus();
    await page.keyboard.press(key);
  };
  const ms = await acknowledged('rate-iot-sensors-ack', press('PageUp'));
  console.log(`      acknowledged in ${ms} ms`);
  const rate = Number(await id('rate-iot-sensors-number').inputValue());
  assert.ok(rate > 1100, `PageUp raises the rate: ${rate}`);
  await eventually(`produced at ${rate}/s`, RATE, () => number('produced-rate'), near(rate));
  await eventually(`consumed at ${rate}/s`, RATE, () => number('consumed-rate'), near(rate));
  await acknowledged('rate-iot-sensors-ack', press('PageDown'));
});

const windowSize = (seconds) => acknowledged(`params-ack-${job}`, async () => {
  await id(`param-${job}-window_size_s`).fill(String(seconds));
  await id(`params-apply-${job}`).click();
});

await test('a new window size is acknowledged, and results of that size arrive', async () => {
  await typeRate(200);
  const ms = await windowSize(6);
  console.log(`      acknowledged in ${ms} ms`);
  const rows = id('averages').locator('tr[data-size-ms="6000"]');
  await eventually('averages of 6 s', WINDOW, () => rows.count(), (n) => n > 0);
  const text = await rows.first().innerText();
  assert.match(text, /\d%|\d %/, `an average is a number: ${text}`);
});

await test('a window size that makes no sense is refused, in words', async () => {
  await id(`param-${job}-window_size_s`).fill('0');
  await id(`params-apply-${job}`).click();
  await eventually('the refusal', SOON, () => id(`params-ack-${job}`).innerText(), (t) => t.includes('window_size_s') || /at least|least 1|minimum|from 1/i.test(t));
  // The browser reports a refused request on its console; that is the point here.
  for (let i = complaints.length - 1; i >= 0; i -= 1) {
    if (complaints[i].includes('status of 422')) complaints.splice(i, 1);
  }
});

await test('a list is typed with commas between its names', async () => {
  await page.locator('details[data-app="commerce"] > summary').click();
  const segments = (names) => acknowledged('params-ack-commerce.segments', async () => {
    await id('param-commerce.segments-categories').fill(names);
    await id('params-apply-commerce.segments').click();
  });
  await segments('books,toys');
  const inForce = () => page.evaluate(async () => {
    const answer = await fetch('/api/v1/jobs/commerce.segments/params');
    return (await answer.json()).params.categories;
  });
  assert.deepEqual(await inForce(), ['books', 'toys']);
  await eventually('the field', SOON, () => id('param-commerce.segments-categories').inputValue(), (v) => v === 'books, toys');
  await segments('');
  assert.deepEqual(await inForce(), []);
  await page.locator('details[data-app="commerce"] > summary').click();
});

await test('alerts, checkpoints, workers and components are on the page', async () => {
  for (const name of ['alerts', 'apps', 'checkpoints', 'workers', 'components']) {
    await eventually(name, 60, () => id(name).locator('tr').count(), (n) => n > 0);
  }
  for (const name of ['latency-p50', 'latency-p99', 'lag-records']) {
    await eventually(name, SOON, () => number(name), (v) => Number.isFinite(v) && v >= 0);
  }
});

for (const theme of ['dark', 'light']) {
  await test(`${theme}: the page is in that colour, wide and narrow, and never scrolls sideways`, async () => {
    await page.emulateMedia({ colorScheme: theme });
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(500);
      const [content, wanted, culprits] = await page.evaluate(() => {
        const scrolls = (e) => e && (/auto|scroll|hidden|clip/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
        const out = [...document.body.querySelectorAll('*')].filter((e) =>
          e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !scrolls(e.parentElement));
        const name = (e) => `${e.tagName.toLowerCase()}.${e.getAttribute('class') ?? ''} ${e.textContent.slice(0, 30)}`;
        return [document.documentElement.scrollWidth, document.documentElement.clientWidth, out.slice(0, 5).map(name)];
      });
      assert.ok(content <= wanted, `${content} px of content in ${wanted} px: ${culprits.join(' | ')}`);
      await picture(`${theme}-${width}`);
    }
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const brightness = background.match(/[\d.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 3;
    assert.ok(theme === 'dark' ? brightness < 100 : brightness > 155, `${theme} with ${background}`);
    await page.setViewportSize({ width: 1280, height: 900 });
  });
}

await test('a reload stays signed in, and signing out ends it', async () => {
  await windowSize(300);
  await typeRate(100);
  await page.waitForTimeout(500);
  await page.reload();
  await id('produced-rate').waitFor();
  await eventually('the rate', SOON, () => id('rate-iot-sensors-number').inputValue(), (v) => v === '100');
  await id('sign-out').click();
  await id('sign-in-username').waitFor();
  const status = await page.evaluate(() => fetch('/api/v1/overview').then((answer) => answer.status));
  assert.equal(status, 401);
  for (let i = complaints.length - 1; i >= 0; i -= 1) {
    if (complaints[i].includes('status of 401') && complaints[i].includes('/api/v1/overview')) complaints.splice(i, 1);
  }
});

await test('the page complained about nothing: no console error, no exception, no CSP violation', async () => {
  assert.deepEqual(complaints, []);
});

await browser.close();
await rm(profile, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
