import { join } from 'node:path'
import { z } from 'zod'
import { readJson } from '../read-json.ts'
import { broken, type Refuse, refuseFieldsOf, unsupported } from '../refusals.ts'
import { type ModulePattern, modulePattern } from './module-pattern.ts'

// Format: LoraConfig of peft (https://huggingface.co/docs/peft/package_reference/lora), adapter_config.json.

export const ADAPTER_CONFIG = 'adapter_config.json'
const ALL_LINEAR = 'all-linear'
const tokenIds = z.array(z.int().min(0))
const names = z.union([z.string(), z.array(z.string())]).nullish()
const patterns = z.record(z.string(), z.number()).nullish()

const ConfigFile = z.looseObject({
  peft_type: z.string(),
  r: z.int().min(1),
  lora_alpha: z.number(),
  use_rslora: z.boolean().nullish(),
  rank_pattern: patterns,
  alpha_pattern: patterns,
  target_modules: names,
  exclude_modules: names,
  layers_to_transform: z.union([z.int(), z.array(z.int())]).nullish(),
  modules_to_save: z.array(z.string()).nullish(),
  trainable_token_indices: z.union([tokenIds, z.record(z.string(), tokenIds)]).nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
})
type ConfigFile = z.infer<typeof ConfigFile>

/** Fields that say nothing about the merged weights: of training, of other libraries, or checks on names. */
const HARMLESS = new Set([
  ...Object.keys(ConfigFile.shape),
  ...['auto_mapping', 'base_model_name_or_path', 'revision', 'task_type', 'inference_mode', 'peft_version'],
  ...['lora_dropout', 'layers_pattern', 'ensure_weight_tying', 'megatron_config', 'megatron_core'],
  ...['loftq_config', 'corda_config', 'eva_config', 'lora_ga_config', 'velora_config', 'runtime_config'],
  'qalora_group_size',
])
/** Values that mean that a field is not used. */
const NEUTRAL = new Set(['null', 'false', '[]', '{}', '""', '0', '"none"'])
/** Others (pissa, olora, corda, loftq, lora_ga) also change the weights of the base when an adapter is made. */
const INITIALISATIONS = new Set<unknown>([undefined, null, true, false])
const NAMED_INITIALISATIONS = new Set(['gaussian', 'eva', 'orthogonal', 'mica'])

export interface AdapterConfig {
  /** Path of the file, for messages. */
  readonly file: string
  /** The rank that the file gives a module, and the factor of its B · A. */
  readonly rankOf: (module: string) => number
  readonly scaleOf: (module: string) => number
  /** Whether peft would adapt a module of this name; undefined where the file's expression is not evaluated. */
  readonly targets: (module: string) => boolean | undefined
  readonly modulesToSave: readonly string[]
  /** Tokens whose rows were trained, by the name of the embedding module or its end. */
  readonly trainedTokens: ReadonlyMap<string, readonly number[]>
}

/** @throws StartupError that names the field, if it is invalid or changes the weights in a way that is not computed. */
export function readAdapterConfig(folder: string): AdapterConfig {
  const config = readJson(ConfigFile, folder, ADAPTER_CONFIG)
  const file = join(folder, ADAPTER_CONFIG)
  refuseOthers(file, config)
  const ranks = patternValues(file, 'rank_pattern', config.rank_pattern)
  const alphas = patternValues(file, 'alpha_pattern', config.alpha_pattern)
  const rankOf = (module: string) => ranks(module) ?? config.r
  return {
    file,
    rankOf,
    scaleOf: (module) => {
      const rank = rankOf(module)
      return (alphas(module) ?? config.lora_alpha) / (config.use_rslora ? Math.sqrt(rank) : rank)
    },
    targets: targetsOf(config),
    modulesToSave: config.modules_to_save ?? [],
    trainedTokens: tokensOf(config),
  }
}

function refuseOthers(file: string, config: ConfigFile): void {
  const refuse: Refuse = refuseFieldsOf(file)
  if (config.peft_type !== 'LORA') refuse('peft_type', `only LORA is merged, not ${config.peft_type}`)
  const start = config.init_lora_weights
  if (!INITIALISATIONS.has(start) && !NAMED_INITIALISATIONS.has(String(start)))
    refuse('init_lora_weights', `${start} changes the base's weights too: convert the adapter to plain LoRA`)
  for (const [field, value] of Object.entries(config)) {
    if (HARMLESS.has(field) || NEUTRAL.has(JSON.stringify(value))) continue
    refuse(field, `${JSON.stringify(value).slice(0, 80)} is not computed`)
  }
}

function patternValues(
  file: string,
  field: string,
  values: Record<string, number> | null | undefined,
): (module: string) => number | undefined {
  const entries = Object.entries(values ?? {}).map(([key, value]): [ModulePattern, number] => {
    const pattern = modulePattern(`(.*\\.)?(${key})`)
    if (!pattern) {
      const what = `the expression ${JSON.stringify(key.slice(0, 80))} is not evaluated`
      throw unsupported(`${file}: ${field}: ${what}`)
    }
    const rank = field === 'rank_pattern'
    if (rank && !(Number.isInteger(value) && value >= 1))
      throw broken(`${file}: ${field}: ${value} is no rank`)
    return [pattern, value]
  })
  return (module) => entries.find(([matches]) => matches(module))?.[1]
}

function targetsOf(config: ConfigFile): AdapterConfig['targets'] {
  const targeted = namesModule(config.target_modules)
  const excluded = namesModule(config.exclude_modules ?? [])
  const layers = config.layers_to_transform == null ? [] : [config.layers_to_transform].flat()
  const saved = config.modules_to_save ?? []
  return (module) => {
    const verdicts = [targeted(module), excluded(module)]
    if (verdicts.includes(undefined)) return undefined
    if (verdicts[1] || saved.some((name) => `.${module}.`.includes(`.${name}.`))) return false
    const layer = /\.layers\.(\d+)\./.exec(module)?.[1]
    if (layers.length > 0 && !(layer !== undefined && layers.includes(Number(layer)))) return false
    return verdicts[0]
  }
}

/** A list names modules by their ends, a string is an expression for whole names. */
function namesModule(names: string | readonly string[] | null | undefined) {
  if (names === ALL_LINEAR) return () => undefined
  if (typeof names === 'string') return modulePattern(names) ?? (() => undefined)
  return (module: string): boolean | undefined =>
    names?.some((name) => module === name || module.endsWith(`.${name}`))
}

function tokensOf({ trainable_token_indices: indices }: ConfigFile): ReadonlyMap<string, readonly number[]> {
  if (!indices) return new Map()
  return new Map(Array.isArray(indices) ? [['embed_tokens', indices]] : Object.entries(indices))
}
