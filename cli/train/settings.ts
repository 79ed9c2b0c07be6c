import { InvalidArgumentError, Option } from 'commander'
import { z } from 'zod'
import { MAX_MEDUSA_HEADS, MAX_MEDUSA_LAYERS } from '../../gpu-node/engine/engine-config.ts'
import { UserError } from '../explain.ts'

export const HEADS_KINDS = ['conditioned', 'shared', 'own'] as const

type Value = number | string | boolean | readonly number[]

interface Setting {
  readonly schema: z.ZodType<Value>
  /** Undefined for a switch. */
  readonly argument?: string
  readonly about: string
}

const count = z.int().min(1).max(1e12)
const whole = z.int().min(0).max(1e12)
const positive = z.number().positive().max(1e12)
const share = z.number().min(0).max(1)

function setting(schema: z.ZodType<Value>, argument: string, about: string): Setting {
  return { schema, argument, about }
}

function flag(about: string): Setting {
  return { schema: z.literal(true), about }
}

/**
 * How a run trains: the options of `apar train sft` that recipes may set too, by the names that the trainer has for them
 * (training/torch/apar_train/options.py, where the defaults are).
 */
export const SETTINGS = {
  steps: setting(count, '<count>', 'length of the run: optimizer steps'),
  epochs: setting(positive, '<number>', 'or how often it draws as many tokens as the data have'),
  minutes: setting(positive, '<minutes>', 'or its time; with --steps or --epochs a limit'),
  'batch-tokens': setting(count, '<count>', 'tokens of a step, shared prefixes once (default: 4096)'),
  'batch-examples': setting(count, '<count>', 'examples of a step, instead of --batch-tokens'),
  'pack-tokens': setting(
    count,
    '<count>',
    'tokens computed at once (default: 1024 on a CPU, 16384 on a GPU)',
  ),
  context: setting(count, '<tokens>', "longest path; longer examples are left out (default: the model's)"),
  'structured-share': setting(share, '<share>', 'of the examples that are no serial copies (default: 0.5)'),
  'serial-share': setting(
    share,
    '<share>',
    'serial copies, learned while [Fork] is banned (default: 0.1; for heads 0.2)',
  ),
  lora: setting(z.int().min(1).max(4096), '<rank>', 'LoRA on all linear layers; without it, every weight'),
  'lora-alpha': setting(positive, '<number>', 'default: twice the rank'),
  'lora-dropout': setting(share, '<share>', 'default: 0'),
  distillation: setting(
    share,
    '<share>',
    'with --lora: of the text, what is learned from what the base says of it instead of from the data (default: 0)',
  ),
  heads: setting(
    z.int().min(2).max(MAX_MEDUSA_HEADS),
    '<count>',
    'head i predicts the token i + 2 ahead (default: 2)',
  ),
  kind: setting(
    z.enum(HEADS_KINDS),
    '<kind>',
    "heads that end with a matrix of their own, or with the model's; conditioned ones also read the next token (default: conditioned)",
  ),
  'draft-vocab': setting(
    count,
    '<count>',
    'shared and conditioned heads draft the first so many tokens only, which are the frequent ones: less to compute (default: all)',
  ),
  layers: setting(
    z.int().min(1).max(MAX_MEDUSA_LAYERS),
    '<count>',
    'residual blocks of a head, at most 8 (default: 1)',
  ),
  'token-init': setting(z.enum(['auto', 'copy', 'keep']), '<how>', 'rows of the two tokens (default: auto)'),
  'token-noise': setting(z.number().min(0).max(1), '<deviation>', 'added to copied rows (default: 0.01)'),
  lr: setting(
    positive,
    '<rate>',
    'peak (default: 1e-3 for LoRA and heads, 2e-5 for every weight, 3e-3 from nothing)',
  ),
  'token-lr': setting(positive, '<rate>', 'of the two token rows, with --lora (default: 8 times --lr)'),
  'warmup-steps': setting(whole, '<count>', 'default: 20; for heads a tenth of the steps'),
  'lr-floor': setting(share, '<share>', 'where the cosine ends, as a share of the peak (default: 0.02)'),
  'weight-decay': setting(z.number().min(0).max(1), '<number>', 'default: 0'),
  'adam-betas': setting(z.tuple([share, share]), '<b1,b2>', 'default: 0.9,0.95; for heads 0.9,0.999'),
  clip: setting(positive, '<norm>', 'largest norm of the gradient (default: 1)'),
  'fork-weight': setting(positive, '<number>', 'weight of [Fork] in the loss (default: 1)'),
  'eos-weight': setting(positive, '<number>', 'weight of the end of a text in the loss (default: 1)'),
  seed: setting(whole, '<number>', 'default: 1'),
  device: setting(
    z.string().regex(/^(cpu|cuda)(:\d+)?$/),
    '<device>',
    'default: cuda if there is one, else cpu',
  ),
  dtype: setting(
    z.enum(['bfloat16', 'float32']),
    '<dtype>',
    'of the arithmetic (default: bfloat16, or float32 on CPUs that are slow at it)',
  ),
  attention: setting(z.enum(['auto', 'spans', 'flex']), '<how>', 'default: flex on a GPU, spans on a CPU'),
  parallel: setting(z.enum(['ddp', 'fsdp']), '<how>', 'with --nproc (default: ddp)'),
  'checkpoint-activations': flag('computes activations again: less memory, a third more time'),
  threads: setting(whole, '<count>', 'of a CPU (default: as torch chooses)'),
  'save-minutes': setting(positive, '<minutes>', 'between two states of the run (default: 5)'),
  'save-steps': setting(count, '<count>', 'saves the state also every so many steps'),
  'log-steps': setting(count, '<count>', 'default: 10'),
  'eval-steps': setting(count, '<count>', 'between two held-out losses (default: 100)'),
  'eval-examples': setting(whole, '<count>', 'held-out examples of each kind; 0: none (default: 64)'),
  'adapter-dtype': setting(z.enum(['bfloat16', 'float32']), '<dtype>', 'of the adapter (default: bfloat16)'),
  tensorboard: setting(z.string().min(1), '<folder>', 'event files; needs the package tensorboard'),
  'stop-step': setting(count, '<count>', 'stops after this step, in the middle of the schedule'),
} satisfies Record<string, Setting>

export type HeadsKind = (typeof HEADS_KINDS)[number]

export type SettingName = keyof typeof SETTINGS
export type Settings = Partial<Record<SettingName, Value>>

export const SETTING_NAMES = Object.keys(SETTINGS) as SettingName[]

/** Of `apar train` and of the trainer: what kind of run it is. */
export const TRAIN_COMMANDS = ['sft', 'medusa'] as const
export type TrainCommand = (typeof TRAIN_COMMANDS)[number]

/** Which settings each of them has. */
export const COMMAND_SETTINGS: Readonly<Record<TrainCommand, readonly SettingName[]>> = {
  sft: without('heads', 'kind', 'layers', 'draft-vocab'),
  medusa: without(
    ...([
      'lora',
      'lora-alpha',
      'lora-dropout',
      'distillation',
      'token-init',
      'token-noise',
      'token-lr',
    ] as const),
    ...(['parallel', 'checkpoint-activations', 'adapter-dtype'] as const),
  ),
}

function without(...names: readonly SettingName[]): SettingName[] {
  return SETTING_NAMES.filter((name) => !names.includes(name))
}

/** Of a recipe: each setting by its name. */
export const SettingsFile = z
  .strictObject(Object.fromEntries(SETTING_NAMES.map((name) => [name, SETTINGS[name].schema.optional()])))
  .refine(
    ({ steps, epochs }) => steps === undefined || epochs === undefined,
    'takes steps or epochs, not both',
  )
  .refine(
    (settings) => settings['batch-tokens'] === undefined || settings['batch-examples'] === undefined,
    'takes batch-tokens or batch-examples, not both',
  )

export function settingOptions(names: readonly SettingName[]): Option[] {
  return names.map((name) => {
    const { argument, about, schema }: Setting = SETTINGS[name]
    if (argument === undefined) return new Option(`--${name}`, about)
    return new Option(`--${name} ${argument}`, about).argParser((text) => parseSetting(schema, text))
  })
}

function parseSetting(schema: z.ZodType<Value>, text: string): Value {
  for (const value of [text, Number(text || 'none'), text.split(',').map(Number)]) {
    const found = schema.safeParse(value)
    if (found.success) return found.data
  }
  const found = schema.safeParse(Number.isNaN(Number(text)) ? text : Number(text))
  throw new InvalidArgumentError(found.error?.issues[0]?.message ?? 'is not valid')
}

/** Those of `names` that commander has read, by the names of {@link SETTINGS}. */
export function givenSettings(
  flags: Readonly<Record<string, unknown>>,
  names: readonly SettingName[],
): Settings {
  const found = names.map((name) => [name, flags[camelCase(name)] as Value | undefined] as const)
  return Object.fromEntries(found.filter(([, value]) => value !== undefined))
}

function camelCase(name: string): string {
  return name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
}

/**
 * What the user gives comes before the recipe; one of two that exclude each other takes the place of the
 * other. @throws UserError `invalid_option` when both are given
 */
export function mergedSettings(recipe: Settings, given: Settings): Settings {
  const merged = { ...recipe, ...given }
  for (const [one, other] of EXCLUSIVE) {
    if (given[one] !== undefined && given[other] !== undefined)
      throw new UserError('invalid_option', `--${one} and --${other}: give one of them`)
    if (given[one] !== undefined && given[other] === undefined) delete merged[other]
    if (given[other] !== undefined && given[one] === undefined) delete merged[one]
  }
  return merged
}

const EXCLUSIVE: readonly (readonly [SettingName, SettingName])[] = [
  ['steps', 'epochs'],
  ['batch-tokens', 'batch-examples'],
]

/** As arguments of the trainer. */
export function settingArguments(settings: Settings): string[] {
  return SETTING_NAMES.flatMap((name) => {
    const value = settings[name]
    if (value === undefined) return []
    return [`--${name}`, ...(value === true ? [] : [value].flat().map(String))]
  })
}
