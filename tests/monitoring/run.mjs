// Runs a real Prometheus (PROMETHEUS, by default Debian's) against the cluster at MILLRACE_PORT_BASE, and asks every query
// of the alert rules and of the Grafana board: each must be valid, and made of metrics that are there; those of the board
// must also answer. `./test monitoring` starts the cluster. Prints `N passed, N failed`.
import { execFileSync, spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const base = Number(process.env.MILLRACE_PORT_BASE);
if (!base) {
  console.error('MILLRACE_PORT_BASE must be set: `./test monitoring` starts a cluster and sets it');
  process.exit(2);
}
const folder = new URL('../../monitoring/', import.meta.url).pathname;
const port = base + 38;
let passed = 0;
let failed = 0;
function verdict(name, wrong) {
  if (wrong) failed += 1;
  else passed += 1;
  console.log(wrong ? `FAIL  ${name}\n      ${wrong}` : `ok    ${name}`);
}
function check(name, ...args) {
  try {
    execFileSync('promtool', args, { cwd: folder, stdio: 'pipe' });
    verdict(name);
  } catch (error) {
    verdict(name, `${error.stdout}${error.stderr}`.trim());
  }
}
check('promtool: the configuration of compose.yaml and the rules', 'check', 'config', 'prometheus.yml');
check('promtool: the configuration of the native demo', 'check', 'config', 'prometheus-native.yml');
check('promtool: the rules fire when they should', 'test', 'rules', 'alerts.test.yml');

// The native configuration, with the ports of this cluster.
const work = await mkdtemp(join(tmpdir(), 'millrace-monitoring-'));
await cp(folder, work, { recursive: true });
const offsets = { 8080: 0, 9101: 9, 9102: 10, 9111: 11, 9112: 12 };
const moved = (await readFile(join(work, 'prometheus-native.yml'), 'utf8'))
  .replace(/127\.0\.0\.1:(\d+)/g, (_, known) => `127.0.0.1:${base + offsets[known]}`)
  .replace(/5s/g, '1s');
await writeFile(join(work, 'prometheus-native.yml'), moved);
const prometheus = spawn(process.env.PROMETHEUS ?? 'prometheus', [
  '--config.file=prometheus-native.yml', '--storage.tsdb.path=data', `--web.listen-address=127.0.0.1:${port}`], { cwd: work, stdio: 'ignore' });
const ask = async (path) => {
  const answer = await (await fetch(`http://127.0.0.1:${port}/api/v1/${path}`)).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data;
};
const query = async (expr) => (await ask(`query?query=${encodeURIComponent(expr)}`)).result;
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

try {
  let down = ['Prometheus'];
  for (let second = 0; second < 60 && down.length > 0; second += 1) {
    await wait(1);
    const targets = await ask('targets?state=active').catch(() => null);
    if (targets) down = targets.activeTargets.filter((t) => t.health !== 'up').map((t) => `${t.scrapeUrl}: ${t.lastError}`);
  }
  verdict('every process is scraped', down.join('\n      '));
  // Rates need some samples, and the first checkpoints some seconds.
  const patience = Date.now() + 60_000;
  const eventually = async (wrong) => {
    for (;;) {
      const what = await wrong().catch((error) => error.message);
      if (!what || Date.now() > patience) return what;
      await wait(2);
    }
  };
  async function ofMetrics(expr) {
    await query(expr);
    const missing = [];
    for (const [metric] of expr.matchAll(/\b(millrace_\w+|process_\w+|up)\b/g)) {
      if ((await query(`count(${metric})`)).length === 0) missing.push(metric);
    }
    return missing.length > 0 ? `nobody has ${missing.join(', ')}` : '';
  }
  const { groups } = await ask('rules');
  for (const rule of groups.flatMap((group) => group.rules)) {
    verdict(`alert ${rule.name}`, await eventually(() => ofMetrics(rule.query)));
  }
  const board = JSON.parse(await readFile(join(folder, 'grafana/dashboards/millrace.json'), 'utf8'));
  for (const panel of board.panels) {
    for (const { expr } of panel.targets ?? []) {
      const wrong = await eventually(async () => (await ofMetrics(expr)) || ((await query(expr)).length > 0 ? '' : 'no answer'));
      verdict(`board: ${panel.title}`, wrong && `${wrong}: ${expr}`);
    }
  }
  const firing = (await ask('alerts')).alerts.filter((alert) => alert.state === 'firing').map((alert) => alert.annotations.summary);
  verdict('nothing fires while all is well', firing.join('\n      '));
} finally {
  prometheus.kill();
  await rm(work, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
