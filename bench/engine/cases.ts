import type { CUDA_DTYPES, DType } from '../../gpu-node/engine/engine-config.ts'
import type { ModelName } from './random-llama.ts'

/** Data types of the CPU backend. */
export type CpuDType = Exclude<DType, (typeof CUDA_DTYPES)[number]>

/** `node`: a single stream through JavaScript; `neighbour`: a single stream beside a busy process. */
export type Kind = 'single' | 'prefill' | 'branches' | 'node' | 'neighbour'

export interface EngineCase {
  name: string
  model: ModelName
  dtype: CpuDType
  kind: Kind
  /** Branches that decode together. */
  rows: number
  /** Prompt tokens, shared by all branches. */
  prompt: number
  /** Tokens that each branch decodes; 0 for prefill cases. */
  each: number
  /** Goal of the issue for our speed over the peer's; for `neighbour`, for the share of its idle-machine speed. */
  goal: number
  /** Goal of the issue for the measured speed over what the memory bandwidth allows. */
  goalOfFloor?: number
  quick: boolean
}

/** Common names: llama.cpp's Q8_0 and Q4_0 have the same group size and width as our int8 and int4. */
const LABEL: Record<CpuDType, string> = { f32: 'f32', bf16: 'bf16', int8: 'Q8', int4: 'Q4' }
const DTYPES = ['bf16', 'int8', 'int4'] as const

export const CASES: readonly EngineCase[] = [
  single('15M', 'int8', { goal: 3, each: 128, quick: true }),
  ...DTYPES.map((dtype) => single('110M', dtype, { goalOfFloor: 0.9, each: 48, quick: true })),
  ...DTYPES.map((dtype) => single('1.1B', dtype, { goalOfFloor: 0.9, each: 24 })),
  prefill('1.1B', 'bf16', 1.3),
  prefill('1.1B', 'int8', 2.3),
  prefill('1.1B', 'int4', 2),
  branches('110M', 'bf16', { rows: 8, prompt: 500, goal: 2, quick: true }),
  branches('110M', 'int8', { rows: 8, prompt: 500, goal: 2 }),
  branches('110M', 'int4', { rows: 8, prompt: 500, goal: 2 }),
  branches('110M', 'bf16', { rows: 32, prompt: 500, goal: 3, quick: true }),
  branches('110M', 'int8', { rows: 32, prompt: 500, goal: 3, quick: true }),
  branches('110M', 'bf16', { rows: 32, prompt: 2000, goal: 4 }),
  {
    ...single('15M', 'int8', { goal: 10, each: 64, quick: true }),
    name: '15M Q8, single stream through Node',
    kind: 'node',
  },
  {
    ...single('110M', 'bf16', { goal: 0.5, each: 96, quick: true }),
    name: '110M bf16, single stream beside a busy process',
    kind: 'neighbour',
  },
]

type Rest = Partial<Pick<EngineCase, 'goal' | 'goalOfFloor' | 'quick'>>

function single(model: ModelName, dtype: CpuDType, { each, ...rest }: Rest & { each: number }): EngineCase {
  const name = `${model} ${LABEL[dtype]}, single stream`
  return { name, model, dtype, kind: 'single', rows: 1, prompt: 8, each, goal: 1, quick: false, ...rest }
}

function prefill(model: ModelName, dtype: CpuDType, goal: number): EngineCase {
  const name = `${model} ${LABEL[dtype]}, prefill 512`
  return { name, model, dtype, kind: 'prefill', rows: 1, prompt: 512, each: 0, goal, quick: false }
}

function branches(
  model: ModelName,
  dtype: CpuDType,
  { rows, prompt, ...rest }: Rest & { rows: number; prompt: number; goal: number },
): EngineCase {
  const name = `${model} ${LABEL[dtype]}, ${rows} branches over ${prompt} shared`
  return { name, model, dtype, kind: 'branches', rows, prompt, each: 16, quick: false, ...rest }
}
