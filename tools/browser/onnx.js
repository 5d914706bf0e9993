// Graphs of a few nodes as ONNX models: the protocol buffers of onnx.proto3, as far as these need them.

/** A number of so many bytes of seven bits; -1 has ten of them. */
function varint(value) {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes = [];
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return [...bytes, Number(rest)];
}

/** Fields by their numbers: a number, a text, bytes, or a list of these; `{ float }` is one of 4 bytes. */
function message(fields) {
  return Object.entries(fields).flatMap(([number, values]) => [values].flat().flatMap((value) => {
    const key = (kind) => varint((Number(number) << 3) | kind);
    if (typeof value === 'number') return [...key(0), ...varint(value)];
    if (value.float !== undefined) return [...key(5), ...new Uint8Array(new Float32Array([value.float]).buffer)];
    const bytes = typeof value === 'string' ? [...new TextEncoder().encode(value)] : value.bytes;
    return [...key(2), ...varint(bytes.length), ...bytes];
  }));
}

const nested = (fields) => ({ bytes: message(fields) });

/** A tensor of f32 with its shape: ValueInfoProto. */
const value = ({ name, shape }) => nested({ 1: name, 2: nested({ 1: nested({ 1: 1, 2: nested({ 1: shape.map((n) => nested({ 1: n })) }) }) }) });

/** AttributeProto: a list of integers, an integer, or else a float. */
function attribute(name, own) {
  if (Array.isArray(own)) return nested({ 1: name, 8: own, 20: 7 });
  return Number.isInteger(own) ? nested({ 1: name, 3: own, 20: 2 }) : nested({ 1: name, 2: { float: own }, 20: 1 });
}

const node = ({ op, domain = '', in: inputs, out, ...attributes }) =>
  nested({ 1: inputs, 2: out, 4: op, 5: Object.entries(attributes).map(([name, own]) => attribute(name, own)), 7: domain });

/** TensorProto of one f32. */
const scalar = ([name, own]) => nested({ 2: 1, 8: name, 9: { bytes: [...new Uint8Array(new Float32Array([own]).buffer)] } });

/** A model of these nodes, `{ op, in, out, domain, ..attributes }`, in bytes; constants are numbers by name. */
export function model(nodes, inputs, outputs, constants = {}) {
  const graph = nested({ 1: nodes.map(node), 2: 'graph', 5: Object.entries(constants).map(scalar), 11: inputs.map(value), 12: outputs.map(value) });
  const opset = (domain, version) => nested({ 1: domain, 2: version });
  return new Uint8Array(message({ 1: 9, 7: graph, 8: [opset('', 20), opset('com.microsoft', 1)] }));
}
