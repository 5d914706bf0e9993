// Holds every shader that the composition tests compose against Tint, the WGSL compiler of Chromium.
//
//   node tools/browser/tint.mjs DAWN DIR     DAWN: the npm package `webgpu`, unpacked; DIR: what TILELOOM_SHADERS has written
//
// Dawn's null backend validates, and runs nothing. Shaders without a source in Dawn's dialect are left out, and counted by name:
// those with cooperative matrices, and those that `prepare` refuses in a browser.

import { fork } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';

const [dawn, dir, child] = process.argv.slice(2);
const BARRIER = '@compute @workgroup_size(64) fn f(@builtin(local_invocation_index) i: u32) { if i < 8u { workgroupBarrier(); } }';

/** Of the files that are sent, one by one: what is accepted, left out, and rejected. */
async function validate() {
  const machine = process.platform === 'darwin' ? 'darwin-universal' : `${process.platform}-${process.arch}`;
  const { create } = createRequire(import.meta.url)(resolve(dawn, 'dist', machine, 'dawn.node'));
  const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
  process.gpu = gpu; // it must outlive all that comes of it
  const adapter = await gpu.requestAdapter();
  const device = await adapter.requestDevice({ requiredFeatures: ['shader-f16', 'subgroups'] });

  /** The first error of a source, if it has any; and how many warnings. */
  async function compile(source) {
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ code: source });
    const { messages } = await module.getCompilationInfo();
    const told = (await device.popErrorScope())?.message;
    const error = messages.find(({ type }) => type === 'error');
    const line = error && source.split('\n')[error.lineNum - 1]?.trim();
    return { error: error ? `${line}: ${error.message}` : told, warnings: messages.filter(({ type }) => type === 'warning').length };
  }

  if (!(await compile(BARRIER)).error) throw new Error('Tint accepts a barrier that some invocations do not reach');
  process.on('message', async (file) => {
    const found = { accepted: [], warnings: 0, left: [], rejected: [] };
    for (const line of readFileSync(join(dir, file), 'utf8').split('\n').filter(Boolean)) {
      const { what, source, lacks } = JSON.parse(line);
      const stem = what.split(' ')[0];
      if (lacks) {
        found.left.push([stem, lacks]);
        continue;
      }
      const { error, warnings } = await compile(source);
      found.warnings += warnings;
      if (error) found.rejected.push([stem, error, what]);
      else found.accepted.push(stem);
    }
    process.send(found);
  });
  process.send(null);
}

/** Gives files to as many processes as there are cores. */
async function all() {
  const files = readdirSync(dir).filter((name) => name.endsWith('.jsonl')).sort();
  const founds = [];
  const work = () => new Promise((done, fail) => {
    const own = fork(process.argv[1], [dawn, dir, 'child']);
    let ended = false;
    own.on('message', (found) => {
      if (found) founds.push(found);
      const next = files.shift();
      if (next) return own.send(next);
      ended = true;
      return own.kill();
    });
    own.on('exit', (code, signal) => (ended ? done() : fail(new Error(`Dawn ended with ${signal ?? code}`))));
  });
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  const every = (key) => founds.flatMap((found) => found[key]);
  const count = (words) => words.reduce((counts, word) => counts.set(word, (counts.get(word) ?? 0) + 1), new Map());
  const [accepted, left, rejected] = [every('accepted'), every('left'), every('rejected')];
  const example = new Map(rejected.map(([stem, error, what]) => [`${stem}: ${error}`, what]));
  for (const [fault, times] of count(rejected.map(([stem, error]) => `${stem}: ${error}`))) {
    console.log(`REJECTED ${times} x ${fault}\n  such as ${example.get(fault)}`);
  }
  for (const [reason, times] of count(left.map(([stem, lacks]) => `${stem} needs ${lacks}`))) console.log(`left out ${times} x ${reason}`);
  const warnings = founds.reduce((sum, found) => sum + found.warnings, 0);
  console.log(`${accepted.length} shaders accepted, ${rejected.length} rejected, ${left.length} left out, ${warnings} warnings`);
  // A test is a shader file, in all its forms.
  const failed = new Set(rejected.map(([stem]) => stem));
  const passed = new Set(accepted.filter((stem) => !failed.has(stem)));
  const skipped = new Set(left.map(([stem]) => stem).filter((stem) => !failed.has(stem) && !passed.has(stem)));
  if (passed.size + failed.size === 0) console.log(`there is no shader in ${dir}`);
  const right = passed.size > 0 && failed.size === 0;
  console.log(`test result: ${right ? 'ok' : 'FAILED'}. ${passed.size} passed; ${failed.size} failed; ${skipped.size} ignored`);
  process.exit(right ? 0 : 1);
}

await (child ? validate() : all());
