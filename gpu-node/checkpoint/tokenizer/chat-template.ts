import { readdirSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { StartupError } from '../../startup-error.ts'
import { readOptionalJson, readText } from '../read-json.ts'
import { NAMED_TEMPLATES } from './named-templates.ts'

export interface ChatTemplate {
  /** Jinja source. */
  readonly source: string
  /** Path of the file, for errors. */
  readonly file: string
  /** Leaves the BOS token at the start of its text to the tokenizer, like a raw prompt. */
  readonly afterRawPrefix?: true
}

const Config = z.looseObject({
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
})

const OWN_FILE = 'chat_template.jinja'
const ADDITIONAL = 'additional_chat_templates'
const JINJA = '.jinja'
/** Of tokenizers and of processors. */
const JSON_FILES = ['tokenizer_config.json', 'chat_template.json']

/** The chat template of a checkpoint's folder: that named `default`, or else the first. Undefined when it has none. */
export function readChatTemplate(folder: string): ChatTemplate | undefined {
  return jinjaFile(folder, OWN_FILE) ?? additionalTemplate(folder) ?? jsonTemplate(folder)
}

function jinjaFile(folder: string, name: string): ChatTemplate | undefined {
  const source = readText(folder, name)
  return source === undefined ? undefined : { source, file: join(folder, name) }
}

function additionalTemplate(folder: string): ChatTemplate | undefined {
  const names = filesIn(join(folder, ADDITIONAL))
    .filter((name) => name.endsWith(JINJA))
    .sort()
  const name = names.find((other) => other === `default${JINJA}`) ?? names[0]
  return name === undefined ? undefined : jinjaFile(folder, join(ADDITIONAL, name))
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function jsonTemplate(folder: string): ChatTemplate | undefined {
  for (const name of JSON_FILES) {
    const template = readOptionalJson(Config, folder, name)?.chat_template
    const source =
      typeof template === 'string'
        ? template
        : (template?.find(({ name }) => name === 'default') ?? template?.[0])?.template
    if (source !== undefined) return { source, file: join(folder, name) }
  }
  return undefined
}

/**
 * The template that an operator chose: the name of a known format, or the path of a Jinja file.
 * @throws StartupError `invalid_option`.
 */
export function chosenTemplate(choice: string): ChatTemplate {
  const named = NAMED_TEMPLATES.get(choice)
  if (named) return { ...named, file: `--chat-template ${choice}` }
  const file = resolve(choice)
  const template = jinjaFile(dirname(file), basename(file))
  if (template) return template
  const names = [...NAMED_TEMPLATES.keys()].join(', ')
  throw new StartupError(
    'invalid_option',
    `--chat-template: ${file} does not exist, and ${names} are the known names`,
  )
}
