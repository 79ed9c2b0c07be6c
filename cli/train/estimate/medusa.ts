import Table from 'cli-table3'
import type { ModelShape } from '../../../gpu-node/engine/engine-config.ts'
import { PLAIN_TABLE, showBinaryBytes, showCount, showTable } from '../../models/show.ts'
import type { HeadsKind } from '../settings.ts'
import { LIBRARIES, type RunShape, SLACK } from './estimate.ts'
import { layerActivations, type MemoryEstimate } from './memory.ts'
import { countParameters } from './parameters.ts'
import { showHours, showLayout } from './report.ts'
import { tokensPerSecond } from './time.ts'

/** Medusa heads on a model. */
export interface HeadsShape {
  readonly heads: number
  /** Residual blocks of a head. */
  readonly layers: number
  readonly kind: HeadsKind
  /** Tokens that heads draft, where they share the model's matrix; default: all. */
  readonly draftVocab?: number | undefined
}

export interface MedusaOptions extends RunShape {
  readonly heads: HeadsShape
}

export interface MedusaRow {
  readonly device: 'cpu' | 'cuda'
  readonly layout: 'one' | 'ddp'
  readonly processes: number
  readonly memory: MemoryEstimate
  readonly fits: boolean
  readonly tokensPerSecond: number | undefined
  readonly hours: number | undefined
}

export interface MedusaEstimate {
  readonly parameters: number
  /** Of all heads together. */
  readonly trained: number
  readonly runTokens: number | undefined
  readonly rows: readonly MedusaRow[]
}

const F32 = 4
/** As the trainer's (model/head_loss.py): of the logits that are made at once. */
const CHUNK_BYTES = { cpu: 32 * 2 ** 20, cuda: 512 * 2 ** 20 }

export function countHeads(
  { hiddenSize, vocabSize }: ModelShape,
  { heads, layers, kind }: HeadsShape,
): number {
  const matrix = hiddenSize * hiddenSize
  const head = layers * (matrix + hiddenSize) + (kind === 'own' ? vocabSize * hiddenSize : 0)
  return heads * head + (kind === 'conditioned' ? matrix : 0)
}

/** The memory of one process and the speed of training heads: the model is frozen, and only the heads have gradients. */
export function estimateMedusa(options: MedusaOptions): MedusaEstimate {
  const { shape, heads, runTokens, gpus } = options
  const places = [
    { device: 'cpu', layout: 'one', processes: 1 } as const,
    { device: 'cuda', layout: 'one', processes: 1 } as const,
    ...(gpus > 1 ? [{ device: 'cuda', layout: 'ddp', processes: gpus } as const] : []),
  ]
  const rows = places.map((place) => row(place, options))
  return { parameters: countParameters(shape).total, trained: countHeads(shape, heads), runTokens, rows }
}

function row(
  { device, layout, processes }: Pick<MedusaRow, 'device' | 'layout' | 'processes'>,
  options: MedusaOptions,
): MedusaRow {
  const { shape, heads, contextTokens, runTokens } = options
  const memory = headsMemory(options, device, layout)
  const rate = device === 'cpu' ? options.cpu?.flops : options.gpuRate
  const flops = headsFlops(shape, heads, contextTokens / 2)
  const speed = rate === undefined ? undefined : tokensPerSecond(flops, rate, device, processes)
  return {
    ...{ device, layout, processes, memory },
    fits: memory.total * SLACK + LIBRARIES <= (device === 'cpu' ? options.cpuMemory : options.gpuMemory),
    tokensPerSecond: speed,
    hours: speed === undefined || runTokens === undefined ? undefined : runTokens / speed / 3600,
  }
}

function headsMemory(
  { shape, heads, ...options }: MedusaOptions,
  device: 'cpu' | 'cuda',
  layout: 'one' | 'ddp',
): MemoryEstimate {
  const valueBytes = options.valueBytes[device]
  const trained = countHeads(shape, heads)
  const matrix = heads.kind === 'own' ? shape.vocabSize * shape.hiddenSize : 0
  const weights = countParameters(shape).total * valueBytes + trained * F32 + matrix * valueBytes
  // DDP sums gradients in buckets of its own; the gradient of a matrix is made whole before it is added.
  const gradients = trained * F32 * (layout === 'ddp' ? 2 : 1) + matrix * F32
  const optimizer = trained * 2 * F32
  // Of the frozen model one layer at a time; of each head input, product, SiLU and sum of a block.
  const kept = heads.heads * (heads.layers * 4 + 1) * shape.hiddenSize * valueBytes
  const working = 2 * layerActivations(shape, undefined, valueBytes) + shape.hiddenSize * valueBytes
  const activations = options.packTokens[device] * (kept + working) + 2 * CHUNK_BYTES[device]
  return { weights, gradients, optimizer, activations, total: weights + gradients + optimizer + activations }
}

/** Floating-point operations for one token: the frozen model's forward pass without its head, and the heads' both. */
function headsFlops(
  shape: ModelShape,
  { heads, layers, kind, draftVocab }: HeadsShape,
  meanContext: number,
): number {
  const { products, embedding } = countParameters(shape)
  const attention = 4 * shape.numLayers * shape.numHeads * shape.headDim * meanContext
  const blocks = 6 * layers * shape.hiddenSize * shape.hiddenSize
  const matrix = Math.min(draftVocab ?? shape.vocabSize, shape.vocabSize) * shape.hiddenSize
  return 2 * (products - embedding) + attention + heads * (blocks + (kind === 'own' ? 6 : 4) * matrix)
}

/** As a table: a line for each way to train. */
export function medusaReport({ parameters, trained, runTokens, rows }: MedusaEstimate): string {
  const table = new Table({
    ...PLAIN_TABLE,
    head: ['on', 'weights', 'gradients', 'optimizer', 'activations', 'memory', 'tokens/s'].concat(
      runTokens === undefined ? [] : ['time'],
    ),
    colAligns: ['left', ...new Array<'right'>(7).fill('right')],
  })
  for (const { device, layout, processes, memory, fits, tokensPerSecond: speed, hours } of rows) {
    const { weights, gradients, optimizer, activations } = memory
    table.push([
      device === 'cpu' ? 'this CPU' : showLayout(layout, processes),
      ...[weights, gradients, optimizer, activations].map(showBinaryBytes),
      `${showBinaryBytes(memory.total)}${fits ? '' : ' *'}`,
      speed === undefined ? '?' : showCount(speed),
      ...(runTokens === undefined ? [] : [showHours(hours)]),
    ])
  }
  const run = runTokens === undefined ? '' : `; ${showCount(runTokens)} tokens in the run`
  const about = `${showCount(parameters)} parameters, frozen; heads of ${showCount(trained)}${run}`
  return `${about}\nmemory of one process; *: more than the device has\n\n${showTable(table)}`
}
