import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { type Command, CommanderError, InvalidArgumentError, type Option } from 'commander'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parse } from '../../shared/parse.ts'
import { UserError } from '../explain.ts'
import { EXAMPLES } from '../help.ts'
import { commandName } from './command-name.ts'
import { NO_FILE } from './environment.ts'

const Value = z.union([z.string(), z.number(), z.boolean(), z.array(z.union([z.string(), z.number()]))])
type Value = z.infer<typeof Value>

/** `{"serve": {"port": 8788}, "train sft": {"lora": 16}}`: options by the names of their commands. */
const ConfigFile = z.record(z.string(), z.record(z.string(), Value))
type ConfigFile = z.infer<typeof ConfigFile>

/** Where the settings of this user are, unless a file is named. */
export function ownConfigFile(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'apar/config.json')
}

/**
 * Sets the options of `command` that neither the command line nor a variable has set.
 * @param named a file that has to exist, or `none`; without it, the user's own file counts if there is one.
 * @throws UserError `invalid_config`
 */
export function applyConfigFile(command: Command, named: string | undefined): void {
  if (named === NO_FILE) return
  const path = named ?? ownConfigFile()
  if (named === undefined && !existsSync(path)) return
  const config = read(path)
  for (const [name, value] of Object.entries(config[commandName(command)] ?? {})) {
    const option = optionOf(command, name)
    if (!option) throw invalid(path, `apar ${commandName(command)} has no option --${name}`)
    const source = command.getOptionValueSource(option.attributeName())
    if (source === 'cli' || source === 'env') continue
    const parsed = parsedAs(option, value, (reason) =>
      invalid(path, `${commandName(command)}: --${name}: ${reason}`),
    )
    command.setOptionValueWithSource(option.attributeName(), parsed, 'config')
  }
}

function read(path: string): ConfigFile {
  let config: ConfigFile
  try {
    config = parse(ConfigFile, JSON.parse(readFileSync(path, 'utf8')))
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof AparError) throw invalid(path, error.message)
    throw error
  }
  const unknown = Object.keys(config).find((name) => !Object.hasOwn(EXAMPLES, name))
  if (unknown !== undefined) throw invalid(path, `there is no command ${JSON.stringify(unknown)}`)
  return config
}

function optionOf(command: Command, name: string): Option | undefined {
  return command.options.find(({ long }) => long === `--${name}`)
}

/** The value as the command line would have given it. */
function parsedAs(option: Option, value: Value, fault: (reason: string) => UserError): unknown {
  if (option.isBoolean() || option.negate) {
    if (typeof value !== 'boolean') throw fault('true or false is needed')
    return option.negate ? !value : value
  }
  if (typeof value === 'boolean') throw fault('a value is needed')
  if (Array.isArray(value) && !option.variadic) throw fault('one value is needed')
  const texts = (Array.isArray(value) ? value : [value]).map(String)
  try {
    if (!option.parseArg) return option.variadic ? texts : texts[0]
    return texts.reduce<unknown>((before, text) => option.parseArg?.(text, before), undefined)
  } catch (error) {
    if (error instanceof InvalidArgumentError || error instanceof CommanderError) throw fault(error.message)
    throw error
  }
}

function invalid(path: string, reason: string): UserError {
  return new UserError('invalid_config', `${path}: ${reason}`)
}
