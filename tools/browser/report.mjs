// Looks at the page of `loom report` in Chromium: in light and dark, as wide as a phone and as a desk.
//
//   node tools/browser/report.mjs LOOM DIR FILE.json..     DIR: where the page and its screenshots go
//
// Nothing is asked of the network, no error is told, every name and figure of the files is there, charts are drawn, and a
// phone does not scroll sideways.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { launch } from './chromium.mjs';
import { LOOKS, checks, shoot, wear } from './looks.mjs';

const [loom, dir, ...files] = process.argv.slice(2);
execFileSync(loom, ['report', ...files, '--out', dir], { stdio: ['ignore', 'ignore', 'inherit'] });
const reports = files.flatMap((file) => JSON.parse(readFileSync(file, 'utf8')));

/** As loom writes numbers; an exact tie may be rounded either way. */
function digits(value, places = value >= 100 ? 0 : value >= 10 ? 1 : 2) {
  return [...new Set([value.toFixed(places), (value * (1 - 1e-15)).toFixed(places)])];
}

function duration(seconds) {
  const [unit, factor] = [['ns', 1e9, 1e-6], ['µs', 1e6, 1e-3], ['ms', 1e3, 1], ['s', 1, Infinity]].find(([, , below]) => seconds < below);
  return digits(seconds * factor).map((text) => `${text} ${unit}`);
}

/** What the page must say: each a list, of which one is enough. */
function wanted() {
  const all = [];
  for (const report of reports) {
    all.push([report.adapter], [report.name], [report.driver]);
    for (const { name, rate, reason } of report.ceilings ?? []) all.push([name], rate ? digits(rate) : [reason]);
    for (const line of report.lines) {
      all.push([line.kernel], [line.shape]);
      if (line.failed || line.skipped) all.push([line.failed ?? line.skipped]);
      if (line.median_s === undefined) continue;
      const times = [line.median_s, line.p10_s, line.p90_s, line.wall_s, line.best_s, line.worst_s, ...(line.thirds_s ?? [])];
      all.push([line.config], ...times.filter((s) => s != null).map(duration));
      all.push(...[line.gflops, line.gb_per_s, line.roofline].map((v) => digits(v)));
      all.push(digits(100 * line.share, 0).map((text) => `${text} %`), digits(line.error_ratio, 2));
      if (line.doubt) all.push([line.doubt]);
    }
  }
  return all;
}

/** Runs in the page, with every line open. */
function opened() {
  for (const details of document.querySelectorAll('details')) details.open = true;
  const box = (element) => element.getBoundingClientRect();
  const drawn = (selector) => {
    const all = [...document.querySelectorAll(selector)];
    return { all: all.length, drawn: all.filter((e) => box(e).width > 0 && box(e).height > 0).length };
  };
  return {
    text: document.body.textContent,
    shown: document.body.innerText.length,
    tracks: drawn('.track'),
    fills: drawn('.fill'),
    charts: drawn('svg'),
    lines: drawn('polyline'),
    dots: drawn('circle'),
    labels: drawn('svg text'),
  };
}

const browser = await launch('swiftshader', '--allow-file-access-from-files', '--host-resolver-rules=MAP * ~NOTFOUND');
const { check, worn, end } = checks();

const url = pathToFileURL(resolve(dir, 'report.html')).href;
const measured = reports.flatMap((report) => report.lines).filter((line) => line.median_s !== undefined);
const curved = measured.some((line) => /, n=\d+$/.test(line.shape));
for (const look of LOOKS) {
  const { at, name } = look;
  const page = await browser.open(url, async (page) => {
    await page.send('Network.emulateNetworkConditions', { offline: true, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
    await wear(page, look);
  });
  await shoot(page, resolve(dir, `report-${name}.png`));
  const seen = await page.evaluate(`(${opened})()`);
  await shoot(page, resolve(dir, `report-${name}-open.png`));
  await worn(page, look);
  check(`${at}: requests`, page.requests.every((asked) => asked === url), page.requests.join(' '));
  const missing = wanted().filter((any) => !any.some((text) => seen.text.includes(text)));
  check(`${at}: figures`, missing.length === 0 && seen.shown > 1000, missing.slice(0, 8).map((any) => any[0]).join(' | '));
  const whole = ({ all, drawn }) => all > 0 && all === drawn;
  check(`${at}: bars`, whole(seen.tracks) && seen.tracks.all === measured.length && seen.fills.drawn > 0, JSON.stringify(seen.tracks));
  for (const kind of ['charts', 'lines', 'dots', 'labels']) check(`${at}: ${kind}`, whole(seen[kind]), JSON.stringify(seen[kind]));
  const charts = reports.filter((report) => report.lines.length > 0).length + (curved ? 1 : 0);
  check(`${at}: rooflines and curves`, seen.charts.all >= charts, `${seen.charts.all} charts, at least ${charts} are wanted`);
}
await browser.close();
end();
