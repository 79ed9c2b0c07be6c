import { randomInt } from 'node:crypto'
import { z } from 'zod'
import { Priority, Weight } from '../../shared/api-keys.ts'
import { AparError } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { Speculation } from '../../shared/protocol/speculation.ts'
import { CLOSINGS, type DrySampling, drySampling, NO_DRY, sparingClosings } from './dry-sampling.ts'
import { count, MAX_INT32, type ModelShape } from './engine-config.ts'
import { FINISH } from './engine-events.ts'

const int32Array: z.ZodType<Int32Array, Int32Array> = z.instanceof(Int32Array)
const float32Array: z.ZodType<Float32Array, Float32Array> = z.instanceof(Float32Array)

/** The reference's defaults: 32 branches, one level below the root. */
export const DEFAULT_MAX_BRANCHES = 32
const DEFAULT_MAX_DEPTH = 2

/** A grammar that the engine has loaded (Engine.loadGrammar). Requests share it. */
export interface EngineGrammar {
  readonly __engineGrammar: never
}

/** On whose behalf a request runs (native/core/fair_shares.h). */
const EngineTenant = z.strictObject({
  id: z.int().min(0).max(MAX_INT32),
  weight: Weight,
  priority: Priority,
})
export type EngineTenant = z.infer<typeof EngineTenant>
/** All requests without a tenant together. */
export const NO_TENANT: EngineTenant = { id: 0, weight: 1, priority: 0 }

/**
 * The schema of an engine request, for a model with this vocabulary size. TypeScript validates, C++ executes: a parsed
 * request is safe to pass to native code. Options that a caller leaves out are off, except for `speculation`.
 */
export function engineRequestSchema(vocabSize: number) {
  const ids = int32Array.refine((array) => array.every((id) => id >= 0 && id < vocabSize), {
    error: 'holds an id that is not in the vocabulary',
  })
  return z.strictObject({
    /** Must not be in use. */
    id: count,
    prompt: ids.refine((array) => array.length > 0, { error: 'is empty' }),
    /** New tokens of all branches together. */
    maxTokens: count,
    /** Most branches of this request that are alive at the same time, the root included; 1 decodes serially. */
    maxBranches: count.default(1),
    /** Largest depth of a branch; the root has depth 1, so 1 decodes serially. */
    maxDepth: count.default(1),
    /** 0 is greedy. */
    temperature: z.number().min(0).max(100).default(0),
    topP: z.number().gt(0).max(1).default(1),
    /** 0 turns it off. */
    topK: z.int().min(0).max(MAX_INT32).default(0),
    minP: z.number().min(0).max(1).default(0),
    /** 1 turns it off. */
    repetitionPenalty: z.number().min(1e-6).max(100).default(1),
    /** Subtracted from a token's logit for each occurrence in the branch's answer; 0 turns it off. */
    frequencyPenalty: z.number().min(-100).max(100).default(0),
    /** Subtracted once from the logit of a token that occurs in the branch's answer; 0 turns it off. */
    presencePenalty: z.number().min(-100).max(100).default(0),
    /** Tokens with one of these texts keep their logits, whatever these penalties say. */
    unpenalised: z.array(z.string().min(1)).max(32).default([]),
    /** "Don't repeat yourself" (native/core/dry_penalty.h); a multiplier of 0 turns it off. */
    dry: z
      .strictObject({
        multiplier: z.number().min(0).max(100),
        base: z.number().min(1).max(100),
        allowedLength: count,
        /** -1: the whole path. */
        penaltyLastN: z.int().min(-1).max(MAX_INT32),
        sequenceBreakers: z.array(z.string().min(1)).max(32),
      })
      .default(NO_DRY),
    seed: z.int().min(0).max(0xffff_ffff).default(0),
    /** New tokens of the root before which no token ends it. */
    minTokens: z.int().min(0).max(MAX_INT32).default(0),
    /** The model's end tokens do not end the root. */
    ignoreEos: z.boolean().default(false),
    /** Token ids that end a branch, in addition to the model's. */
    stopTokens: ids.default(new Int32Array()),
    /** Strings that end a branch at the token that completes one of them. */
    stop: z.array(z.string().min(1)).default([]),
    /** `document`: only text between two forks counts, which is one piece in document order too. */
    stopScope: z.enum(['branch', 'document']).default('branch'),
    /** Most new tokens of one branch; 0 sets no limit per branch. */
    maxBranchTokens: z.int().min(0).max(MAX_INT32).default(0),
    /** Most likely tokens to report beside the sampled one; -1 reports none. */
    logprobs: z.int().min(-1).max(20).default(-1),
    /** The same for the tokens of the prompt, from the second on. */
    promptLogprobs: z.int().min(-1).max(20).default(-1),
    /** `values[i]` is added to the logit of `tokens[i]`. */
    logitBias: z
      .strictObject({
        tokens: ids,
        values: float32Array.refine((array) => array.every(Number.isFinite)),
      })
      .refine(({ tokens, values }) => tokens.length === values.length, {
        error: 'tokens and values differ in length',
      })
      .default({ tokens: new Int32Array(), values: new Float32Array() }),
    /**
     * The branches of a request that another engine began, or with which it begins, in order of id, the root first: this
     * engine continues them with the same texts, numbers and limits, and reports no events for what they have. Beside a
     * `grammar` they have no control tokens. Empty: there is no token yet.
     */
    branches: z
      .array(
        z.strictObject({
          id: z.int().min(0).max(MAX_INT32),
          /** -1 for the root. */
          parent: z.int().min(-1).max(MAX_INT32),
          /** Of [Fork], or of the last token before the child, in the parent's path with the prompt; -1 for the root. */
          forkPosition: z.int().min(-1).max(MAX_INT32),
          /** The branch's own tokens, including [Fork] and the forced [Child]. */
          tokens: ids,
          /** FINISH reason; 0 if the branch has not ended. */
          ended: z.int().min(0).max(FINISH.ERROR),
        }),
      )
      .default([]),
    /** What the request answers (ForcedBranch in shared/protocol/node.ts). Empty: what the model says. */
    forced: z.array(z.strictObject({ parent: z.int().min(-1).max(MAX_INT32), tokens: ids })).default([]),
    tenant: EngineTenant.default(NO_TENANT),
    /** Where draft tokens may come from, of what the engine was opened with. It changes no text. */
    speculation: Speculation.default('auto'),
    /** What each path of the answer must match: of Engine.loadGrammar. It has no forks but those of `branches`. */
    grammar: z.custom<EngineGrammar>().optional(),
    /** Report what each step computes for the request (EVENT.TRACE). */
    trace: z.boolean().default(false),
  })
}

export type EngineRequest = z.input<ReturnType<typeof engineRequestSchema>>
/** A branch that another engine began. */
export type RestoredBranch = NonNullable<EngineRequest['branches']>[number]

/** What a request's defaults and limits depend on: a part of a checkpoint. */
export interface RequestDefaults {
  readonly shape: Pick<ModelShape, 'contextTokens' | 'vocabSize'>
  readonly tokens: { readonly fork: number | undefined }
  /** Of the model: requests cannot exceed them. */
  readonly branchLimits: { readonly maxBranches?: number | undefined; readonly maxDepth?: number | undefined }
  readonly sampling: Pick<WholeRequest, 'temperature' | 'topP' | 'topK' | 'minP' | 'repetitionPenalty'> & {
    readonly dry: DrySampling
  }
}

/** All fields are required here: an option that is not mapped from GenerateRequest is a compile error. */
type WholeRequest = Required<Omit<EngineRequest, 'grammar'>> & Pick<EngineRequest, 'grammar'>

/**
 * Converts a request for the engine. Absent sampling fields take the checkpoint's values. `max_tokens` is limited to the
 * rest of the context: the prompt and the new tokens of all branches together must fit.
 * @throws AparError `context_length_exceeded` when the prompt leaves no room for an answer.
 */
export function toEngineRequest(
  id: number,
  request: GenerateRequest,
  prompt: Int32Array,
  { shape, tokens, branchLimits, sampling }: RequestDefaults,
  branches: RestoredBranch[],
  grammar?: EngineGrammar,
): WholeRequest {
  const room = shape.contextTokens - prompt.length
  if (room < 1) {
    const message = `messages: the prompt has ${prompt.length} tokens, the context ${shape.contextTokens}`
    throw new AparError('context_length_exceeded', message, { param: 'messages' })
  }
  const maxTokens = Math.min(request.max_tokens ?? room, room)
  const { enabled = true, max_branches, max_depth, max_branch_tokens } = request.branching ?? {}
  const forks = enabled && tokens.fork !== undefined && !grammar
  const dry = drySampling(request, sampling.dry)
  const depth = forks ? least(max_depth ?? DEFAULT_MAX_DEPTH, branchLimits.maxDepth) : depthOf(branches)
  return {
    id,
    prompt,
    maxTokens,
    maxBranches: forks
      ? least(max_branches ?? DEFAULT_MAX_BRANCHES, branchLimits.maxBranches)
      : Math.max(1, branches.length),
    maxDepth: depth,
    temperature: orGreedy(request.temperature ?? sampling.temperature),
    topP: request.top_p ?? sampling.topP,
    topK: request.top_k ?? sampling.topK,
    minP: request.min_p ?? sampling.minP,
    repetitionPenalty: request.repetition_penalty ?? sampling.repetitionPenalty,
    frequencyPenalty: request.frequency_penalty ?? 0,
    presencePenalty: request.presence_penalty ?? 0,
    unpenalised: grammar ? [...CLOSINGS] : [],
    dry: grammar ? sparingClosings(dry) : dry,
    seed: request.seed === undefined || request.seed < 0 ? randomInt(2 ** 32) : request.seed,
    minTokens: Math.min(request.min_tokens ?? 0, maxTokens),
    ignoreEos: request.ignore_eos ?? false,
    stopTokens: stopTokens(request.stop_token_ids ?? [], shape.vocabSize),
    // The engine takes UTF-8, in which a lone surrogate is U+FFFD, as in StopMatcher.
    stop: (request.stop ?? []).map((stop) => stop.toWellFormed()),
    stopScope: request.stop_scope ?? 'branch',
    maxBranchTokens: max_branch_tokens ?? 0,
    logprobs: request.logprobs ?? -1,
    promptLogprobs: request.prompt_logprobs ?? -1,
    branches,
    forced: [],
    logitBias: toLogitBias(request.logit_bias ?? {}, shape.vocabSize),
    tenant: NO_TENANT,
    speculation: request.speculation ?? 'auto',
    trace: request.trace ?? false,
    ...(grammar && { grammar }),
  }
}

/** Of the deepest one; parents come before their children. */
function depthOf(branches: readonly RestoredBranch[]): number {
  const depths = new Map<number, number>()
  for (const { id, parent } of branches) depths.set(id, (depths.get(parent) ?? 0) + 1)
  return Math.max(1, ...depths.values())
}

function least(value: number, limit: number | undefined): number {
  return limit === undefined ? value : Math.min(value, limit)
}

/** So low a temperature gives the most likely token, but divides by a number that single precision may not have. */
function orGreedy(temperature = 0): number {
  return temperature < 1e-6 ? 0 : temperature
}

/** @throws AparError `invalid_request` for a token id outside the vocabulary. */
function stopTokens(ids: readonly number[], vocabSize: number): Int32Array {
  const stray = ids.findIndex((id) => id >= vocabSize)
  if (stray === -1) return Int32Array.from(ids)
  const param = `stop_token_ids.${stray}`
  throw new AparError('invalid_request', `${param}: the model has ${vocabSize} tokens`, { param })
}

/** @throws AparError `invalid_request` for a token id outside the vocabulary. */
function toLogitBias(bias: Record<string, number>, vocabSize: number): WholeRequest['logitBias'] {
  const entries = Object.entries(bias)
  const stray = entries.find(([token]) => Number(token) >= vocabSize)
  if (stray) {
    const param = `logit_bias.${stray[0]}`
    throw new AparError('invalid_request', `${param}: the model has ${vocabSize} tokens`, { param })
  }
  return {
    tokens: Int32Array.from(entries, ([token]) => Number(token)),
    values: Float32Array.from(entries, ([, value]) => value),
  }
}
