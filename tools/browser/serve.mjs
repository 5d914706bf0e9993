// A server of files for pages under test: localhost, where WebGPU is.

import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const TYPES = {
  html: 'text/html', js: 'text/javascript', mjs: 'text/javascript', css: 'text/css', json: 'application/json', wasm: 'application/wasm', wgsl: 'text/plain',
};

/** Serves files of `folders`, the first that has one; a POST to `answers/` is written there, into the last. */
export async function serve(...folders) {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url.slice(1)) || 'index.html';
    const answer = (status, body, type = 'text/plain') => response.writeHead(status, { 'content-type': type }).end(body);
    if (!/^([\w@.-]+\/)*[\w.-]+$/.test(path) || path.includes('..')) return answer(404, 'no such file');
    if (request.method === 'POST' && path.startsWith('answers/')) {
      const parts = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => {
        writeFileSync(join(folders.at(-1), path), Buffer.concat(parts));
        answer(200, '');
      });
      return undefined;
    }
    for (const folder of folders) {
      try {
        return answer(200, readFileSync(join(folder, path)), TYPES[path.split('.').pop()] ?? 'application/octet-stream');
      } catch {
        // the next one may have it
      }
    }
    return answer(404, 'no such file');
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://localhost:${server.address().port}`, close: () => server.close() };
}
