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

/** Of the files that are sent, one by one: what was accepted, left out, and rejected. */
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
    const found = { passed: 0, warnings: 0, left: [], rejected: [] };
    for (const line of readFileSync(join(dir, file), 'utf8').split('\n').filter(Boolean)) {
      const { what, source, lacks } = JSON.parse(line);
      const stem = what.split(' ')[0];
      if (lacks) {
        found.left.push(`${stem} needs ${lacks}`);
        continue;
      }
      const { error, warnings } = await compile(source);
      found.warnings += warnings;
      if (error) found.rejected.push([`${stem}: ${error}`, what]);
      else found.passed += 1;
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
  const count = (words) => words.reduce((counts, word) => counts.set(word, (counts.get(word) ?? 0) + 1), new Map());
  const sum = (key) => founds.reduce((total, found) => total + found[key], 0);
  const [left, rejected] = [founds.flatMap((found) => found.left), founds.flatMap((found) => found.rejected)];
  const example = new Map(rejected);
  for (const [fault, times] of count(rejected.map(([fault]) => fault))) console.log(`REJECTED ${times} x ${fault}\n  such as ${example.get(fault)}`);
  for (const [stem, times] of count(left)) console.log(`left out ${times} x ${stem}`);
  const [passed, failed] = [sum('passed'), rejected.length];
  console.log(`${sum('warnings')} warnings`);
  if (passed + failed === 0) console.log(`there is no shader in ${dir}`);
  const right = passed > 0 && failed === 0;
  console.log(`test result: ${right ? 'ok' : 'FAILED'}. ${passed} passed; ${failed} failed; ${left.length} ignored`);
  process.exit(right ? 0 : 1);
}

await (child ? validate() : all());
