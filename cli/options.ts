import { InvalidArgumentError, Option } from 'commander'
import { NAMED_TEMPLATES } from '../gpu-node/checkpoint/tokenizer/named-templates.ts'
import { DEVICES, DTYPES, KV_CACHE_DTYPES } from '../gpu-node/engine/engine-config.ts'
import { REASONING_CHOICES } from '../gpu-node/reasoning/reasoning-format.ts'
import { TOOL_FORMATS } from '../gpu-node/tools/tool-format.ts'
import { SPECULATION } from '../shared/protocol/speculation.ts'
import { DEFAULT_MODEL } from './models/default-model.ts'
import { MODEL_ARGUMENT } from './models/resolve.ts'

/** A parser for a whole number within bounds. */
export function integer(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^-?\d+$/.test(text) || value < minimum || value > maximum) {
      throw new InvalidArgumentError(`a whole number from ${minimum} to ${maximum} is needed`)
    }
    return value
  }
}

/** A parser for a folder. An empty name, as of a variable that is not set, would be the current folder. */
export function folder(text: string): string {
  if (text === '') throw new InvalidArgumentError('a folder is needed')
  return text
}

/** A parser for a decimal number within bounds. */
export function decimal(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d+(\.\d+)?$/.test(text) || value < minimum || value > maximum) {
      throw new InvalidArgumentError(`a number from ${minimum} to ${maximum} is needed`)
    }
    return value
  }
}

const UNITS: Readonly<Record<string, number>> = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }

/** A parser for a number of bytes: `1073741824`, `1024MiB` or `1GiB`. */
export function byteSize(text: string): number {
  const [, amount = '', unit] = /^(\d+(?:\.\d+)?)([KMGT]iB)?$/.exec(text) ?? []
  const bytes = Math.floor(Number(amount) * (unit === undefined ? 1 : (UNITS[unit] ?? Number.NaN)))
  if (amount === '' || bytes < 1 || !Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError('a number of bytes is needed, for example 4GiB or 512MiB')
  }
  return bytes
}

/** A parser for an address with one of these schemes (`http:`). */
export function url(...schemes: string[]): (text: string) => string {
  return (text) => {
    if (!URL.canParse(text) || !schemes.includes(new URL(text).protocol)) {
      throw new InvalidArgumentError(`a URL with ${schemes.join(' or ')} is needed`)
    }
    return text
  }
}

/** A parser for a list of origins as browsers send them: `https://a.example,https://b.example:8443`, or `*`. */
export function origins(text: string): string {
  const list = text.split(',').map((entry) => entry.trim())
  for (const entry of list) {
    if (entry === '*' || (URL.canParse(entry) && new URL(entry).origin === entry)) continue
    throw new InvalidArgumentError(
      `${JSON.stringify(entry)} is no origin, as https://chat.example or http://localhost:3000`,
    )
  }
  return list.join(',')
}

/** A parser for a list of device numbers: `0,1`. */
export function devices(text: string): number[] {
  const numbers = text.split(',').map(integer(0, 63))
  if (new Set(numbers).size < numbers.length) throw new InvalidArgumentError('a device is named twice')
  return numbers
}

export function modelOption(): Option {
  return new Option('--model <model>', `what to serve: ${MODEL_ARGUMENT} (default: ${DEFAULT_MODEL})`)
}

const MAX_NAME = 256

export const port = integer(0, 65_535)

export function chatTemplateOption(): Option {
  const names = [...NAMED_TEMPLATES.keys()].join(', ')
  return new Option('--chat-template <name>', `${names}, or a Jinja file (default: the model's own)`)
}

export function toolFormatOption(): Option {
  return new Option(
    '--tool-format <name>',
    'how the model writes calls of tools (default: as its chat template does)',
  ).choices(Object.keys(TOOL_FORMATS))
}

export function reasoningFormatOption(): Option {
  return new Option(
    '--reasoning-format <name>',
    'how the model marks its reasoning (default: as its chat template does)',
  ).choices(REASONING_CHOICES)
}

export function nameOption(): Option {
  return new Option(
    '--name <name>',
    "what clients call the model (default: OWNER/NAME, the known name, or the folder's name)",
  ).argParser((text) => {
    // As in heartbeats (shared/protocol/fleet.ts).
    if (text.length < 1 || text.length > MAX_NAME)
      throw new InvalidArgumentError(`give 1 to ${MAX_NAME} characters.`)
    return text
  })
}

export function adapterOption(): Option {
  return new Option(
    '--adapter <folder>',
    'LoRA adapter, as peft saves it, that is merged into the model at load',
  )
}

export function medusaOption(): Option {
  return new Option(
    '--medusa <folder>',
    'Medusa heads, or "none" (default: the folder medusa/ of the adapter or the model, if there is one)',
  )
}

export function deviceOption(): Option {
  return new Option('--device <device>', 'where the model runs (default: auto)').choices(DEVICES)
}

export function dtypeOption(): Option {
  const what =
    'data type of weights and arithmetic; int8, int4, int4-g128 and fp8 are quantised at load, f16, fp8 and int4-g128 need a CUDA device (default: bf16; f32, int8 and int4 for checkpoints in F32, Q8_0 and Q4_0; on a CUDA device int4-g128 for AWQ and GPTQ in groups of 128)'
  return new Option('--dtype <dtype>', what).choices(DTYPES)
}

export function kvCacheDtypeOption(): Option {
  const what =
    'data type of the KV cache; fp8 halves its size, on CUDA devices only (default: auto, which is f32 for f32 weights, otherwise bf16)'
  return new Option('--kv-cache-dtype <dtype>', what).choices(KV_CACHE_DTYPES)
}

export function speculationOption(): Option {
  const what =
    'what may draft tokens, which the model then checks several at a time: its Medusa heads, n-grams of the text, or nothing (default: auto, the heads if there are some, else n-grams while they pay)'
  return new Option('--speculation <source>', what).choices(SPECULATION)
}
