// Runs what the crate's wasm module has, one kernel after the other, and shows what comes of it.

import start, { Page } from './web.js';

const at = (id) => document.querySelector(`#${id}`);

/** A row of a table; a cell is a text, or a text and its class. */
function row(id, cells) {
  const tr = at(id).appendChild(document.createElement('tr'));
  for (const cell of cells) {
    const [text, kind] = [cell].flat();
    const td = tr.appendChild(document.createElement('td'));
    td.textContent = text;
    if (kind) td.className = kind;
  }
}

const outcome = (right) => (right ? 'right' : ['WRONG', 'bad']);
const digits = (value) => value.toPrecision(3);

/** How many checks are right, and wrong. */
const counts = { right: 0, wrong: 0 };
function counted(right) {
  counts[right ? 'right' : 'wrong'] += 1;
  return outcome(right);
}

async function run() {
  if (!navigator.gpu) throw new Error('this browser has no WebGPU');
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new Error('this browser gives no WebGPU adapter');
  const { vendor, architecture, device, description } = adapter.info;
  const name = [vendor, architecture, device, description].filter(Boolean).join(' ') || 'without a name';
  row('adapter', [['adapter', 'faint'], name]);
  await start();
  const page = await Page.open();
  const facts = page.adapter();
  for (let i = 0; i < facts.length; i += 2) row('adapter', [[facts[i], 'faint'], facts[i + 1]]);
  for (let i = 0; i < page.kernels(); i += 1) {
    at('state').textContent = `Kernel ${i + 1} of ${page.kernels()}.`;
    const { kernel, shape, config, right, told, ratio, ms, rate, unit } = await page.run(i);
    row('checks', [kernel, shape, counted(right), [right ? digits(ratio) : told, right ? 'n' : 'bad']]);
    if (right) row('rates', [kernel, [digits(ms), 'n'], [`${digits(rate)} ${unit}`, 'n'], [config, 'faint']]);
  }
  at('state').textContent = 'Tensors.';
  row('checks', ['tensors', 'upload, softmax, read', counted(await page.tensors()), '']);
  for (const { call, told, right } of await page.refused()) {
    row('refused', [call, right ? (counted(right), 'refused') : counted(right), [told, 'faint']]);
  }
  at('state').textContent = 'Small calls of each kernel, for the report.';
  at('report').textContent = await page.verify(`${name}, ${navigator.userAgent}`);
  at('state').textContent = `Done: ${counts.right} checks are right, ${counts.wrong} are wrong.`;
  if (counts.wrong) at('state').className = 'bad';
  return counts;
}

window.done = run().catch((error) => {
  at('state').textContent = `It stopped: ${error.message ?? error}`;
  at('state').className = 'bad';
  throw error;
});
