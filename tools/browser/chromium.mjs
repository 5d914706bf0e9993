// Chromium without a window, driven by the DevTools protocol over a pair of pipes: messages are JSON, each ends with a zero byte.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const FLAGS = [
  '--headless=new', '--no-sandbox', '--no-first-run', '--disable-quic', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage', '--hide-scrollbars', '--remote-debugging-pipe',
];
// Its adapter on the CPU.
const WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** What `loom export` takes of an adapter, of the facts that run.js tells. */
export function device({ f16, subgroups, immediates, cpu }) {
  const number = immediates ? ['--immediates', String(immediates)] : [];
  return [...(f16 ? ['--f16'] : []), ...(subgroups ? ['--subgroups', subgroups] : []), ...(cpu ? ['--cpu'] : []), ...number];
}

/** Starts it, with WebGPU on this adapter of tools/browser/chromium: `open(url)` gives a page, `close()` ends it. */
export async function launch(adapter, ...flags) {
  const profile = mkdtempSync(join(tmpdir(), 'tileloom-chromium-'));
  const start = new URL('chromium', import.meta.url).pathname;
  const browser = spawn(start, ['run', adapter, ...FLAGS, ...WEBGPU, `--user-data-dir=${profile}`, ...flags], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
  });
  const [, , errors, to, from] = browser.stdio;
  const answers = new Map();
  const listeners = [];
  let next = 1;
  let told = '';
  let ended = null;
  errors.on('data', (text) => (told = (told + text).slice(-4000)));
  to.on('error', () => {}); // `exit` tells
  const gone = new Promise((resolve) => browser.on('exit', resolve)).then((code) => {
    ended = new Error(`chromium ended with status ${code}: ${told.trim().split('\n').slice(-3).join(' | ')}`);
    for (const { reject } of answers.values()) reject(ended);
  });

  // Parts of a message that has no end yet: those with what a page has posted are long.
  let parts = [];
  from.on('data', (bytes) => {
    for (let end; (end = bytes.indexOf(0)) >= 0; bytes = bytes.subarray(end + 1)) {
      const { id, result, error, method, params, sessionId } = JSON.parse(Buffer.concat([...parts, bytes.subarray(0, end)]).toString());
      parts = [];
      if (!id) {
        for (const listener of listeners) if (listener.session === sessionId) listener.hear(method, params);
        continue;
      }
      const { resolve, reject } = answers.get(id);
      answers.delete(id);
      if (error) reject(new Error(error.message));
      else resolve(result);
    }
    if (bytes.length > 0) parts.push(bytes);
  });

  function send(method, params = {}, sessionId = undefined) {
    if (ended) return Promise.reject(ended);
    return new Promise((resolve, reject) => {
      answers.set(next, { resolve, reject });
      to.write(`${JSON.stringify({ id: next++, method, params, sessionId })}\0`);
    });
  }

  /** A page: `errors` and `requests` are what it has said and asked for so far. */
  async function open(url, prepare = async () => {}) {
    const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
    const page = { errors: [], requests: [], send: (method, params) => send(method, params, sessionId) };
    const loaded = new Promise((resolve) => {
      listeners.push({
        session: sessionId,
        hear(method, params) {
          if (method === 'Page.loadEventFired') resolve();
          if (method === 'Inspector.targetCrashed') for (const { reject } of answers.values()) reject(new Error('the page has crashed'));
          if (method === 'Network.requestWillBeSent') page.requests.push(params.request.url);
          if (method === 'Runtime.exceptionThrown') page.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
          if (method === 'Log.entryAdded' && params.entry.level === 'error') page.errors.push(params.entry.text);
          if (method === 'Runtime.consoleAPICalled' && ['error', 'assert'].includes(params.type)) {
            page.errors.push(params.args.map((arg) => arg.value ?? arg.description).join(' '));
          }
        },
      });
    });
    /** What an expression gives in the page; a promise is awaited. */
    page.evaluate = async (expression) => {
      const { result, exceptionDetails } = await page.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    };
    for (const domain of ['Page', 'Runtime', 'Network', 'Log', 'Inspector']) await page.send(`${domain}.enable`);
    await prepare(page);
    await page.send('Page.navigate', { url });
    await loaded;
    return page;
  }

  async function close() {
    send('Browser.close').catch(() => {});
    const killed = setTimeout(() => browser.kill('SIGKILL'), 5000);
    await gone;
    clearTimeout(killed);
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  return { open, close, gone };
}
