import type { LogFields } from '../../shared/log.ts'
import { BLOCK_TOKENS, MAX_INT32 } from './engine-config.ts'

/** Which part of the free memory the engine takes (native/engine/memory_plan.h). With several devices: of one of them. */
export interface NativeMemoryPlan {
  device: 'cpu' | 'cuda'
  /** Devices that share the model. */
  devices: number
  /** Of the configuration, or what suits the device. */
  maxStepTokens: number
  freeBytes: number
  /** What sets the limit, for messages. */
  freeSource: string
  /** The part of `freeBytes` that the engine leaves to others. */
  keptFreeBytes: number
  weightBytes: number
  /** Activations, logits, tables. */
  workspaceBytes: number
  /** Keys and values of a block of 16 tokens, in all layers. */
  blockBytes: number
  kvBytes: number
  numBlocks: number
  /** Why the model does not fit; the plan is then what it would take with the fewest blocks. */
  refusal?: string
}

export interface MemoryPlan extends NativeMemoryPlan {
  /** Tokens of the longest request, prompt and answer: the model's context, or what the pool can hold if that is less. */
  contextTokens: number
  modelContextTokens: number
}

/** The limit of native code. */
export const MAX_BLOCKS = Math.floor(MAX_INT32 / BLOCK_TOKENS)

/** Fewer tokens of context are not worth a start. */
const MIN_CONTEXT_TOKENS = 256
/**
 * Each level of children may leave one block of a path partly empty, and `max_depth` is at most 16: with these blocks to
 * spare, every request that fits the context fits the pool.
 */
const DEPTH_BLOCKS = 15

const depthBlocks = (forks: boolean) => (forks ? DEPTH_BLOCKS : 0)
const blocksOf = (tokens: number) => Math.ceil(tokens / BLOCK_TOKENS)

export function minimumBlocks(contextTokens: number, forks: boolean): number {
  return blocksOf(Math.min(contextTokens, MIN_CONTEXT_TOKENS)) + depthBlocks(forks)
}

/** More blocks than this could only hold prefix cache: every running branch has a full context of its own. */
export function usefulBlocks(contextTokens: number, forks: boolean, maxBranches: number): number {
  // One more per branch: a fork may leave a block partly filled.
  const branches = maxBranches * (blocksOf(contextTokens) + 1)
  return Math.min(MAX_BLOCKS, Math.max(branches, blocksOf(contextTokens) + depthBlocks(forks)))
}

/** Adds the context that this pool can hold. */
export function withContext(plan: NativeMemoryPlan, modelContextTokens: number, forks: boolean): MemoryPlan {
  const held = (plan.numBlocks - depthBlocks(forks)) * BLOCK_TOKENS
  return { ...plan, contextTokens: Math.max(1, Math.min(modelContextTokens, held)), modelContextTokens }
}

/** The plan as a line for an operator, and as fields of the structured log. */
export function describeMemory(plan: MemoryPlan): { message: string; fields: LogFields } {
  const { contextTokens, modelContextTokens, numBlocks } = plan
  const tokens = numBlocks * BLOCK_TOKENS
  const contexts = Math.floor((10 * numBlocks) / blocksOf(modelContextTokens)) / 10
  const each = plan.devices > 1 ? ` on each of ${plan.devices} devices` : ''
  const message = [
    `memory${each}: weights ${size(plan.weightBytes)}, workspace ${size(plan.workspaceBytes)} for steps of ${plan.maxStepTokens} tokens`,
    `KV cache ${size(plan.kvBytes)} = ${numBlocks} blocks = ${tokens} tokens = ${contexts} full contexts`,
    `${size(plan.freeBytes)} were free (${plan.freeSource})`,
    ...(contextTokens < modelContextTokens
      ? [
          `a full context of ${modelContextTokens} tokens does not fit: requests have at most ${contextTokens}`,
        ]
      : []),
  ].join('; ')
  const fields = {
    weight_bytes: plan.weightBytes,
    workspace_bytes: plan.workspaceBytes,
    max_step_tokens: plan.maxStepTokens,
    kv_bytes: plan.kvBytes,
    kv_block_bytes: plan.blockBytes,
    kv_blocks: numBlocks,
    kv_tokens: tokens,
    full_contexts: contexts,
    context_tokens: contextTokens,
    model_context_tokens: modelContextTokens,
    free_bytes: plan.freeBytes,
    kept_free_bytes: plan.keptFreeBytes,
  }
  return { message, fields }
}

function size(bytes: number): string {
  const mebibytes = bytes / 2 ** 20
  return mebibytes < 1024
    ? `${mebibytes.toFixed(mebibytes < 10 ? 1 : 0)} MiB`
    : `${(mebibytes / 1024).toFixed(1)} GiB`
}
