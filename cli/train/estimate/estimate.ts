import type { ModelShape } from '../../../gpu-node/engine/engine-config.ts'
import { estimateMemory, type Layout, type MemoryEstimate } from './memory.ts'
import { countLora, countParameters } from './parameters.ts'
import type { ProductRate } from './product-rate.ts'
import { flopsPerToken, tokensPerSecond } from './time.ts'

/** Of a run of any kind, and the machine for it. */
export interface RunShape {
  readonly shape: ModelShape
  readonly packTokens: { readonly cpu: number; readonly cuda: number }
  /** Longest path of the data, if it is known; else of the model or of the settings. */
  readonly contextTokens: number
  /** What the whole run trains; undefined while there are no data. */
  readonly runTokens: number | undefined
  readonly gpus: number
  /** Of each, in bytes. */
  readonly gpuMemory: number
  /** Operations a second of a large product on each. */
  readonly gpuRate: number
  /** Of this machine's CPU; undefined without an environment to measure it in. */
  readonly cpu: ProductRate | undefined
  readonly cpuMemory: number
  /** Of a value of the arithmetic. */
  readonly valueBytes: { readonly cpu: 2 | 4; readonly cuda: 2 | 4 }
}

export interface EstimateOptions extends RunShape {
  /** Rank of the rows with LoRA. */
  readonly lora: number
  /** With --distillation, which the rows with LoRA have. */
  readonly distills: boolean
}

export interface EstimateRow {
  readonly trains: 'all weights' | 'LoRA'
  readonly device: 'cpu' | 'cuda'
  readonly layout: Layout
  readonly processes: number
  /** With and without the computing again of activations. */
  readonly plain: Variant
  readonly checkpointed: Variant
}

export interface Variant {
  readonly memory: MemoryEstimate
  readonly fits: boolean
  /** Undefined where the device's rate is not known. */
  readonly tokensPerSecond: number | undefined
  readonly hours: number | undefined
}

export interface Estimate {
  readonly parameters: number
  readonly loraParameters: number
  readonly loraRank: number
  readonly runTokens: number | undefined
  readonly rows: readonly EstimateRow[]
}

/** What the libraries take of a device, and the allocator does not use. */
export const SLACK = 1.1
/** A device's own share: its context, or the program's code and libraries. */
export const LIBRARIES = 1e9

export function estimate(options: EstimateOptions): Estimate {
  const { shape, lora, runTokens } = options
  return {
    parameters: countParameters(shape).total,
    loraParameters: countLora(shape, lora),
    loraRank: lora,
    runTokens,
    rows: [undefined, lora].flatMap((rank) => rows(rank, options)),
  }
}

function rows(lora: number | undefined, options: EstimateOptions): EstimateRow[] {
  const trains = lora === undefined ? 'all weights' : 'LoRA'
  const shared: Layout[] = options.gpus > 1 ? ['ddp', 'fsdp'] : []
  const layouts = [
    { device: 'cpu', layout: 'one', processes: 1 } as const,
    { device: 'cuda', layout: 'one', processes: 1 } as const,
    ...shared.map((layout) => ({ device: 'cuda', layout, processes: options.gpus }) as const),
  ]
  return layouts.map((where) => ({
    trains,
    ...where,
    plain: variant(lora, where, false, options),
    checkpointed: variant(lora, where, true, options),
  }))
}

function variant(
  lora: number | undefined,
  { device, layout, processes }: { device: 'cpu' | 'cuda'; layout: Layout; processes: number },
  checkpointActivations: boolean,
  options: EstimateOptions,
): Variant {
  const { shape, contextTokens, runTokens } = options
  const packTokens = options.packTokens[device]
  const valueBytes = options.valueBytes[device]
  const distills = options.distills && lora !== undefined
  const how = { device, lora, layout, processes, packTokens, checkpointActivations, distills, valueBytes }
  const memory = estimateMemory(shape, how)
  const room = device === 'cpu' ? options.cpuMemory : options.gpuMemory
  const rate = device === 'cpu' ? options.cpu?.flops : options.gpuRate
  // A token sees half of its path in the mean.
  const flops = flopsPerToken(shape, {
    lora,
    checkpointActivations,
    distills,
    meanContext: contextTokens / 2,
  })
  const speed = rate === undefined ? undefined : tokensPerSecond(flops, rate, device, processes)
  return {
    memory,
    fits: memory.total * SLACK + LIBRARIES <= room,
    tokensPerSecond: speed,
    hours: speed === undefined || runTokens === undefined ? undefined : runTokens / speed / 3600,
  }
}
