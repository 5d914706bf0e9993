// What tests of pages share: the looks that a page must stand, screenshots, and counts of checks.

import { writeFileSync } from 'node:fs';

/** In light and dark, as wide as a phone and as a desk. */
export const LOOKS = ['light', 'dark'].flatMap((scheme) =>
  [390, 1280].map((width) => ({ scheme, width, at: `${scheme}, ${width} px`, name: `${scheme}-${width}` })),
);

/** Gives a page this look. */
export async function wear(page, { scheme, width }) {
  await page.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
  await page.send('Emulation.setDeviceMetricsOverride', { width, height: 844, deviceScaleFactor: 1, mobile: width < 600 });
}

/** A picture of the whole page. */
export async function shoot(page, file) {
  const { data } = await page.send('Page.captureScreenshot', { captureBeyondViewport: true, format: 'png' });
  writeFileSync(file, Buffer.from(data, 'base64'));
}

/** Runs in the page: how dark and how wide it is. */
function seen() {
  const back = getComputedStyle(document.body).backgroundColor;
  return {
    dark: back.match(/\d+/g).slice(0, 3).every((v) => v < 128),
    width: document.documentElement.scrollWidth,
    view: document.documentElement.clientWidth,
  };
}

/** Checks, counted; those that fail are told. */
export function checks() {
  let [passed, failed] = [0, 0];
  const check = (what, right, told = '') => {
    if (right) passed += 1;
    else failed += 1;
    if (!right) console.log(`FAILED ${what}: ${told}`);
  };
  return {
    check,
    /** The page has told no error, has this look, and fits its width. */
    async worn(page, { scheme, width, at }) {
      const { dark, width: own, view } = await page.evaluate(`(${seen})()`);
      check(`${at}: errors`, page.errors.length === 0, page.errors.join('; '));
      check(`${at}: colours`, dark === (scheme === 'dark'), `the background is ${dark ? 'dark' : 'light'}`);
      check(`${at}: width`, own <= view && view === width, `${own} px of content in ${view}`);
    },
    /** Tells the sums, and ends the program. */
    end() {
      console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed; 0 ignored`);
      process.exit(failed ? 1 : 0);
    },
  };
}
