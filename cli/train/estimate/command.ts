import { existsSync, readFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import type { ModelShape } from '../../../gpu-node/engine/engine-config.ts'
import { parseJson } from '../../../shared/parse.ts'
import { UserError } from '../../explain.ts'
import { type JsonFlag, print } from '../../json.ts'
import { parseHubName } from '../../models/hub/hub-name.ts'
import { resolveModel } from '../../models/resolve.ts'
import { locatePython } from '../environment/environment.ts'
import { checkDraftVocab } from '../medusa.ts'
import type { PlanFlags } from '../plan.ts'
import { type Recipe, readRecipe } from '../recipe.ts'
import type { HeadsKind } from '../settings.ts'
import {
  COMMAND_SETTINGS,
  givenSettings,
  mergedSettings,
  type Settings,
  type TrainCommand,
} from '../settings.ts'
import { estimate, type RunShape } from './estimate.ts'
import { estimateMedusa, medusaReport } from './medusa.ts'
import { shapeOf } from './parameters.ts'
import { measureProductRate, type ProductRate } from './product-rate.ts'
import { estimateReport } from './report.ts'

export interface EstimateFlags extends PlanFlags, JsonFlag {
  readonly gpus?: number
  readonly gpuMemory?: number
  readonly gpuTflops?: number
  readonly python?: string
}

const DEFAULT_GPUS = 8
const DEFAULT_GPU_GB = 80
const DEFAULT_TFLOPS = 400
const DEFAULT_LORA = 16
/** As the trainer's. */
const DEFAULT_HEADS = { heads: 2, layers: 1, kind: 'conditioned' } as const
const DEFAULT_BATCH_TOKENS = 4096
/** As the trainer's (training/torch/apar_train/options.py). */
const DEFAULT_PACK_TOKENS = { cpu: 1024, cuda: 16384 }

/** `apar train sft --estimate`. */
export async function showEstimate(flags: EstimateFlags): Promise<void> {
  const { settings, options } = await optionsOf(flags, 'sft')
  const found = estimate({
    ...options,
    lora: numberOf(settings, 'lora') ?? DEFAULT_LORA,
    distills: (numberOf(settings, 'distillation') ?? 0) > 0,
  })
  show(flags, options, found, () => estimateReport(found))
}

/** `apar train medusa --estimate`. */
export async function showMedusaEstimate(flags: EstimateFlags): Promise<void> {
  const { settings, options } = await optionsOf(flags, 'medusa')
  const heads = numberOf(settings, 'heads') ?? DEFAULT_HEADS.heads
  const layers = numberOf(settings, 'layers') ?? DEFAULT_HEADS.layers
  checkDraftVocab(settings)
  const kind = (settings.kind ?? DEFAULT_HEADS.kind) as HeadsKind
  const found = estimateMedusa({
    ...options,
    heads: { heads, layers, kind, draftVocab: numberOf(settings, 'draft-vocab') },
  })
  show(flags, options, found, () => medusaReport(found))
}

async function optionsOf(flags: EstimateFlags, command: TrainCommand) {
  const recipe = flags.recipe === undefined ? undefined : readRecipe(flags.recipe, command)
  const settings = mergedSettings(recipe?.settings ?? {}, givenSettings(flags, COMMAND_SETTINGS[command]))
  const data = flags.data === undefined ? undefined : readMeta(flags.data)
  const shape = shapeOf(configOf(flags, recipe))
  const packTokens = numberOf(settings, 'pack-tokens')
  const contextTokens = numberOf(settings, 'context') ?? shape.contextTokens
  const dtype = settings.dtype === undefined ? undefined : Dtype.parse(settings.dtype)
  const cpu = await cpuRate(flags, shape, dtype)
  const options: RunShape = {
    shape,
    packTokens: { cpu: packTokens ?? DEFAULT_PACK_TOKENS.cpu, cuda: packTokens ?? DEFAULT_PACK_TOKENS.cuda },
    contextTokens: Math.min(contextTokens, data?.longest_path ?? Number.POSITIVE_INFINITY),
    runTokens: runTokens(settings, data),
    gpus: flags.gpus ?? (recipe?.gpus || DEFAULT_GPUS),
    gpuMemory: (flags.gpuMemory ?? DEFAULT_GPU_GB) * 1e9,
    gpuRate: (flags.gpuTflops ?? DEFAULT_TFLOPS) * 1e12,
    cpu,
    valueBytes: { cpu: dtypeBytes(dtype ?? cpu?.dtype), cuda: dtypeBytes(dtype) },
    cpuMemory: totalmem(),
  }
  return { settings, options }
}

function show(flags: EstimateFlags, { cpu }: RunShape, found: object, report: () => string): void {
  print(flags, found, report)
  if (cpu === undefined && !flags.json) {
    console.log(
      '\nthe speed of this CPU is measured once there is an environment: apar train python makes it',
    )
  }
}

/** Where the shape is: the model's own files, or the data's config for a model from nothing. */
function configOf(flags: EstimateFlags, recipe: Recipe | undefined): string {
  const model = flags.model ?? recipe?.model
  if (model !== undefined && model !== 'none') return pathOf(model)
  if (flags.data !== undefined) return join(resolve(flags.data), 'model/config.json')
  throw new UserError('missing_option', '--model or --data is needed: an estimate is made from config.json')
}

/** Of a model of the hub config.json is enough. @throws UserError `model_not_pulled` that says so */
function pathOf(model: string): string {
  try {
    return resolveModel(model).path
  } catch (error) {
    if (error instanceof UserError && error.code === 'model_not_pulled' && parseHubName(model))
      throw new UserError(error.code, `${error.message} --include config.json`)
    throw error
  }
}

async function cpuRate(
  flags: EstimateFlags,
  shape: ModelShape,
  dtype: TrainingDtype | undefined,
): Promise<ProductRate | undefined> {
  const { python, isHere } = await locatePython(flags)
  return isHere ? await measureProductRate(python, shape, { device: 'cpu', dtype }) : undefined
}

const Dtype = z.enum(['bfloat16', 'float32'])
type TrainingDtype = z.infer<typeof Dtype>

/** Of a value of the arithmetic. */
function dtypeBytes(dtype: TrainingDtype = 'bfloat16'): 2 | 4 {
  return dtype === 'float32' ? 4 : 2
}

const Meta = z.object({
  examples: z.int().min(0),
  longest_path: z.int().min(0),
  shards: z.array(z.object({ tokens: z.int().min(0) })),
})
type Meta = z.infer<typeof Meta>

function readMeta(data: string): Meta {
  const file = join(data, 'train/meta.json')
  if (existsSync(file)) return parseJson(Meta, readFileSync(file, 'utf8'))
  throw new UserError('invalid_option', `--data: ${file} does not exist: apar data build makes it`)
}

/** What the run trains in all, as far as the settings and the data say so. */
function runTokens(settings: Settings, data: Meta | undefined): number | undefined {
  const tokens = data?.shards.reduce((sum, shard) => sum + shard.tokens, 0)
  const epochs = numberOf(settings, 'epochs')
  if (epochs !== undefined) return tokens === undefined ? undefined : epochs * tokens
  const steps = numberOf(settings, 'steps')
  if (steps === undefined) return undefined
  const examples = numberOf(settings, 'batch-examples')
  if (examples === undefined) return steps * (numberOf(settings, 'batch-tokens') ?? DEFAULT_BATCH_TOKENS)
  if (data === undefined || tokens === undefined || data.examples === 0) return undefined
  return steps * examples * (tokens / data.examples)
}

function numberOf(settings: Settings, name: keyof Settings): number | undefined {
  const value = settings[name]
  return typeof value === 'number' ? value : undefined
}
