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
  /** Source of the template for requests with tools, where it is another one. */
  readonly toolUse?: string
  /** Leaves the BOS token at the start of its text to the tokenizer, like a raw prompt. */
  readonly afterRawPrefix?: true
}

const OWN_FILE = 'chat_template.jinja'
const ADDITIONAL = 'additional_chat_templates'
const JINJA = '.jinja'
/** Of processors. */
const JSON_FILE = 'chat_template.json'
const JsonFile = z.looseObject(CHAT_TEMPLATE)

/** Names of templates, where there are several. */
const DEFAULT = 'default'
const TOOL_USE = 'tool_use'

/**
 * The chat template of a checkpoint's folder: that named `default`, or else the first; and that named `tool_use`, as
 * transformers takes it. Undefined when it has none.
 */
export function readChatTemplate(folder: string, config: TokenizerConfig): ChatTemplate | undefined {
  return (
    ownTemplate(folder) ??
    additionalTemplate(folder) ??
    jsonTemplate(join(folder, TOKENIZER_CONFIG), config) ??
    jsonTemplate(join(folder, JSON_FILE), readOptionalJson(JsonFile, folder, JSON_FILE))
  )
}

/** Others beside it have names. */
function ownTemplate(folder: string): ChatTemplate | undefined {
  const template = jinjaFile(folder, OWN_FILE)
  return template && withToolUse(template, toolUseFile(folder))
}

function jinjaFile(folder: string, name: string): ChatTemplate | undefined {
  const source = readText(folder, name)
  return source === undefined ? undefined : { source, file: join(folder, name) }
}

function additionalTemplate(folder: string): ChatTemplate | undefined {
  const names = filesIn(join(folder, ADDITIONAL))
    .filter((name) => name.endsWith(JINJA))
    .sort()
  const name = names.find((other) => other === `${DEFAULT}${JINJA}`) ?? names[0]
  const template = name === undefined ? undefined : jinjaFile(folder, join(ADDITIONAL, name))
  return template && withToolUse(template, toolUseFile(folder))
}

function toolUseFile(folder: string): string | undefined {
  return readText(folder, join(ADDITIONAL, `${TOOL_USE}${JINJA}`))
}

/** A `toolUse` that is the same is none. */
export function withToolUse(template: ChatTemplate, toolUse: string | undefined): ChatTemplate {
  return toolUse === undefined || toolUse === template.source ? template : { ...template, toolUse }
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
  if (typeof template === 'string') return { source: template, file }
  const named = (wanted: string) => template?.find(({ name }) => name === wanted)?.template
  const source = named(DEFAULT) ?? template?.[0]?.template
  return source === undefined ? undefined : withToolUse({ source, file }, named(TOOL_USE))
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
