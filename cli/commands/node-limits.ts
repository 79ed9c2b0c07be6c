import { Option } from 'commander'
import { MAX_BLOCKS } from '../../gpu-node/engine/memory-plan.ts'
import { byteSize, decimal, integer } from '../options.ts'

/** Options of `apar gpu-node` that say how much it holds and computes at a time: what a sweep may vary. */
export const NODE_LIMITS = {
  blocks: {
    value: '<n>',
    what: 'KV blocks of 16 tokens (default: --max-branches full contexts, or what the free memory holds)',
    parse: integer(1, MAX_BLOCKS),
  },
  'kv-cache-memory-bytes': {
    value: '<size>',
    what: 'size of the KV cache, such as 4GiB, instead of --blocks',
    parse: byteSize,
  },
  watermark: {
    value: '<share>',
    what: 'share of the KV blocks that new requests leave free for running ones, below 1 (default 0.01)',
    parse: decimal(0, 0.99),
  },
  'max-branches': {
    value: '<n>',
    what: 'branches that decode at the same time (default 64)',
    parse: integer(1, 4096),
  },
  'max-step-tokens': {
    value: '<n>',
    what: 'tokens in one forward pass (default 2048 on a GPU, else 512)',
    parse: integer(1, 65_536),
  },
  'max-requests': {
    value: '<n>',
    what: 'waiting and running requests together (default 256)',
    parse: integer(1, 65_536),
  },
} as const
export type NodeLimit = keyof typeof NODE_LIMITS

export function limitOption(name: NodeLimit): Option {
  const { value, what, parse } = NODE_LIMITS[name]
  return new Option(`--${name} ${value}`, what).argParser(parse)
}
