// Runs the calls of `loom export` on this browser's WebGPU, and sends back the bytes of what they have written.

/** What the adapter offers, in the words of `loom export`. */
export async function facts() {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('the browser gives no WebGPU adapter');
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const has = (feature) => adapter.features.has(feature);
  return {
    name: [vendor, architecture, device, description].filter(Boolean).join(' '),
    f16: has('shader-f16'),
    subgroups: has('subgroups') ? `${subgroupMinSize}:${subgroupMaxSize}` : null,
    cpu: adapter.info.isFallbackAdapter ?? false,
    immediates: navigator.gpu.wgslLanguageFeatures.has('immediate_address_space') ? adapter.limits.maxImmediateSize ?? 0 : 0,
  };
}

const text = async (path) => (await fetch(path)).text();
const json = async (path) => (await fetch(path)).json();
const pipelines = new Map();

async function compiled(device, { shader, entry }) {
  const module = device.createShaderModule({ code: await text(`shaders/${shader}.wgsl`) });
  const { messages } = await module.getCompilationInfo();
  const error = messages.find(({ type }) => type === 'error');
  if (error) throw new Error(`${entry}: line ${error.lineNum}: ${error.message}`);
  return device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: entry } });
}

/** The pipeline of a step; one for equal shaders. */
function pipeline(device, step) {
  if (!pipelines.has(step.shader)) pipelines.set(step.shader, compiled(device, step));
  return pipelines.get(step.shader);
}

/** What `f` gives, if the device takes all that it asks for; scopes are a stack of the device, so that `f` must not wait. */
async function scoped(device, f) {
  const kinds = ['validation', 'internal', 'out-of-memory'];
  for (const kind of kinds) device.pushErrorScope(kind);
  const result = f();
  const errors = await Promise.all(kinds.map(() => device.popErrorScope()));
  const error = errors.find((found) => found);
  if (error) throw new Error(error.message);
  return result;
}

/**
 * A call in buffers of its own: `call` and `bytes` are its files, `run(times)` submits it, `read()` gives what it has written, one buffer
 * after the other, and `free()` ends it.
 */
export async function load(device, id) {
  const [call, bytes] = await Promise.all([json(`calls/${id}.json`), fetch(`calls/${id}.bin`).then((r) => r.arrayBuffer())]);
  const { steps, buffers } = call;
  const ready = await Promise.all(steps.map((step) => pipeline(device, step)));
  const { STORAGE, UNIFORM, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const made = [];
  const make = (size, usage, from = null, at = 0) => {
    const buffer = device.createBuffer({ size: Math.max(4, size), usage });
    if (from) device.queue.writeBuffer(buffer, 0, from, at, size);
    made.push(buffer);
    return buffer;
  };
  const [own, bound] = await scoped(device, () => {
    let at = 0;
    const own = buffers.map(({ bytes: size }) => make(size, STORAGE | COPY_SRC | COPY_DST, bytes, (at += size) - size));
    const bound = steps.map((step, i) => {
      const entries = step.bindings.map(({ slot, buffer, offset, bytes: size }) => ({ binding: slot, resource: { buffer: own[buffer], offset, size } }));
      const params = new Uint8Array(step.params);
      const immediates = params.length > 0 && step.params_binding == null ? params : null;
      if (params.length > 0 && !immediates) {
        entries.push({ binding: step.params_binding, resource: { buffer: make(params.length, UNIFORM | COPY_DST, params) } });
      }
      return { immediates, group: device.createBindGroup({ layout: ready[i].getBindGroupLayout(0), entries }) };
    });
    return [own, bound];
  });
  const run = (times) => scoped(device, () => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let time = 0; time < times; time += 1) {
      steps.forEach(({ grid }, i) => {
        pass.setPipeline(ready[i]);
        if (bound[i].immediates) pass.setImmediates(0, bound[i].immediates);
        pass.setBindGroup(0, bound[i].group);
        pass.dispatchWorkgroups(...grid);
      });
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
  });
  const read = async () => {
    const written = buffers.flatMap(({ written, bytes: size }, i) => (written ? [[own[i], size]] : []));
    const staging = await scoped(device, () => {
      const staging = make(written.reduce((sum, [, size]) => sum + size, 0), MAP_READ | COPY_DST);
      const encoder = device.createCommandEncoder();
      let at = 0;
      for (const [buffer, size] of written) encoder.copyBufferToBuffer(buffer, 0, staging, (at += size) - size, size);
      device.queue.submit([encoder.finish()]);
      return staging;
    });
    await staging.mapAsync(GPUMapMode.READ);
    return staging.getMappedRange();
  };
  return { call, bytes, run, read, free: () => made.forEach((buffer) => buffer.destroy()) };
}

/** What a call has written. */
async function answer(device, id) {
  const { run, read, free } = await load(device, id);
  try {
    await run(1);
    return (await read()).slice(0);
  } finally {
    free();
  }
}

/** Runs all calls, `together` of them at a time; how many had no answer. */
async function run(together) {
  const { features, calls } = await json('index.json');
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice({ requiredFeatures: features });
  let lost = null;
  device.lost.then(({ message }) => (lost = message || 'the device is lost'));
  let [next, failed] = [0, 0];
  const took = [];
  const work = async () => {
    while (next < calls.length) {
      const id = calls[next++];
      document.querySelector('#told').textContent = `${next} of ${calls.length}: ${id}`;
      const start = performance.now();
      try {
        if (lost) throw new Error(`before it: ${lost}`);
        await fetch(`answers/${id}.bin`, { method: 'POST', body: await answer(device, id) });
      } catch (error) {
        failed += 1;
        await fetch(`answers/${id}.txt`, { method: 'POST', body: lost ?? String(error.message ?? error) });
      }
      took.push([performance.now() - start, id]);
    }
  };
  await Promise.all(Array.from({ length: together }, work));
  document.querySelector('#told').textContent = `${calls.length} calls, ${failed} without an answer`;
  return { calls: calls.length, failed, slowest: took.sort(([a], [b]) => b - a).slice(0, 8) };
}

Object.assign(window, { facts, run });
