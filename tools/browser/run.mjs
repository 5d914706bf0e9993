// Runs telling calls of each kernel on the WebGPU of headless Chromium, and lets loom judge what they gave.
//
//   node tools/browser/run.mjs LOOM DIR [--adapter ADAPTER] [--full] [--enabled] [--report FILE] [KERNEL..]     DIR: where calls and answers go
//
// --full: every Problem of `loom check`; else the smallest of each case, where it has at most 2^18 operations and bytes. --enabled: only
// calls of shaders that enable f16 or subgroups. ADAPTER, of tools/browser/chromium, is on the CPU.

import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { device, launch } from './chromium.mjs';
import { serve } from './serve.mjs';

const [loom, dir, ...rest] = process.argv.slice(2);
/** The word behind an option, and both taken out. */
function option(name, otherwise) {
  const i = rest.indexOf(name);
  return i < 0 ? otherwise : rest.splice(i, 2)[1];
}
const adapter = option('--adapter', 'swiftshader');
const file = option('--report', null);
const only = [...(rest.includes('--full') ? [] : ['--quick']), ...(rest.includes('--enabled') ? ['--enabled'] : [])];
// In a browser shuffles are left alone, since nothing tells which lanes are neighbours. Those of lavapipe are known.
const env = { ...process.env, ...(adapter === 'lavapipe' ? { TILELOOM_TRAPS: 'off:shuffles' } : {}) };
const kernels = rest.filter((word) => !word.startsWith('--'));

/** The page itself, calls and shaders; answers are written beside them. */
const server = await serve(new URL('.', import.meta.url).pathname, dir);

function timed(what, start) {
  console.log(`${what}: ${((Date.now() - start) / 1000).toFixed(1)} s`);
}

let start = Date.now();
const browser = await launch(adapter);
const page = await browser.open(`${server.url}/run.html`);
const facts = await page.evaluate('facts()');
console.log(`Chromium on ${facts.name}: f16 ${facts.f16}, subgroups ${facts.subgroups ?? 'none'}, ${facts.immediates} bytes of immediates`);
timed('browser', start);

start = Date.now();
// Choices for GPUs, since these are what browsers run.
console.log(execFileSync(loom, ['export', resolve(dir), ...kernels, ...device({ ...facts, cpu: false }), ...only], { encoding: 'utf8', env }).trim());
timed('export', start);
if (rest.includes('--enabled') && !facts.f16 && !facts.subgroups) {
  console.log('this browser enables neither f16 nor subgroups: nothing is tested');
  process.exit(1);
}

start = Date.now();
const { calls, failed, slowest } = await page.evaluate('run(4)');
for (const error of page.errors.slice(0, 10)) console.log(`the page says: ${error}`);
await browser.close();
server.close();
for (const [ms, id] of slowest) console.log(`${(ms / 1000).toFixed(1)} s ${id}`);
timed(`${calls} calls, ${failed} without an answer`, start);

start = Date.now();
let right = true;
try {
  const options = ['--adapter', `chromium-${adapter}`, ...(file ? ['--report', resolve(file)] : [])];
  console.log(execFileSync(loom, ['judge', resolve(dir), ...options], { encoding: 'utf8', maxBuffer: 1 << 28, env }));
} catch (error) {
  console.log(error.stdout ?? '', error.stderr ?? error.message);
  right = false;
}
timed('judge', start);
process.exit(right ? 0 : 1);
