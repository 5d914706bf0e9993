// Runs telling calls of each kernel on the WebGPU of headless Chromium, and lets loom judge what they gave.
//
//   node tools/browser/run.mjs LOOM DIR [--full] [--report FILE] [KERNEL..]     DIR: where calls and answers go
//
// --full: every Problem of `loom check`; else the smallest of each case, where it has at most 2^18 operations and bytes. Chromium's
// adapter is SwiftShader, on the CPU.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join, resolve } from 'node:path';
import { launch } from './chromium.mjs';

const [loom, dir, ...rest] = process.argv.slice(2);
const full = rest.includes('--full');
const file = rest.includes('--report') ? rest[rest.indexOf('--report') + 1] : null;
const kernels = rest.filter((word, i) => !word.startsWith('--') && rest[i - 1] !== '--report');

const here = new URL('.', import.meta.url).pathname;
const types = { html: 'text/html', js: 'text/javascript', json: 'application/json', wgsl: 'text/plain' };
/** The page itself, calls and shaders; answers are written beside them. */
const server = createServer((request, response) => {
  const path = decodeURIComponent(request.url.slice(1));
  const answer = (status, body, type = 'text/plain') => response.writeHead(status, { 'content-type': type }).end(body);
  if (!/^([\w-]+\/)?[\w.-]+$/.test(path) || path.includes('..')) return answer(404, 'no such file');
  if (request.method === 'POST' && path.startsWith('answers/')) {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      writeFileSync(join(dir, path), Buffer.concat(parts));
      answer(200, '');
    });
    return undefined;
  }
  try {
    const folder = ['run.html', 'run.js'].includes(path) ? here : dir;
    return answer(200, readFileSync(join(folder, path)), types[path.split('.').pop()] ?? 'application/octet-stream');
  } catch {
    return answer(404, 'no such file');
  }
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));

function timed(what, start) {
  console.log(`${what}: ${((Date.now() - start) / 1000).toFixed(1)} s`);
}

let start = Date.now();
const browser = await launch('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader');
const page = await browser.open(`http://localhost:${server.address().port}/run.html`);
const facts = await page.evaluate('facts()');
console.log(`Chromium on ${facts.name}: f16 ${facts.f16}, subgroups ${facts.subgroups ?? 'none'}, ${facts.immediates} bytes of immediates`);
const device = [...(facts.f16 ? ['--f16'] : []), ...(facts.subgroups ? ['--subgroups', facts.subgroups] : [])];
if (facts.immediates) device.push('--immediates', String(facts.immediates));
timed('browser', start);

start = Date.now();
console.log(execFileSync(loom, ['export', resolve(dir), ...kernels, ...device, ...(full ? [] : ['--quick'])], { encoding: 'utf8' }).trim());
timed('export', start);

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
  const options = ['--adapter', 'chromium-swiftshader', ...(file ? ['--report', resolve(file)] : [])];
  console.log(execFileSync(loom, ['judge', resolve(dir), ...options], { encoding: 'utf8', maxBuffer: 1 << 28 }));
} catch (error) {
  console.log(error.stdout ?? '', error.stderr ?? error.message);
  right = false;
}
timed('judge', start);
process.exit(right ? 0 : 1);
