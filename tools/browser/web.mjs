// Opens the page of examples/web in Chromium: in light and dark, as wide as a phone and as a desk.
//
//   node tools/browser/web.mjs DIR [ADAPTER]     DIR: what tools/browser/web has built; screenshots go there. ADAPTER: of tools/browser/chromium
//
// Each check of the page is a test. Besides, each kernel has a rate, the report is whole, no error is told, and a phone does not scroll
// sideways.

import { resolve } from 'node:path';
import { launch } from './chromium.mjs';
import { LOOKS, checks, shoot, wear } from './looks.mjs';
import { serve } from './serve.mjs';

const [dir, adapter = 'swiftshader'] = process.argv.slice(2);
const server = await serve(dir);
const browser = await launch(adapter);
const { check, worn, end } = checks();

/** Runs in the page: its tables, cell by cell, and its texts. */
function shown() {
  const rows = (id) => [...document.querySelectorAll(`#${id} tr`)].map((tr) => [...tr.querySelectorAll('td')].map((td) => td.innerText));
  const [adapter, checks, rates, refused] = ['adapter', 'checks', 'rates', 'refused'].map((id) => rows(id).filter((row) => row.length > 0));
  const [state, report] = ['state', 'report'].map((id) => document.querySelector(`#${id}`).innerText);
  return { adapter, checks, rates, refused, state, report };
}

const start = Date.now();
const page = await browser.open(`${server.url}/index.html`);
const told = await page.evaluate('window.done').catch((error) => check('the page', false, error.message));
const { adapter: facts, checks: held, rates, refused, state, report } = await page.evaluate(`(${shown})()`);
const text = (rows) => rows.map((row) => `  ${row.join(' | ')}\n`).join('');
console.log(`${state} ${((Date.now() - start) / 1000).toFixed(1)} s\n${text([...facts, ...held, ...rates, ...refused])}${report}`);

for (const [kernel, shape, outcome, error] of held) check(`${kernel} ${shape}`, outcome === 'right', error);
for (const [call, outcome, error] of refused) check(call, outcome === 'refused', error);
check('the page is done', told?.wrong === 0 && told.right === held.length + refused.length, state);
check('each kernel has a rate', rates.length === held.length - 1 && rates.every(([, ms, rate]) => parseFloat(ms) > 0 && parseFloat(rate) > 0), text(rates));
check('pointers have 32 bits', facts.some(([name, fact]) => name === 'pointers' && fact === '32 bits'), text(facts));
check('the report', report.split('\n').length === 6 && report.includes(`right:   ${rates.length} of ${rates.length} problems`), report);
check('the report names what it can', report.includes('on an adapter without a name, wasm32\ndriver:  BrowserWebGpu'), report);
check('requests', page.requests.every((asked) => asked.startsWith(server.url)), page.requests.join(' '));
for (const look of LOOKS) {
  await wear(page, look);
  await shoot(page, resolve(dir, `web-${look.name}.png`));
  await worn(page, look);
}
await browser.close();
server.close();
end();
