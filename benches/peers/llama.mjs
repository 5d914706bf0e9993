// What benches/peers/llama runs: node llama.mjs MODEL SMOLLM2 OUT DRIVER TURNS. In each turn a process of each side computes a prompt
// of 128 tokens and decodes 64 after 32, once unmeasured and once measured. The greedy tokens after a prompt must be tileloom's.
import {execFileSync, spawn} from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import {fileURLToPath} from "node:url";

const PROMPT = 128, DECODE_PROMPT = 32, DECODE = 64, GREEDY = 16;
const TEXT = "A canal boat carries coal to the mill and flour back to the town, and its keeper knows each lock by name. ";
const PACKAGES = path.join(process.env.LLAMA, "node_modules");
const F32 = {GGML_VK_DISABLE_COOPMAT: "1", GGML_VK_DISABLE_F16: "1"};
// The default of llama.cpp is not its best on each driver.
const SIDES = [
    {who: "llama.cpp (Vulkan)", gpu: "vulkan", env: {}},
    {who: "llama.cpp (Vulkan, f32)", gpu: "vulkan", env: F32},
    {who: "llama.cpp (CPU)", gpu: "cpu", env: {}}
];

const [, , model, smollm2, out, driver, turns] = process.argv;
const own = fileURLToPath(import.meta.url);
const through = driver && driver !== "native" ? ["tools/drivers", "run", driver] : [];

if (model === "worker") await work(...process.argv.slice(3));
else await measure();

// One process of llama.cpp: its rates and tokens, as JSON in a file.
async function work(file, gpu, script, answer) {
    // Before it loads a binary, node-llama-cpp tries it in a process of process.execPath, which tools/drivers may have replaced by ld.so.
    process.execPath = script;
    const {getLlama, LlamaLogLevel} = await import(path.join(PACKAGES, "node-llama-cpp/dist/index.js"));
    const threads = os.availableParallelism();
    const llama = await getLlama({
        gpu: gpu === "cpu" ? false : gpu, build: "never", maxThreads: threads, logLevel: LlamaLogLevel.error
    });
    const weights = await llama.loadModel({modelPath: file, gpuLayers: gpu === "cpu" ? 0 : "max"});
    const context = await weights.createContext({contextSize: 1024, batchSize: 512, threads, sequences: 1});
    const sequence = context.getSequence(), ids = weights.tokenize(TEXT.repeat(10)).slice(0, PROMPT);

    // Seconds to the first token and from it to the last, and the tokens.
    async function run(prompt, more) {
        await sequence.clearHistory();
        const start = performance.now(), tokens = [];
        let first = 0, last = 0;
        for await (const token of sequence.evaluate(ids.slice(0, prompt), {temperature: 0, yieldEogToken: true})) {
            last = performance.now();
            first ||= last;
            if (tokens.push(token) > more) break;
        }
        return {prompt: (first - start) / 1000, decode: (last - first) / 1000, tokens};
    }

    const {tokens} = await run(PROMPT, GREEDY - 1);
    const prefill = (await run(PROMPT, 0)).prompt;
    await run(DECODE_PROMPT, 1);
    const decode = (await run(DECODE_PROMPT, DECODE)).decode / DECODE;
    fs.writeFileSync(answer, JSON.stringify({ids, tokens, prefill, decode, release: llama.llamaCppRelease.release}));
    process.exit(0); // its threads would go on
}

async function llama({gpu, env}) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "llama-"));
    const [script, answer] = ["node", "answer"].map((name) => path.join(folder, name));
    const node = fs.realpathSync(process.execPath), via = gpu === "cpu" ? [] : through;
    fs.writeFileSync(script, `#!/bin/sh\nexec ${[...via.map((word, i) => i ? word : path.resolve(word)), node].join(" ")} "$@"\n`, {mode: 0o755});
    try {
        await lines([...via, node, own, "worker", model, gpu, script, answer], {GGML_VK_VISIBLE_DEVICES: "0", ...env}, () => false);
        return JSON.parse(fs.readFileSync(answer, "utf8"));
    } finally {
        fs.rmSync(folder, {recursive: true});
    }
}

// The lines that a command prints, until `enough` says so; it is ended then.
function lines(command, env, enough) {
    return new Promise((resolve, reject) => {
        const child = spawn(command[0], command.slice(1), {env: {...process.env, ...env}, stdio: ["ignore", "pipe", "pipe"]});
        let text = "", done = false;
        const hear = (part) => {
            text += part;
            if (!done && enough(text)) {
                done = true;
                child.kill();
            }
        };
        child.stdout.on("data", hear);
        child.stderr.on("data", hear);
        child.on("error", reject);
        child.on("close", (code, signal) => {
            const last = text.trim().split("\n").at(-1);
            if (done || code === 0) resolve(text);
            else reject(new Error(`${path.basename(command[0])} ended by ${signal ?? `code ${code}`}: ${last}`));
        });
    });
}

async function tileloom() {
    const decoded = /decode: ([\d.]+) of .*, 1 per submit\)/;
    const text = await lines([...through, smollm2, model, "--bench", `${PROMPT}`, "--runs", "1"], {}, (text) => decoded.test(text));
    const [, name, backend, version] = /^(.*) \((\w+), (.*)\), weights/m.exec(text);
    const rate = (pattern) => Number(pattern.exec(text)[1]);
    return {name, backend, version, prefill: PROMPT / rate(/prompt of \d+: ([\d.]+)/), decode: 1 / rate(decoded)};
}

async function greedy(ids) {
    const command = [...through, smollm2, model, "--greedy", `${GREEDY}`, "--tokens", ids.join(",")];
    const text = await lines(command, {}, () => false);
    return /^\d+(,\d+)+$/m.exec(text)[0].split(",").map(Number);
}

function quantile(values, q) {
    const sorted = values.toSorted((a, b) => a - b), at = q * (sorted.length - 1), low = Math.floor(at);
    return sorted[low] + (sorted[Math.ceil(at)] - sorted[low]) * (at - low);
}

async function measure() {
    const sides = [{who: "tileloom", run: tileloom}, ...SIDES.map((side) => ({who: side.who, run: () => llama(side)}))];
    for (const side of sides) Object.assign(side, {prefill: [], decode: [], failed: undefined});
    let expected, facts = {};
    for (let turn = 0; turn < Number(turns); turn++) {
        for (let i = 0; i < sides.length; i++) {
            const side = sides[(i + turn) % sides.length];
            if (side.failed) continue;
            console.error(`turn ${turn + 1} of ${turns}: ${side.who}`);
            try {
                const found = await side.run();
                if (side.who === "tileloom") facts = found;
                else {
                    expected ??= await greedy(found.ids);
                    const at = expected.findIndex((token, i) => token !== found.tokens[i]);
                    if (at >= 0) throw new Error(`wrong: token ${at} is ${found.tokens[at]}, tileloom's is ${expected[at]}`);
                    side.release = found.release;
                }
                side.prefill.push(found.prefill);
                side.decode.push(found.decode);
            } catch (error) {
                side.failed = error.message;
            }
        }
    }
    const line = (shape, key, tokens) => sides.map((side) => {
        const head = {kernel: "smollm2", shape, who: side.who, config: ""};
        if (side.failed) return {...head, failed: side.failed};
        const median = quantile(side[key], 0.5), base = sides[0].failed ? null : quantile(sides[0][key], 0.5);
        return {
            ...head, samples: side[key].length, calls_per_sample: key === "decode" ? DECODE : 1, median_s: median,
            p10_s: quantile(side[key], 0.1), p90_s: quantile(side[key], 0.9), tokens_per_s: tokens / median,
            times_tileloom: base && median / base
        };
    });
    const version = (lock, name) => new RegExp(`name = "${name}"\nversion = "(.*)"`).exec(fs.readFileSync(lock, "utf8"))?.[1] ?? "unknown";
    const lock = "examples/smollm2/Cargo.lock", {release} = sides.find((side) => side.release) ?? {};
    const npm = JSON.parse(fs.readFileSync(path.join(PACKAGES, "node-llama-cpp/package.json"), "utf8")).version;
    const report = {
        schema: 2, adapter: facts.name ?? driver, name: facts.name ?? "", driver: facts.version ?? driver, backend: facts.backend ?? "",
        clock: "wall time: of a prompt until its first token, of a token while 64 are decoded",
        facts: {
            os: `${os.platform()} ${os.arch()}`, device_type: "", tileloom: version(lock, "tileloom"), wgpu: version(lock, "wgpu"),
            naga: version(lock, "naga"), checks: "off: trusted modules", load: os.loadavg()[0], suite: "", seed: 0,
            commit: execFileSync("git", ["describe", "--always", "--dirty", "--abbrev=12"], {encoding: "utf8"}).trim(),
            command: `benches/peers/llama OUT.json ${driver} ${turns}`, time: Math.floor(Date.now() / 1000)
        },
        peers: [`llama.cpp ${release ?? "of no version"} (node-llama-cpp ${npm}, ${path.basename(model)})`],
        lines: [...line(`prefill ${PROMPT}`, "prefill", PROMPT), ...line("decode", "decode", 1)]
    };
    fs.writeFileSync(out, JSON.stringify(report, null, 2) + "\n");
    for (const {shape, who, failed, tokens_per_s} of report.lines) {
        console.log(`${shape.padEnd(12)} ${who.padEnd(24)} ${failed ? `FAILED: ${failed}` : `${tokens_per_s.toFixed(1)} tokens/s`}`);
    }
    process.exitCode = sides.some((side) => side.failed) ? 1 : 0;
}
