import { readdirSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { z } from 'zod'
import { StartupError } from '../../startup-error.ts'
import { readOptionalJson, readText } from '../read-json.ts'
import { NAMED_TEMPLATES } from './named-templates.ts'
import { CHAT_TEMPLATE, TOKENIZER_CONFIG, type TokenizerConfig } from './tokenizer-config.ts'

export interface ChatTemplate {
  /** Jinja source. */
  readonly source: string
  /** Path of the file, for errors. */
  readonly file: string
  /** Leaves the BOS token at the start of its text to the tokenizer, like a raw prompt. */
  readonly afterRawPrefix?: true
}

const OWN_FILE = 'chat_template.jinja'
const ADDITIONAL = 'additional_chat_templates'
const JINJA = '.jinja'
/** Of processors. */
const JSON_FILE = 'chat_template.json'
const JsonFile = z.looseObject(CHAT_TEMPLATE)

/** The chat template of a checkpoint's folder: that named `default`, or else the first. Undefined when it has none. */
export function readChatTemplate(folder: string, config: TokenizerConfig): ChatTemplate | undefined {
  return (
    jinjaFile(folder, OWN_FILE) ??
    additionalTemplate(folder) ??
    jsonTemplate(join(folder, TOKENIZER_CONFIG), config) ??
    jsonTemplate(join(folder, JSON_FILE), readOptionalJson(JsonFile, folder, JSON_FILE))
  )
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

function jsonTemplate(
  file: string,
  config: Pick<TokenizerConfig, 'chat_template'> | undefined,
): ChatTemplate | undefined {
  const template = config?.chat_template
  const source =
    typeof template === 'string'
      ? template
      : (template?.find(({ name }) => name === 'default') ?? template?.[0])?.template
  return source === undefined ? undefined : { source, file }
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
