// Times calls of tileloom and the same by others, in turns, on one adapter of this browser; all of f32. Each side has its inputs on the
// device and leaves its result there: a sample is some calls, and the wait for them.

import * as ort from './node_modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs';
import * as jax from './node_modules/@jax-js/jax/dist/index.js';
import { facts, load } from './run.js';
import { model } from './onnx.js';

/** Milliseconds of a sample, at least; samples of a side. */
const [SAMPLE, TURNS] = [40, 7];
const SQRT_HALF = Math.SQRT1_2;

/**
 * What is computed, by the name of a call: shapes of its arguments, the output last, and how each peer does it. Who is of
 * `tokens_first` gets the first two axes swapped, on the host.
 */
const OPS = {
  'gemm.256': gemm(256),
  'gemm.512': gemm(512),
  'softmax.': {
    args: { x: [1024, 1024], y: [1024, 1024] },
    onnx: [{ op: 'Softmax', in: ['x'], out: 'y', axis: -1 }],
    tf: ({ x }) => tf.softmax(x),
    jax: ({ x }) => jax.nn.softmax(x),
  },
  'norm.layer': {
    args: { x: [1024, 1024], weight: [1024], bias: [1024], y: [1024, 1024] },
    onnx: [{ op: 'LayerNormalization', in: ['x', 'weight', 'bias'], out: 'y', axis: -1, epsilon: 1e-5 }],
    tf: ({ x, weight, bias }) => {
      const { mean, variance } = tf.moments(x, -1, true);
      return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-5))), weight), bias);
    },
    jax: ({ x, weight, bias }) => jax.nn.standardize(x, -1, { epsilon: 1e-5 }).mul(weight).add(bias),
  },
  'norm.rms': {
    args: { x: [1024, 1024], weight: [1024], y: [1024, 1024] },
    onnx: [{ op: 'SimplifiedLayerNormalization', in: ['x', 'weight'], out: 'y', axis: -1, epsilon: 1e-6 }],
    tf: ({ x, weight }) => tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-6))), weight),
    jax: ({ x, weight }) => {
      const square = jax.numpy.mean(jax.numpy.square(x.ref), -1, { keepdims: true }).add(1e-6);
      return x.div(jax.numpy.sqrt(square)).mul(weight);
    },
  },
  'attention.': {
    args: { q: [8, 256, 64], k: [8, 256, 64], v: [8, 256, 64], o: [8, 256, 64] },
    tokens_first: ['jax'],
    onnx: [
      { op: 'Transpose', in: ['k'], out: 't', perm: [0, 2, 1] },
      { op: 'MatMul', in: ['q', 't'], out: 'r' },
      { op: 'Mul', in: ['r', 'scale'], out: 's' },
      { op: 'Softmax', in: ['s'], out: 'p', axis: -1 },
      { op: 'MatMul', in: ['p', 'v'], out: 'o' },
    ],
    constants: { scale: 0.125 },
    tf: ({ q, k, v }) => tf.matMul(tf.softmax(tf.mul(tf.matMul(q, k, false, true), 0.125)), v),
    jax: ({ q, k, v }) => jax.nn.dotProductAttention(q, k, v),
  },
  'conv.': {
    args: { x: [1, 64, 32, 32], weight: [64, 64, 3, 3], y: [1, 64, 32, 32] },
    onnx: [{ op: 'Conv', in: ['x', 'weight'], out: 'y', pads: [1, 1, 1, 1], kernel_shape: [3, 3] }],
    // Channels last, as it likes them: once before, and once behind.
    tf_before: ({ x, weight }) => ({ x: tf.transpose(x, [0, 2, 3, 1]), weight: tf.transpose(weight, [2, 3, 1, 0]) }),
    tf: ({ x, weight }) => tf.conv2d(x, weight, 1, 'same'),
    tf_behind: (y) => tf.transpose(y, [0, 3, 1, 2]),
    jax: ({ x, weight }) => jax.lax.conv(x, weight, [1, 1], 'SAME'),
  },
  'activation.gelu': {
    args: { x: [1024, 1024], y: [1024, 1024] },
    onnx: [{ op: 'Gelu', in: ['x'], out: 'y' }],
    tf: ({ x }) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, SQRT_HALF)), 1)),
    jax: ({ x }) => jax.nn.gelu(x, { approximate: false }),
  },
};

function gemm(n) {
  return {
    args: { a: [n, n], b: [n, n], d: [n, n] },
    onnx: [{ op: 'MatMul', in: ['a', 'b'], out: 'd' }],
    tf: ({ a, b }) => tf.matMul(a, b),
    jax: ({ a, b }) => jax.numpy.matmul(a, b),
  };
}

const size = (shape) => shape.reduce((product, n) => product * n, 1);

/** `[rows, columns, rest]` with rows and columns swapped. */
function swapped(values, [rows, columns, rest]) {
  const out = new Float32Array(values.length);
  for (let i = 0; i < rows; i += 1) {
    for (let j = 0; j < columns; j += 1) out.set(values.subarray((i * columns + j) * rest, (i * columns + j + 1) * rest), (j * rows + i) * rest);
  }
  return out;
}

/** Values of the inputs, as a peer wants them. */
function inputs(op, who, { call, bytes }) {
  const starts = call.buffers.map(((at) => (buffer) => (at += buffer.bytes) - buffer.bytes)(0));
  const bindings = call.steps.flatMap((step) => step.bindings);
  return Object.entries(op.args).slice(0, -1).map(([name, shape]) => {
    const { buffer, offset } = bindings.find((binding) => binding.name === name);
    const values = new Float32Array(bytes.slice(starts[buffer] + offset, starts[buffer] + offset + 4 * size(shape)));
    if (!op.tokens_first?.includes(who)) return { name, shape, values };
    const [rows, columns, ...rest] = shape;
    return { name, shape: [columns, rows, ...rest], values: swapped(values, shape) };
  });
}

/** What the call would have written: buffers as they were, with this output. */
function written(op, who, { call, bytes }, values) {
  const [name, shape] = Object.entries(op.args).at(-1);
  const { buffer: own, offset } = call.steps.flatMap((step) => step.bindings).find((binding) => binding.name === name);
  const [rows, columns, ...rest] = shape;
  const out = op.tokens_first?.includes(who) ? swapped(values, [columns, rows, ...rest]) : values;
  let at = 0;
  const parts = call.buffers.flatMap((buffer, i) => {
    const part = new Uint8Array(bytes.slice(at, (at += buffer.bytes)));
    if (i === own) part.set(new Uint8Array(out.buffer, out.byteOffset, 4 * size(shape)), offset);
    return buffer.written ? [part] : [];
  });
  return new Blob(parts);
}

/** Sides by name: each prepares a call, and gives `run(times)`, which waits, `read()`, and `free()`. */
const SIDES = {
  tileloom: async (_, device, id) => {
    const { run, read, free } = await load(device, id);
    return {
      run: async (times) => {
        await run(times);
        await device.queue.onSubmittedWorkDone();
      },
      read: async () => new Blob([await read()]),
      free,
    };
  },
  onnx: async (op, _, id, own) => {
    const all = inputs(op, 'onnx', own);
    const [out, shape] = Object.entries(op.args).at(-1);
    const graph = model(op.onnx, all, [{ name: out, shape }], op.constants);
    const session = await ort.InferenceSession.create(graph, {
      executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer', extra: { session: { disable_cpu_ep_fallback: '1' } },
    });
    const device = await ort.env.webgpu.device;
    const buffers = [];
    const feeds = Object.fromEntries(all.map(({ name, shape: dims, values }) => {
      const buffer = device.createBuffer({ size: values.byteLength, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC });
      device.queue.writeBuffer(buffer, 0, values);
      buffers.push(buffer);
      return [name, ort.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims })];
    }));
    return {
      run: async (times) => {
        for (let time = 0; time < times; time += 1) (await session.run(feeds))[out].dispose();
        await device.queue.onSubmittedWorkDone();
      },
      read: async () => written(op, 'onnx', own, await (await session.run(feeds))[out].getData(true)),
      free: async () => {
        await session.release();
        buffers.forEach((buffer) => buffer.destroy());
      },
    };
  },
  tf: async (op, _, id, own) => {
    const all = Object.fromEntries(inputs(op, 'tf', own).map(({ name, shape, values }) => [name, tf.tensor(values, shape)]));
    const ready = op.tf_before ? op.tf_before(all) : all;
    const once = () => tf.tidy(() => op.tf(ready));
    return {
      run: async (times) => {
        for (let time = 0; time < times; time += 1) once().dispose();
        // What it has not submitted by itself.
        const backend = tf.backend();
        backend.endComputePassEncoder();
        if (backend.commandEncoder) backend.submitQueue();
        await backend.device.queue.onSubmittedWorkDone();
      },
      read: async () => {
        const y = tf.tidy(() => (op.tf_behind ?? ((y) => y))(op.tf(ready)));
        const values = await y.data();
        y.dispose();
        return written(op, 'tf', own, values);
      },
      free: () => [...new Set([...Object.values(all), ...Object.values(ready)])].forEach((tensor) => tensor.dispose()),
    };
  },
  jax: async (op, _, id, own) => {
    const all = Object.fromEntries(inputs(op, 'jax', own).map(({ name, shape, values }) => [name, jax.numpy.array(values, { shape })]));
    const compiled = jax.jit(op.jax);
    const once = () => compiled(Object.fromEntries(Object.entries(all).map(([name, array]) => [name, array.ref])));
    return {
      run: async (times) => {
        const ys = Array.from({ length: times }, once);
        for (const y of ys) await y.blockUntilReady();
        ys.forEach((y) => y.dispose());
      },
      read: async () => written(op, 'jax', own, await once().data()),
      free: () => Object.values(all).forEach((array) => array.dispose()),
    };
  },
};

async function clock(run) {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

/** All sides of a call, in turns: samples in seconds of a call, calls of a sample, or why there are none. Results are sent back. */
async function fight(device, id, out) {
  const op = Object.entries(OPS).find(([start]) => id.startsWith(start))[1];
  const own = await load(device, id);
  own.free();
  const sides = [];
  for (const [who, prepare] of Object.entries(SIDES)) {
    const side = { who, samples: [], calls: 1 };
    sides.push(side);
    out(`${id}: ${who}`);
    try {
      Object.assign(side, await prepare(op, device, id, own));
      await side.run(1);
      while (side.calls < 4096 && (await clock(() => side.run(side.calls))) < SAMPLE) side.calls *= 2;
    } catch (error) {
      side.failed = String(error.message ?? error);
    }
  }
  for (let turn = 0; turn < TURNS; turn += 1) {
    out(`${id}: turn ${turn + 1} of ${TURNS}`);
    for (let i = 0; i < sides.length; i += 1) {
      const side = sides[(i + turn) % sides.length];
      if (side.failed) continue;
      try {
        side.samples.push((await clock(() => side.run(side.calls))) / side.calls / 1000);
      } catch (error) {
        side.failed = String(error.message ?? error);
      }
    }
  }
  // What was timed is what is judged.
  for (const side of sides) {
    if (!side.failed) {
      try {
        await fetch(`answers/${side.who}/${id}.bin`, { method: 'POST', body: await side.read() });
      } catch (error) {
        side.failed = String(error.message ?? error);
      }
    }
    await side.free?.();
  }
  return { id, sides: sides.map(({ who, samples, calls, failed }) => ({ who, samples, calls, failed })) };
}

async function run() {
  const out = (text) => (document.querySelector('#told').textContent = text);
  const index = await (await fetch('index.json')).json();
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice({ requiredFeatures: index.features });
  ort.env.wasm.wasmPaths = new URL('node_modules/onnxruntime-web/dist/', location.href).href;
  ort.env.logLevel = 'error';
  await tf.setBackend('webgpu');
  await tf.ready();
  await jax.init('webgpu');
  jax.defaultDevice('webgpu');
  // What the adapter flushes is the same for all.
  for (const id of index.calls.filter((id) => id.startsWith('flush'))) {
    const { run: once, read } = await load(device, id);
    await once(1);
    const body = (await read()).slice(0);
    for (const who of Object.keys(SIDES)) await fetch(`answers/${who}/${id}.bin`, { method: 'POST', body });
  }
  const fights = [];
  for (const id of index.calls.filter((id) => !id.startsWith('flush'))) fights.push(await fight(device, id, out));
  return fights;
}

Object.assign(window, { facts, run });
