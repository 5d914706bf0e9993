// Runs the calls of `loom export` on this browser's WebGPU, and sends back the bytes of what they have written.

/** What the adapter offers, in the words of `loom export`. */
async function facts() {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('the browser gives no WebGPU adapter');
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const has = (feature) => adapter.features.has(feature);
  return {
    name: [vendor, architecture, device, description].filter(Boolean).join(' '),
    f16: has('shader-f16'),
    subgroups: has('subgroups') ? `${subgroupMinSize}:${subgroupMaxSize}` : null,
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

/** The buffers that a call has written, one after the other. */
async function answer(device, id) {
  const [{ steps, buffers }, bytes] = await Promise.all([json(`calls/${id}.json`), fetch(`calls/${id}.bin`).then((r) => r.arrayBuffer())]);
  const ready = await Promise.all(steps.map((step) => pipeline(device, step)));
  const made = [];
  const make = (size, usage) => {
    const buffer = device.createBuffer({ size: Math.max(4, size), usage });
    made.push(buffer);
    return buffer;
  };
  const { STORAGE, UNIFORM, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;

  for (const kind of ['validation', 'internal', 'out-of-memory']) device.pushErrorScope(kind);
  let at = 0;
  const own = buffers.map((buffer) => {
    const gpu = make(buffer.bytes, STORAGE | COPY_SRC | COPY_DST);
    device.queue.writeBuffer(gpu, 0, bytes, at, buffer.bytes);
    at += buffer.bytes;
    return gpu;
  });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  steps.forEach((step, i) => {
    const entries = step.bindings.map(({ slot, buffer, offset, bytes: size }) => ({ binding: slot, resource: { buffer: own[buffer], offset, size } }));
    const params = new Uint8Array(step.params);
    pass.setPipeline(ready[i]);
    if (params.length > 0 && step.params_binding != null) {
      const buffer = make(params.length, UNIFORM | COPY_DST);
      device.queue.writeBuffer(buffer, 0, params);
      entries.push({ binding: step.params_binding, resource: { buffer } });
    } else if (params.length > 0) {
      pass.setImmediates(0, params);
    }
    pass.setBindGroup(0, device.createBindGroup({ layout: ready[i].getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(...step.grid);
  });
  pass.end();
  const written = buffers.map((buffer, i) => ({ ...buffer, gpu: own[i] })).filter((buffer) => buffer.written);
  const staging = make(written.reduce((sum, { bytes: size }) => sum + size, 0), MAP_READ | COPY_DST);
  at = 0;
  for (const { gpu, bytes: size } of written) {
    encoder.copyBufferToBuffer(gpu, 0, staging, at, size);
    at += size;
  }
  device.queue.submit([encoder.finish()]);
  const errors = await Promise.all([1, 2, 3].map(() => device.popErrorScope()));
  const error = errors.find((found) => found);
  if (error) throw new Error(error.message);
  await staging.mapAsync(GPUMapMode.READ);
  const found = staging.getMappedRange().slice(0, at);
  made.forEach((buffer) => buffer.destroy());
  return found;
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
