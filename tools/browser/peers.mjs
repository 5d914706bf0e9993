// tileloom's shaders beside onnxruntime-web, TensorFlow.js and jax-js on the WebGPU of headless Chromium, in turns, all of f32.
//
//   node tools/browser/peers.mjs LOOM OUT.json [--adapter ADAPTER] [KERNEL..]     ADAPTER: of tools/browser/chromium; lavapipe without
//
// npm puts the peers into target/peers-browser, 220 MB. Each result is judged by loom against the CPU reference; a wrong one has no
// figure. Calls are made as each of them has it: tileloom records those of a sample in one pass, onnxruntime-web runs its session, tfjs and
// jax-js (compiled) their functions. OUT.json is for `loom report`. Both adapters are on the CPU: ratios there say little of GPUs.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, platform, arch } from 'node:os';
import { join, resolve } from 'node:path';
import { device, launch } from './chromium.mjs';
import { serve } from './serve.mjs';

const PEERS = {
  onnx: ['onnxruntime-web', '1.30.0'],
  tf: ['@tensorflow/tfjs-backend-webgpu', '4.22.0'],
  jax: ['@jax-js/jax', '0.1.25'],
};
const NAMES = { tileloom: 'tileloom', onnx: 'onnxruntime-web', tf: 'tfjs', jax: 'jax-js' };

const [loom, out, ...kernels] = process.argv.slice(2);
const named = kernels.indexOf('--adapter');
const adapter = named < 0 ? 'lavapipe' : kernels.splice(named, 2)[1];
const here = new URL('.', import.meta.url).pathname;
const target = resolve(process.env.CARGO_TARGET_DIR ?? join(here, '../../target'));
const [packages, dir] = [join(target, 'peers-browser'), join(target, 'peers-browser/calls')];

if (Object.values(PEERS).some(([name, version]) => {
  const file = join(packages, 'node_modules', name, 'package.json');
  return !existsSync(file) || JSON.parse(readFileSync(file, 'utf8')).version !== version;
})) {
  mkdirSync(packages, { recursive: true });
  const wanted = [...Object.values(PEERS).map(([name, version]) => `${name}@${version}`), `@tensorflow/tfjs-core@${PEERS.tf[1]}`];
  execFileSync('npm', ['install', '--prefix', packages, '--ignore-scripts', '--no-audit', '--no-fund', '--no-save', '--silent', ...wanted], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

const server = await serve(here, packages, dir);
const browser = await launch(adapter);
const page = await browser.open(`${server.url}/peers.html`);
const facts = await page.evaluate('facts()');
execFileSync(loom, ['export', dir, ...kernels, '--beside', ...device(facts)]);
// The same calls for each side, with answers of its own.
for (const who of Object.keys(NAMES)) {
  const own = join(dir, 'sides', who);
  rmSync(own, { recursive: true, force: true });
  mkdirSync(own, { recursive: true });
  mkdirSync(join(dir, 'answers', who));
  for (const name of ['index.json', 'calls', 'shaders']) symlinkSync(join(dir, name), join(own, name));
  symlinkSync(join(dir, 'answers', who), join(own, 'answers'));
}
const start = Date.now();
const fights = await page.evaluate('run()');
for (const error of page.errors.slice(0, 10)) console.log(`the page says: ${error}`);
await browser.close();
server.close();

/** Why results of a side are wrong, by the name of the call. */
function wrong(who) {
  const report = join(dir, 'sides', who, 'report.jsonl');
  try {
    execFileSync(loom, ['judge', join(dir, 'sides', who), '--adapter', who, '--report', report], { stdio: 'pipe' });
  } catch (error) {
    if (!existsSync(report)) throw new Error(error.stderr?.toString().trim() || error.message);
  }
  const records = readFileSync(report, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  return new Map(records.filter(({ outcome }) => outcome !== 'passed').map((record) => [`${record.kernel} ${record.case}`, record.reason.split('\n')[0]]));
}
const faults = Object.fromEntries(Object.keys(NAMES).map((who) => [who, wrong(who)]));

function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  const [at, low] = [q * (sorted.length - 1), Math.floor(q * (sorted.length - 1))];
  return sorted[low] + (sorted[Math.ceil(at)] - sorted[low]) * (at - low);
}

const lines = fights.flatMap(({ id, sides }) => {
  const { shape, config, flops, bytes } = JSON.parse(readFileSync(join(dir, 'calls', `${id}.json`), 'utf8'));
  const kernel = id.split('.')[0];
  const failed = ({ who, failed }) => failed ?? (faults[who].has(`${kernel} ${shape}`) ? `wrong: ${faults[who].get(`${kernel} ${shape}`)}` : null);
  const base = failed(sides[0]) ? null : quantile(sides[0].samples, 0.5);
  return sides.map((side) => {
    const head = { kernel, shape, who: NAMES[side.who], config: side.who === 'tileloom' ? config : '' };
    if (failed(side)) return { ...head, failed: failed(side) };
    const median = quantile(side.samples, 0.5);
    return {
      ...head, samples: side.samples.length, calls_per_sample: side.calls, median_s: median, p10_s: quantile(side.samples, 0.1),
      p90_s: quantile(side.samples, 0.9), gflops: flops / median / 1e9, gb_per_s: bytes / median / 1e9, times_tileloom: base && median / base,
    };
  });
});

const version = (name) => new RegExp(`name = "${name}"\nversion = "(.*)"`).exec(readFileSync(join(here, '../../Cargo.lock'), 'utf8'))?.[1] ?? 'unknown';
const chromium = execFileSync(join(here, 'chromium'), ['setup', adapter], { encoding: 'utf8' }).trim().replace(/^\S+ ready /, '');
const report = {
  schema: 2, adapter: `chromium-${adapter}`, name: adapter, driver: chromium, backend: 'BrowserWebGpu',
  clock: 'wall time in the page: some calls, and the wait for them; a software adapter tells ratios only',
  facts: {
    os: `${platform()} ${arch()}`, device_type: facts.cpu ? 'Cpu' : 'Other', tileloom: version('tileloom'), wgpu: version('wgpu'), naga: version('naga'),
    checks: 'those of the browser', load: loadavg()[0], suite: '', seed: 1,
    commit: execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12'], { cwd: here, encoding: 'utf8' }).trim(),
    command: ['node tools/browser/peers.mjs LOOM OUT.json --adapter', adapter, ...kernels].join(' '), time: Math.floor(Date.now() / 1000),
  },
  peers: Object.values(PEERS).map(([name, version]) => `${name} ${version}`),
  lines,
};
writeFileSync(out, `${JSON.stringify(report, null, 2)}\n`);
for (const { kernel, shape, who, failed, median_s: median, times_tileloom: times } of lines) {
  const told = failed ? `FAILED: ${failed}` : `${(median * 1e3).toPrecision(3).padStart(7)} ms ${times === null ? '' : `${times.toFixed(2)} x tileloom`}`;
  console.log(`${kernel.padEnd(11)} ${shape.padEnd(36)} ${who.padEnd(16)} ${told}`);
}
console.log(`${fights.length} calls on ${availableParallelism()} cores, load ${loadavg()[0].toFixed(1)}: ${((Date.now() - start) / 1000).toFixed(0)} s`);
process.exit(lines.some(({ failed }) => failed) ? 1 : 0);
